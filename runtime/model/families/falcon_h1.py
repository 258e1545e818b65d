"""Falcon-H1 (TII 2025): attention and Mamba-2 side by side in each layer, and a factor wherever something is read or
added. Norms, convolutions and what is added take the factors, so that large matrices stay as they are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from stemma.runtime.model.config import Attention, Layer, Mamba, MambaScales, ModelConfig, Norms, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.families.state_space import (
    IN_GGUF,
    INITIAL,
    check_activation,
    read_scan,
    ssm_tensors,
    undone,
)
from stemma.runtime.model.settings import Settings

NORMS = Norms(mlp="pre_ff_layernorm", last="model.final_layernorm")


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings)
    gate_scale, added = factors(settings, "mlp_multipliers", 2)
    return replace(
        config,
        layers=(Layer(config.rope, mixer="attention and mamba"),) * config.num_layers,
        attention=read_attention(settings, config),
        mlp=replace(config.mlp, place="feed_forward", gate_scale=gate_scale, added=added),
        norms=NORMS,
        scales=Scales(factor(settings, "embedding_multiplier"), logits=factor(settings, "lm_head_multiplier")),
        mamba=read_mamba(settings, config.hidden),
    )


def read_attention(settings: Settings, config: ModelConfig) -> Attention:
    return replace(
        config.attention,
        scale=config.head_dim**-0.5 * factor(settings, "key_multiplier"),
        read=factor(settings, "attention_in_multiplier"),
        added=factor(settings, "attention_out_multiplier"),
    )


def read_mamba(settings: Settings, hidden: int) -> Mamba:
    check_activation(settings, "hidden_act")
    expanded = int(settings.get("mamba_expand", 2) * hidden)
    inner = settings.get("mamba_d_ssm") or expanded
    normed: Literal["gate first", "gate last"] = (
        "gate last" if settings.get("mamba_norm_before_gate", True) else "gate first"
    )
    return Mamba(
        read_scan(settings, inner, "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state"),
        settings.number("mamba_d_conv", 4),
        bias=settings.get("mamba_proj_bias", False),
        conv_bias=settings.get("mamba_conv_bias", True),
        output_bias=settings.get("projectors_bias", False),
        norm=normed if settings.get("mamba_rms_norm", False) else None,
        place="mamba",
        scales=MambaScales._make(
            [
                factor(settings, "ssm_in_multiplier"),
                *factors(settings, "ssm_multipliers", 5),
                factor(settings, "ssm_out_multiplier"),
            ]
        ),
    )


def factor(settings: Settings, name: str) -> float:
    """Raises UnsupportedModel for one that is not positive: others are divided by it."""
    return _positive(settings, name, settings.get(name, 1.0))


def factors(settings: Settings, name: str, count: int) -> list[float]:
    said = settings.get(name, [1.0] * count)
    if len(said) != count:
        settings.refuse(name, f"models of this type have {count} of them")
    return [_positive(settings, name, value) for value in said]


def _positive(settings: Settings, name: str, value: float) -> float:
    if not value > 0:
        settings.refuse(name, "factors are positive numbers")
    return float(value)


TENSORS = {
    **ssm_tensors("mamba"), "ffn_norm": "pre_ff_layernorm.weight", "ffn_norm.weight": "pre_ff_layernorm.weight",
    "ffn_gate": "feed_forward.gate_proj", "ffn_up": "feed_forward.up_proj", "ffn_down": "feed_forward.down_proj",
    "output_norm": "model.final_layernorm",
}  # fmt: skip
FALCON_H1 = Family(
    read,
    GGUF("falcon-h1", {**IN_GGUF, "mamba_d_ssm": "ssm.inner_size"}, TENSORS, undone,
         defaults={"mamba_norm_before_gate": False}),
    defaults={"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "mamba_d_ssm": 1024, "mamba_n_heads": 128,
              "mamba_n_groups": 1, "mamba_d_state": 256},
    without_effect=INITIAL | {"mamba_use_mlp", "mlp_expansion_factor"},
    tiny={"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_state": 16},
)  # fmt: skip
