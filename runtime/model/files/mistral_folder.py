"""A folder in Mistral's own form as a checkpoint: params.json, consolidated.safetensors, tekken.json. Its settings and
tensors get Hugging Face's names, under which its families read them; a folder that has both forms is not read here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model.checkpoint import Checkpoint, TokenizerFiles
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.families.llama import unpermuted
from stemma.runtime.model.files.folder_weights import read_json
from stemma.runtime.model.files.generation import read_generation
from stemma.runtime.model.files.hugging_face import chat_templates, read_folder_tokenizer
from stemma.runtime.model.files.quantised.register import read_quantised
from stemma.runtime.model.files.safetensors_format import open_safetensors
from stemma.runtime.model.files.tekken import read_tekken

PARAMS, WHOLE = "params.json", "consolidated.safetensors"
SETTINGS = MappingProxyType(
    {
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "head_dim": "head_dim",
        "hidden_dim": "intermediate_size",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "norm_eps": "rms_norm_eps",
        "vocab_size": "vocab_size",
        "rope_theta": "rope_theta",
        "sliding_window": "sliding_window",
        "tied_embeddings": "tie_word_embeddings",
        "causal": "is_causal",
    }
)
NEEDED = ("dim", "n_layers", "hidden_dim", "n_heads", "n_kv_heads", "norm_eps", "vocab_size", "rope_theta")
CONTEXT = ("max_position_embeddings", "max_seq_len", "model_max_length")
UNSAID_CONTEXT = 32768
"""Of the models whose files do not say it (Mistral 7B 0.2 and 0.3)."""
ELSEWHERE = frozenset({"yarn", "llama_4_scaling", "moe", "quantization", "vision_encoder", "model_type", "activation"})
YARN = MappingProxyType({"factor": "factor", "original_max_position_embeddings": "original_max_position_embeddings",
                         "beta": "beta_fast", "alpha": "beta_slow"})  # fmt: skip
EXPERTS = MappingProxyType({"num_experts": "num_local_experts", "num_experts_per_tok": "num_experts_per_tok"})
WHOLE_NAMES = MappingProxyType({"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"})
LAYER_NAMES = MappingProxyType(
    {
        "attention.wq": "self_attn.q_proj",
        "attention.wk": "self_attn.k_proj",
        "attention.wv": "self_attn.v_proj",
        "attention.wo": "self_attn.o_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w2": "mlp.down_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.gate": "block_sparse_moe.gate",
    }
)
QUANTISED = MappingProxyType({"qscale_weight": "weight_scale", "qscale_act": "input_scale"})
IMAGES = ("vision_encoder.", "vision_language_adapter.", "patch_merger.", "pre_mm_projector_norm.")

log = logging.getLogger("stemma.model")


def is_mistrals_own(folder: Path) -> bool:
    """Whether a folder is of this form alone."""
    return (folder / PARAMS).exists() and not (folder / "config.json").exists()


def read_mistral(folder: Path, context_length: int | None = None) -> Checkpoint:
    """Read a folder.

    context_length: asked for. Raises ModelFileError or ModelNotFound for what is damaged or missing,
    UnsupportedModel for what is not run.
    """
    params = read_json(folder / PARAMS)
    raw = _as_config(params)
    config = read_config(raw, folder.resolve().name, context_length)
    tensors = _tensors(folder, config, params)
    tokenizer = _tokenizer(folder)
    return Checkpoint(config, tensors, tokenizer, read_generation({}, {}, tokenizer, config.vocab_size))


def _as_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json of the same model says."""
    known = SETTINGS.keys() | ELSEWHERE | set(CONTEXT)
    for name, value in params.items():
        if value and name not in known:
            _refuse(name, value)
    if missing := [name for name in NEEDED if params.get(name) is None]:
        raise ModelFileError(f"params.json has no value {missing[0]!r}; fetch the model again")
    if params.get("activation", "silu") != "silu":
        _refuse("activation", params["activation"])
    if params.get("vision_encoder"):
        log.warning("the model reads images too; here it reads text alone")
    raw = {"model_type": "mistral", "sliding_window": None} | {
        own: params[name] for name, own in SETTINGS.items() if params.get(name) is not None
    }
    raw["max_position_embeddings"] = _context(params)
    if params.get("moe"):
        raw |= {"model_type": "mixtral"} | _renamed("moe", params["moe"], EXPERTS)
    if params.get("yarn") or params.get("llama_4_scaling"):
        raw |= {"model_type": "ministral3", "rope_parameters": _rotation(params)}
    return raw


def _context(params: Mapping[str, Any]) -> int:
    found = next((int(params[name]) for name in CONTEXT if params.get(name)), None)
    if found is None:
        log.warning("params.json does not say how long the context is: %d is taken", UNSAID_CONTEXT)
    return found or UNSAID_CONTEXT


def _rotation(params: Mapping[str, Any]) -> dict[str, Any]:
    """YaRN, whose attention factor is one unless the file applies it, and queries that grow with their position."""
    yarn, queries = dict(params.get("yarn") or {}), dict(params.get("llama_4_scaling") or {})
    said: dict[str, Any] = {"rope_type": "default", "rope_theta": params["rope_theta"]}
    if yarn:
        applied = yarn.pop("apply_scale", True)
        said |= {"rope_type": "yarn"} | _renamed("yarn", yarn, YARN) | ({} if applied else {"attention_factor": 1.0})
    if queries:
        original = queries.pop("original_max_position_embeddings", None)
        if said.setdefault("original_max_position_embeddings", original) != original:
            _refuse("llama_4_scaling", params["llama_4_scaling"])
        said |= _renamed("llama_4_scaling", queries, {"beta": "llama_4_scaling_beta"})
    return said


def _renamed(place: str, values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    for name, value in values.items():
        if value and name not in names:
            _refuse(f"{place}.{name}", value)
    return {names[name]: value for name, value in values.items() if name in names and value is not None}


def _refuse(name: str, value: Any) -> None:
    raise UnsupportedModel(
        f"params.json sets {name!r} to {value!r}, and this version does not know what it does; fetch the form of "
        "transformers (config.json, model.safetensors), or a GGUF file"
    )


def _tensors(folder: Path, config: ModelConfig, params: Mapping[str, Any]) -> dict[str, StoredWeight]:
    paths = [folder / WHOLE] if (folder / WHOLE).exists() else sorted(folder.glob("consolidated-*.safetensors"))
    if not paths:
        raise ModelNotFound(f"{folder} has no {WHOLE}; fetch the model again (pickled .pth weights are not read)")
    found = {
        _hugging_face_name(name): tensor
        for path in paths
        for name, tensor in open_safetensors(path).items()
        if not name.startswith(IMAGES)
    }
    if quantised := params.get("quantization"):
        if quantised.get("qformat_weight") != "fp8_e4m3":
            _refuse("quantization", quantised)
        found = read_quantised({"quant_method": "fp8"}, found)
    return {name: unpermuted(name, tensor, config) for name, tensor in found.items()}


def _hugging_face_name(name: str) -> str:
    """`layers.3.attention.wq.weight` -> `model.layers.3.self_attn.q_proj.weight`; a name that is not known stays."""
    module, _, kind = name.rpartition(".")
    kind = QUANTISED.get(kind, kind)
    parts = module.split(".")
    if parts[0] != "layers" or len(parts) < 3:
        return f"{WHOLE_NAMES.get(module, module)}.{kind}"
    inner = ".".join(parts[2:])
    if parts[2:4] == ["feed_forward", "experts"]:
        own = inner.replace("feed_forward", "block_sparse_moe")
    else:
        own = LAYER_NAMES.get(inner, inner)
    return f"model.layers.{parts[1]}.{own}.{kind}"


def _tokenizer(folder: Path) -> TokenizerFiles:
    """tekken.json, or what transformers has of the same."""
    if (folder / "tekken.json").exists():
        setting = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
        return read_tekken(folder / "tekken.json", chat_templates(folder, setting.get("chat_template")).get("default"))
    if (folder / "tokenizer.json").exists():
        return read_folder_tokenizer(folder)
    raise ModelNotFound(
        f"{folder} has neither tekken.json nor tokenizer.json (SentencePiece's tokenizer.model is not read); fetch "
        "one of these, or the form of transformers"
    )
