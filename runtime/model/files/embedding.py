"""What a model's files say of embeddings: sentence-transformers' folders (modules.json and what it names), and GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.config import EmbeddingDefaults
from stemma.runtime.model.files.folder_weights import read_json, read_json_list

PoolingName = Literal["last", "mean"]
NAMES: Mapping[str, PoolingName] = MappingProxyType({"lasttoken": "last", "mean": "mean", "mean_tokens": "mean"})
GGUF_NAMES: Mapping[int, PoolingName] = MappingProxyType({1: "mean", 3: "last"})
GGUF_NONE, GGUF_RANK = 0, 4


def read_embedding(folder: Path) -> EmbeddingDefaults | None:
    """Of a folder; None where it says nothing. Raises UnsupportedModel for a module that is not run here."""
    if not (folder / "modules.json").exists():
        return None
    pooling, normalize = None, False
    for module in read_json_list(folder / "modules.json"):
        kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], folder / str(module.get("path", ""))
        if kind == "Pooling":
            pooling = _pooling(read_json(path / "config.json"))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise UnsupportedModel(f"modules.json has a module {kind!r} behind the model, which is not run here")
    said = folder / "config_sentence_transformers.json"
    prompts = read_json(said).get("prompts") or {} if said.exists() else {}
    return EmbeddingDefaults(pooling, normalize, {str(name): str(text) for name, text in prompts.items()})


def _pooling(settings: Mapping[str, Any]) -> PoolingName:
    """The one mode that is on. Raises UnsupportedModel for another than those of decoders."""
    if not settings.get("include_prompt", True):
        raise UnsupportedModel("the pooling leaves the prompt's own tokens out (include_prompt), which is not run here")
    modes = [name.removeprefix("pooling_mode_") for name, value in settings.items() if value is True]
    modes = [mode for mode in modes if mode != "include_prompt"]
    if "pooling_mode" in settings:
        modes.append(str(settings["pooling_mode"]))
    if len(modes) != 1 or modes[0] not in NAMES:
        raise UnsupportedModel(f"pooling by {modes} is not run here; by the last token or by the mean of all is")
    return NAMES[modes[0]]


def read_gguf_embedding(pooling: int | None) -> EmbeddingDefaults | None:
    """Of a GGUF file's `pooling_type`, as llama.cpp counts them. Raises UnsupportedModel."""
    if pooling is None or pooling in (GGUF_NONE, GGUF_RANK):
        return None
    if pooling not in GGUF_NAMES:
        raise UnsupportedModel(f"pooling_type {pooling} of the GGUF file is not run here; 1 (mean) and 3 (last) are")
    return EmbeddingDefaults(GGUF_NAMES[pooling], True, {})
