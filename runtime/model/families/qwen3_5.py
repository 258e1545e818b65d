"""Qwen 3.5 to 3.8 (Qwen Team 2026), the text of them, dense and with experts: Qwen 3 Next with other projections of its
delta rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.mixture import TRAINING, without_layers_behind
from stemma.runtime.model.families.qwen3_next import (
    DEFAULTS,
    FEW_EXPERTS,
    GROUPED,
    SETTINGS,
    TENSORS,
    TINY,
    read_delta,
    read_experts,
    undone,
)
from stemma.runtime.model.families.qwen3_next import told as told_next
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    if not settings.get("attn_output_gate", True):
        settings.refuse("attn_output_gate", "attention without a gate is not supported in models of this type")
    if settings.get("output_gate_type", "swish") not in ("silu", "swish"):
        settings.refuse("output_gate_type", "what a delta rule says is gated by a SiLU in models of this type")
    return read_delta(settings)


def read_moe(settings: Settings) -> ModelConfig:
    experts = read_experts(settings)
    if not experts.spec.renormalise:
        settings.refuse("norm_topk_prob", "weights of experts are divided by their sum in models of this type")
    return replace(read(settings), experts=experts)


def told(settings: Settings) -> Mapping[str, Any]:
    """The converter puts the first value head of each key head first, then each second one, and so on, so that a key
    head's stand apart."""
    return {**told_next(settings), GROUPED: "tile"}


def by_name(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """The experts of a layer lie in one tensor, whose name has no ending."""
    ends = ("experts.gate_up_proj", "experts.down_proj")
    found = without_layers_behind(tensors, config)
    return {f"{name}.weight" if name.endswith(ends) else name: tensor for name, tensor in found.items()}


IMAGES = frozenset({"rope.dimension_sections"})
"""What parts of a head turn by an image's rows and columns; text has one position in all of them."""
MORE = frozenset({"mamba_ssm_dtype"})
QWEN3_5 = Family(
    read,
    GGUF("qwen35", SETTINGS, TENSORS, undone, without_effect=IMAGES, told=told),
    defaults={**DEFAULTS, "num_key_value_heads": 4},
    without_effect=TRAINING | MORE,
    tiny=TINY,
    folder=without_layers_behind,
)
NO_MLP = {"intermediate_size": 1}
"""All layers have experts, and files do not say how large another MLP would be."""
QWEN3_5_MOE = Family(
    read_moe,
    GGUF("qwen35moe", SETTINGS, TENSORS, undone, NO_MLP, IMAGES, told),
    defaults={**DEFAULTS, **NO_MLP, "num_key_value_heads": 2, "num_experts": 256, "num_experts_per_tok": 8,
              "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512},
    without_effect=TRAINING | MORE,
    tiny={**TINY, **FEW_EXPERTS},
    folder=by_name,
)  # fmt: skip
