"""A folder in Hugging Face's form as a checkpoint: config.json, tokenizer.json and safetensors files, one or sharded.
Packs nothing, never imports transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemma.runtime.errors import ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model.checkpoint import Checkpoint, TokenizerFiles
from stemma.runtime.model.config import GenerationDefaults, ModelConfig, RopeConfig
from stemma.runtime.model.families.register import check_supported
from stemma.runtime.model.families.rope import linear_factors, llama3_factors
from stemma.runtime.model.files.safetensors_format import open_safetensors

Json = dict[str, Any]
TIED_COPY, ROPE_BUFFER = "lm_head.weight", ".rotary_emb.inv_freq"
MISTRAL_WINDOW = 4096  # what a Mistral configuration means that does not say
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def read_hugging_face(folder: Path) -> Checkpoint:
    """Read a folder. Raises ModelFileError for what is damaged or missing, UnsupportedModel for what is not run."""
    raw = _read_json(folder / "config.json")
    config = read_config(raw, folder.resolve().name)
    generation = _read_json(folder / "generation_config.json") if (folder / "generation_config.json").exists() else {}
    tensors = {
        name: tensor
        for path in _weight_files(folder)
        for name, tensor in open_safetensors(path).items()
        if not name.endswith(ROPE_BUFFER) and not (config.tied_embeddings and name == TIED_COPY)
    }
    return Checkpoint(config, tensors, _tokenizer(folder), _generation(generation, raw))


def read_config(raw: Json, name: str) -> ModelConfig:
    """The shape that a config.json describes."""
    family = raw.get("model_type", "")
    check_supported(family)
    _check_runnable(raw)
    try:
        num_heads, hidden = raw["num_attention_heads"], raw["hidden_size"]
        head_dim = raw.get("head_dim") or hidden // num_heads
        return ModelConfig(
            name=name,
            family=family,
            num_layers=raw["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=raw.get("num_key_value_heads") or num_heads,
            head_dim=head_dim,
            hidden=hidden,
            intermediate=raw["intermediate_size"],
            vocab_size=raw["vocab_size"],
            context_length=_context_length(raw, family),
            norm_epsilon=raw.get("rms_norm_eps", 1e-6),
            rope=_rope(raw, head_dim),
            tied_embeddings=raw.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise ModelFileError(f"config.json has no value {error}; fetch the model again") from error


def _check_runnable(raw: Json) -> None:
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise UnsupportedModel(f"the activation {raw['hidden_act']!r} is not supported; supported: silu")
    if raw.get("quantization_config"):
        method = raw["quantization_config"].get("quant_method")
        raise UnsupportedModel(f"safetensors quantised by {method!r} are not read; use the original or a GGUF file")


def _context_length(raw: Json, family: str) -> int:
    """Up to the sliding window, where there is one: within it, sliding and full attention are the same."""
    whole = int(raw["max_position_embeddings"])
    uses_window = raw.get("use_sliding_window", family == "mistral")
    window = raw.get("sliding_window", MISTRAL_WINDOW if family == "mistral" else None)
    return min(whole, window or whole) if uses_window else whole


def _rope(raw: Json, head_dim: int) -> RopeConfig:
    """Both spellings: `rope_theta` with `rope_scaling`, and the newer `rope_parameters`."""
    scaling: Json = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = float(scaling.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if scaling.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0)) != 1.0:
        raise UnsupportedModel("models that rotate only a part of each head are not supported")
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, linear_factors(head_dim, scaling["factor"]))
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        original = scaling["original_max_position_embeddings"]
        return RopeConfig(theta, llama3_factors(theta, head_dim, scaling["factor"], low, high, original))
    raise UnsupportedModel(f"rope scaling {kind!r} is not supported; supported: linear, llama3")


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = [folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in files if not path.exists()]
    if missing or not files:
        what = ", ".join(missing) or "*.safetensors"
        raise ModelNotFound(f"{folder} has no {what}; fetch the model again (pickled .bin weights are not read)")
    return files


def _tokenizer(folder: Path) -> TokenizerFiles:
    if not (folder / "tokenizer.json").exists():
        raise ModelNotFound(f"{folder} has no tokenizer.json; save the tokenizer with AutoTokenizer.save_pretrained")
    settings: Json = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            settings |= {key: value for key, value in _read_json(folder / name).items() if value is not None}
    special = {role: _text(settings[role]) for role in ROLES if role in settings}
    template = _chat_template(folder, settings.get("chat_template"))
    return TokenizerFiles(_read_json(folder / "tokenizer.json"), special, None, template)


def _text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _chat_template(folder: Path, setting: str | list[Mapping[str, str]] | None) -> str | None:
    """A file of its own, or a setting: one template, or named ones, of which the one called default is taken."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    if isinstance(setting, list):
        return next((entry["template"] for entry in setting if entry["name"] == "default"), None)
    return setting


def _generation(settings: Json, config: Json) -> GenerationDefaults:
    eos = settings.get("eos_token_id", config.get("eos_token_id"))
    eos_ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    return GenerationDefaults(
        tuple(sorted(eos_ids)), settings.get("temperature"), settings.get("top_k"), settings.get("top_p")
    )


def _read_json(path: Path) -> Json:
    if not path.exists():
        raise ModelNotFound(f"{path.parent} has no {path.name}; it is not a model folder, or not a whole one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} is not a JSON object; fetch it again")
    return content
