"""What families with latent attention have in common (DeepSeek V2, section 2.1): how their sizes are said, in a
config.json and in a GGUF file, and what YaRN does to their attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from stemma.runtime.model.config import MLP, Attention, Latent, ModelConfig
from stemma.runtime.model.families.reading import read_activation, read_sizes
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.parts.scalings import yarn_amplitude
from stemma.runtime.model.settings import Settings

NAMES = frozenset({"head_dim", "qk_head_dim", "num_key_value_heads"})
SETTINGS = MappingProxyType({"kv_lora_rank": "attention.kv_lora_rank", "q_lora_rank": "attention.q_lora_rank"})
TENSORS = MappingProxyType(
    {
        "attn_q_a": "self_attn.q_a_proj",
        "attn_q_a_norm": "self_attn.q_a_layernorm",
        "attn_q_b": "self_attn.q_b_proj",
        "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
        "attn_kv_a_norm": "self_attn.kv_a_layernorm",
        "attn_kv_b": "self_attn.kv_b_proj",
        "attn_k_b": "self_attn.k_b_proj",
        "attn_v_b": "self_attn.v_b_proj",
    }
)


def read_latent(settings: Settings) -> ModelConfig:
    """A dense model with latent attention."""
    rotated, plain = settings.number("qk_rope_head_dim"), settings.number("qk_nope_head_dim")
    config, activation = read_sizes(settings, read_rope(settings, rotated)), read_activation(settings)
    query_rank = settings.get("q_lora_rank")
    bias = settings.get("attention_bias", False)
    value = settings.number("v_head_dim", config.hidden // config.num_heads)
    if settings.get("mlp_bias", False):
        settings.refuse("mlp_bias", "an MLP with biases is not supported in models of this type")
    return replace(
        config,
        num_kv_heads=1,
        head_dim=plain + rotated,
        attention=Attention(
            scale=(plain + rotated) ** -0.5 * _sharper(settings) ** 2, bias=bias, output_bias=bias, interleaved=True
        ),
        latent=Latent(settings.number("kv_lora_rank"), query_rank, plain, rotated, value),
        mlp=MLP(activation),
    )


def _sharper(settings: Settings) -> float:
    """What YaRN multiplies queries by, and keys likewise."""
    scaling: Mapping[str, Any] = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    slope = scaling.get("mscale_all_dim")
    return yarn_amplitude(scaling.get("factor") or 1.0, slope) if slope else 1.0


def told_sizes(settings: Settings) -> dict[str, Any]:
    """A GGUF file's sizes of one head. It says those of keys and values whole; a newer one says of the latent what
    others say of a head, and of a head in keys of their own; and what is rotated is all of a head to whoever reads
    the rotation."""
    rotated = settings.number("rope.dimension_count")
    whole = settings.number("attention.key_length_mla", settings.number("attention.key_length"))
    value = settings.get("attention.value_length_mla") or settings.get("attention.value_length")
    return {
        "qk_rope_head_dim": rotated, "qk_nope_head_dim": whole - rotated, "v_head_dim": value,
        "attention.key_length": rotated, "attention.value_length": rotated,
    }  # fmt: skip
