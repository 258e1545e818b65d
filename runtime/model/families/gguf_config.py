"""A GGUF file's metadata as a `ModelConfig`, by its family: its keys are read under the names of config.json, its
tensors get Hugging Face's names, and what llama.cpp's converter changed is undone. Opens no file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from stemma.kernels.weights import StoredWeight, dequantize, is_finite
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF
from stemma.runtime.model.families.mixture import is_unread
from stemma.runtime.model.families.register import find_architecture, find_family
from stemma.runtime.model.parts.scalings import yarn_amplitude
from stemma.runtime.model.settings import ASKED_CONTEXT, Settings
from stemma.runtime.model.undone import Undone

Tensors = Mapping[str, StoredWeight]
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "num_hidden_layers": "block_count",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "max_position_embeddings": "context_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "layer_norm_eps": "attention.layer_norm_epsilon",
        "norm_epsilon": "attention.layer_norm_epsilon",
        "sliding_window": "attention.sliding_window",
        "sliding_window_pattern": "attention.sliding_window_pattern",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
        "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
        "norm_topk_prob": "expert_weights_norm",
        "is_causal": "attention.causal",
        "partial_rotary_factor": "rope.dimension_count",
    }
)
WITHOUT_EFFECT = frozenset(
    ("vocab_size", "tensor_data_layout", "pooling_type", "rope.scaling.finetuned",
     "rope.scaling.original_context_length", "attention.layer_norm_epsilon")
)  # fmt: skip
"""Keys behind the architecture's name that change no number of any family."""
WHOLE_NAMES = MappingProxyType(
    {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
)  # fmt: skip
BLOCK_NAMES = MappingProxyType(
    {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_qkv": "self_attn.qkv_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "ffn_gate_inp": "mlp.gate",
        "ffn_gate_exps": "mlp.experts.gate_proj",
        "ffn_up_exps": "mlp.experts.up_proj",
        "ffn_down_exps": "mlp.experts.down_proj",
        "ffn_gate_up_exps": "mlp.experts.gate_up_proj",
    }
)
ROPE_FACTORS = "rope_freqs.weight"
LONG_AND_SHORT = frozenset({"rope_factors_long.weight", "rope_factors_short.weight"})
ROPE_TENSORS = LONG_AND_SHORT | {ROPE_FACTORS}
YARN_KEYS = tuple(f"rope.scaling.yarn_{name}" for name in ("log_multiplier", "ext_factor", "beta_fast", "beta_slow"))
EPSILONS = frozenset({"attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"})
SHARPER = "mscale_all_dim"
"""No key of a file, but what some families make of the multiplier: all of queries and keys grows by it."""
BIASES = MappingProxyType({"attention_bias": ("attn_q", "attn_qkv"), "output_bias": ("attn_output",),
                           "mlp_bias": ("ffn_up", "ffn_down"), "use_conv_bias": ("ssm_conv1d",),
                           "mamba_conv_bias": ("ssm_conv1d",)})  # fmt: skip


def read_gguf_config(
    metadata: Mapping[str, Any], tensors: Tensors, name: str, context_length: int | None = None
) -> ModelConfig:  # fmt: skip
    """The configuration that a file describes.

    context_length: asked for. Raises UnsupportedModel for a key that is not run.
    """
    architecture = metadata.get("general.architecture", "")
    prefix = f"{architecture}."
    values = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    model_type, family, gguf = find_architecture(architecture, values, tensors)
    if "token_embd.weight" not in tensors:
        raise ModelFileError("the GGUF file has no tensor token_embd.weight; it holds no whole language model")
    known = Settings(metadata, "the GGUF file", prefix, {**SETTINGS, **gguf.settings}, gguf.defaults)
    with known.wrong_kinds_refused():
        known = known.with_values({prefix + key: value for key, value in gguf.told(known).items()})
    _check_values(known)
    _check_layers(known, values, tensors)
    with known.wrong_kinds_refused():
        told = _told(tensors) | {"rope_parameters": _rope(known, tensors), ASKED_CONTEXT: context_length}
    settings = known.with_values({prefix + key: value for key, value in told.items()})
    with settings.wrong_kinds_refused():
        config = replace(family.read(settings), name=metadata.get("general.name", name), family=model_type)
    settings.check_all_used(WITHOUT_EFFECT | gguf.without_effect | told.keys())
    return config


def _check_values(settings: Settings) -> None:
    head_dim = settings.number("head_dim", settings.number("hidden_size") // settings.number("num_attention_heads"))
    if settings.number("attention.value_length", head_dim) != head_dim:
        settings.refuse("attention.value_length", f"values are as long as keys ({head_dim}) in models that are run")


def _check_layers(settings: Settings, values: Mapping[str, Any], tensors: Tensors) -> None:
    """What a file that is whole always says: as many layers as there are, and the epsilon of their norms."""
    layers = {name.split(".")[1] for name in tensors if name.startswith("blk.")}
    said, whole = settings.number("num_hidden_layers"), values["block_count"]  # perhaps with some that are not run
    if said > len(layers) or (isinstance(whole, int) and whole < len(layers)):
        raise ModelFileError(
            f"{settings.place} has {whole} layers by its block_count, but tensors of {len(layers)}; fetch it again"
        )
    if not EPSILONS & values.keys():
        raise ModelFileError(f"{settings.place} has none of {', '.join(sorted(EPSILONS))}; convert the model again")


def _told(tensors: Tensors) -> dict[str, Any]:
    """What a config.json says, and here only the tensors do."""
    of_layers = {name.split(".", 2)[2] for name in tensors if name.startswith("blk.")}
    biases = {
        name: any(f"{part}.bias" in of_layers for part in parts) for name, parts in BIASES.items()
    }  # fmt: skip
    tied = "output.weight" not in tensors
    normed = "attn_q_norm.weight" in of_layers
    size = tensors["token_embd.weight"].shape[0]
    equal = any(name.endswith("attn_k.weight") and name.replace("attn_k", "attn_v") not in tensors for name in tensors)
    return {"vocab_size": size, "attention_k_eq_v": equal, "tie_word_embeddings": tied, "use_qk_norm": normed,
            "mamba_rms_norm": "ssm_norm.weight" in of_layers, **biases}  # fmt: skip


def share_of(rotated: int, head_dim: int) -> float:
    """The share of a head as a config.json has it: times the head's dimensions, and cut to a whole number, it is
    `rotated`, where the quotient alone may fall one short."""
    share = rotated / head_dim
    return share if int(head_dim * share) == rotated else math.nextafter(share, 2.0)


def _rope(settings: Settings, tensors: Tensors) -> dict[str, Any]:
    """The scaling as a config.json has it.

    As in llama.cpp, a factor without a type is linear, 0 is none, and `rope.scale_linear` is its older name; the file's
    divisors of frequencies come on top of it; and cosines and sines are multiplied by an attention factor of any kind.
    """
    head_dim = settings.number("head_dim", settings.number("hidden_size") // settings.number("num_attention_heads"))
    rotated = settings.number("rope.dimension_count", head_dim)
    if rotated > head_dim:
        settings.refuse("rope.dimension_count", f"a head has {head_dim} dimensions")
    said = {
        "rope_theta": settings.amount("rope.freq_base", 10000.0),
        "partial_rotary_factor": share_of(rotated, head_dim),
    }
    amplitude = settings.amount("rope.scaling.attn_factor", 1.0) * settings.amount("rope.scaling.yarn_attn_factor", 1.0)
    kind = settings.get("rope.scaling.type", "linear")
    older, newer = "rope.scale_linear", "rope.scaling.factor"
    name = older if settings.get(older) and settings.get(newer) is None else newer
    factor = settings.amount(name, 1.0) if settings.get(name) else 1.0
    original = settings.number("rope.scaling.original_context_length", settings.number("max_position_embeddings"))
    if tensors.keys() >= LONG_AND_SHORT:
        long, short = (_divisors(tensors, name, rotated // 2) for name in sorted(LONG_AND_SHORT))
        longrope = {"rope_type": "longrope", "long_factor": long, "short_factor": short}
        return said | longrope | {"attention_factor": amplitude, "original_max_position_embeddings": original}
    if kind not in ("none", "linear", "yarn"):
        settings.refuse("rope.scaling.type", "this rope scaling is not supported; supported: linear, yarn")
    if kind == "none" or factor == 1.0:
        factor = 1.0
        for name in YARN_KEYS:
            settings.get(name)  # nothing is scaled, so they are without effect
    elif kind == "yarn":
        return said | _yarn(settings, factor, amplitude) | {"original_max_position_embeddings": original}
    divisors = [factor] * (rotated // 2)
    if ROPE_FACTORS in tensors:
        divisors = [divisor * factor for divisor in _divisors(tensors, ROPE_FACTORS, rotated // 2)]
    scaled = ROPE_FACTORS in tensors or factor != 1.0 or amplitude != 1.0
    return said | ({"rope_type": "divisors", "divisors": divisors, "attention_factor": amplitude} if scaled else {})


def _yarn(settings: Settings, factor: float, amplitude: float) -> dict[str, Any]:
    """YaRN as llama.cpp has it: its attention factor is that of the paper, times the file's."""
    if settings.get("rope.scaling.yarn_ext_factor", 1.0) != 1.0:
        settings.refuse("rope.scaling.yarn_ext_factor", "a share of YaRN's scaling is not supported")
    slope, sharper = settings.get("rope.scaling.yarn_log_multiplier"), settings.get(SHARPER)
    if sharper is None:
        amplitude *= yarn_amplitude(factor) / (yarn_amplitude(factor, slope) if slope else 1.0)
    betas = {f"beta_{name}": settings.get(f"rope.scaling.yarn_beta_{name}") for name in ("fast", "slow")}
    return {
        "rope_type": "yarn", "factor": factor, "attention_factor": amplitude, "mscale_all_dim": sharper, **betas
    }  # fmt: skip


def _divisors(tensors: Tensors, name: str, length: int) -> list[float]:
    if not is_finite(tensors[name]):
        raise ModelFileError(f"tensor {name!r} has numbers that are NaN or infinite; fetch the model again")
    divisors: list[float] = dequantize(tensors[name]).tolist()
    if len(divisors) != length:
        raise ModelFileError(f"tensor {name!r} has {len(divisors)} numbers, but a head has {length}")
    return divisors


def hugging_face_name(gguf: GGUF, name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; a name that is not known stays."""
    parts = name.split(".")
    own = gguf.tensors
    if parts[0] == "blk" and ".".join(parts[2:]) in own:
        return f"model.layers.{parts[1]}.{own['.'.join(parts[2:])]}"
    if parts[0] == "blk" and len(parts) == 4:
        inner = own.get(parts[2], BLOCK_NAMES.get(parts[2]))
        return name if inner is None else f"model.layers.{parts[1]}.{inner}.{parts[3]}"
    whole = own.get(parts[0], WHOLE_NAMES.get(parts[0]))
    return name if whole is None or len(parts) != 2 else f"{whole}.{parts[1]}"


def hugging_face_tensors(config: ModelConfig, tensors: Tensors) -> tuple[Undone, dict[str, str]]:
    """The file's tensors as Hugging Face has them, by its names; and the file's own name of each."""
    gguf = find_family(config.family).gguf or GGUF("")
    named = {hugging_face_name(gguf, name): name for name in tensors if name not in ROPE_TENSORS}
    own = {name: theirs for name, theirs in named.items() if not is_unread(name, config)}
    stored = {name: tensors[theirs] for name, theirs in own.items()}
    return Undone(stored, lambda name, tensor: gguf.undo(name, tensor, config)), own
