"""A folder in Hugging Face's form as a checkpoint: config.json, tokenizer.json and safetensors files, one or sharded.
Packs nothing, never imports transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError, ModelNotFound
from stemma.runtime.model.checkpoint import Checkpoint, TokenizerFiles
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.folder_config import check_biases, network_tensors, read_config
from stemma.runtime.model.files.embedding import read_embedding
from stemma.runtime.model.files.folder_weights import folder_tensors, read_json
from stemma.runtime.model.files.generation import read_generation
from stemma.runtime.model.files.text_part import text_config, text_tensors

Json = dict[str, Any]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Special tokens that templates may write by their names."""


def read_hugging_face(folder: Path, context_length: int | None = None) -> Checkpoint:
    """Read a folder.

    context_length: asked for. Raises ModelFileError for what is damaged or missing, UnsupportedModel for what is
    not run.
    """
    whole = _read_json(folder / "config.json")
    raw = text_config(whole)
    config = read_config(raw, folder.resolve().name, context_length)
    generation = _read_json(folder / "generation_config.json") if (folder / "generation_config.json").exists() else {}
    tensors = network_tensors(config, text_tensors(whole, folder_tensors(folder, whole)))
    check_biases(raw, config, tensors)
    config, tensors = _tied(config, tensors)
    tokenizer = read_folder_tokenizer(folder)
    defaults = read_generation(generation, raw, tokenizer, config.vocab_size)
    return Checkpoint(config, tensors, tokenizer, defaults, embedding=read_embedding(folder))


def _tied(
    config: ModelConfig, tensors: Mapping[str, StoredWeight]
) -> tuple[ModelConfig, dict[str, StoredWeight]]:  # fmt: skip
    """Embeddings and head are one where the configuration says so, unless the files hold two that differ: then the
    configuration is wrong, as for transformers. A file may hold either of them."""
    embedding, head = tensors.get(EMBEDDING), tensors.get(HEAD)
    if not config.tied_embeddings or head is None:
        return config, dict(tensors)
    if embedding is not None and not _same(embedding, head):
        return replace(config, tied_embeddings=False), dict(tensors)
    return config, {name: tensor for name, tensor in tensors.items() if name != HEAD} | {EMBEDDING: embedding or head}


def _same(one: StoredWeight, other: StoredWeight) -> bool:
    return one.type == other.type and one.shape == other.shape and bool(np.array_equal(one.data, other.data))


def read_folder_tokenizer(folder: Path) -> TokenizerFiles:
    """tokenizer.json, with what other files say of its tokens and of chats. Raises ModelNotFound without it."""
    if not (folder / "tokenizer.json").exists():
        raise ModelNotFound(f"{folder} has no tokenizer.json; save the tokenizer with AutoTokenizer.save_pretrained")
    settings: Json = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            settings |= {key: value for key, value in _read_json(folder / name).items() if value is not None}
    special = {role: _text(settings[role]) for role in ROLES if role in settings}
    templates = chat_templates(folder, settings.get("chat_template"))
    spec = _read_json(folder / "tokenizer.json")
    return TokenizerFiles(spec, special, None, templates.get("default"), templates.get("tool_use"))


def _text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def chat_templates(folder: Path, setting: Any) -> Mapping[str, str]:
    """Templates by name, of which `default` is the one of plain chats: files of their own, else a setting of the
    tokenizer, else that of a processor (models that also see); each is one template, or several with names."""
    named = _named(setting)
    if not named and (folder / "chat_template.json").exists():
        named = _named(_read_json(folder / "chat_template.json").get("chat_template"))
    if (folder / "chat_template.jinja").exists():
        named = {"default": _read_text(folder / "chat_template.jinja")}
    more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return named | {path.stem: _read_text(path) for path in more}


def _named(setting: Any) -> dict[str, str]:
    if isinstance(setting, list):
        return {entry["name"]: entry["template"] for entry in setting}
    return dict(setting) if isinstance(setting, Mapping) else {} if setting is None else {"default": setting}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path} is damaged ({error}); fetch it again") from error


def _read_json(path: Path) -> Json:
    if not path.exists() and (path.parent / "adapter_config.json").exists():
        raise ModelNotFound(f"{path.parent} is no model but an adapter; give it as an adapter of the model it changes")
    if not path.exists():
        raise ModelNotFound(
            f"{path.parent} has no {path.name}; it is not a model folder, or not a whole one "
            "(of a repository of GGUF files, fetch one and give its path)"
        )
    return read_json(path)
