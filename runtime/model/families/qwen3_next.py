"""Qwen 3 Next (Qwen Team 2025): three of four layers have a gated delta rule, the fourth attention whose heads are
gated and rotate a quarter; all have experts, and one that all tokens share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.states import DeltaRuleSpec
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.config import Attention, DeltaRule, Experts, Layer, ModelConfig, Norms
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.gemma import one_less
from stemma.runtime.model.families.mixture import SHARED_TENSORS, TRAINING, sparse_layers, without_layers_behind
from stemma.runtime.model.families.qwen_moe import one_row
from stemma.runtime.model.families.reading import read_head_dim, read_mixers, read_sizes
from stemma.runtime.model.families.rope_settings import FULL, read_rope
from stemma.runtime.model.settings import Settings

GROUPED = "_grouped"
"""A setting of no file: how value heads stand beside key heads, where llama.cpp's converter has changed their order."""


def read(settings: Settings) -> ModelConfig:
    config = read_delta(settings)
    dense = sparse_layers(settings, config.num_layers)
    return replace(config, experts=replace(read_experts(settings), dense=dense))


def read_delta(settings: Settings) -> ModelConfig:
    """A dense model with this family's layers."""
    rotation = read_rope(settings, read_head_dim(settings), partial=0.25)
    config, bias = read_sizes(settings, rotation), settings.get("attention_bias", False)
    if settings.get("hidden_act", "silu") not in ("silu", "swish"):
        settings.refuse("hidden_act", "convolutions, gates and MLPs of this type of model have SiLUs")
    num_layers = config.num_layers - settings.get("nextn_predict_layers", 0)
    every = settings.number("full_attention_interval", 4)
    kinds = {"linear_attention": Layer(None, mixer="delta"), FULL: Layer(config.rope)}
    otherwise = ["linear_attention" if (layer + 1) % every else FULL for layer in range(num_layers)]
    rule = DeltaRuleSpec(
        settings.number("linear_num_key_heads"), settings.number("linear_num_value_heads"),
        settings.number("linear_key_head_dim"), settings.number("linear_value_head_dim"),
        settings.get(GROUPED, "repeat"),
    )  # fmt: skip
    return replace(
        config,
        num_layers=num_layers,
        layers=read_mixers(settings, num_layers, kinds, otherwise),
        attention=Attention(rotated=rotation.rotated, norms="head", bias=bias, output_bias=bias, gated=True),
        delta=DeltaRule(rule, settings.number("linear_conv_kernel_dim")),
        norms=Norms(one_more=True),
    )


def read_experts(settings: Settings) -> Experts:
    spec = ExpertsSpec(settings.number("num_experts_per_tok"), renormalise=settings.is_on("norm_topk_prob", True))
    return Experts(
        settings.number("num_experts"), settings.number("moe_intermediate_size"), spec, shared="shared_expert",
        shared_intermediate=settings.number("shared_expert_intermediate_size"), shared_gate="shared_expert_gate",
    )  # fmt: skip


def undone(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """The converter stores -A for log A, convolutions without the axis of their one input, and norms with the one added
    but for those of the delta rule."""
    if name.endswith("A_log"):
        return StoredWeight("F32", tensor.shape, np.log(-dequantize(tensor)))
    if name.endswith("conv1d.weight"):
        shape = (tensor.shape[0], 1, tensor.shape[1])
        return replace(tensor, shape=shape, data=tensor.data.reshape(shape))
    if name.endswith("linear_attn.norm.weight"):
        return tensor
    return one_row(name, one_less(name, tensor, config), config)


def told(settings: Settings) -> Mapping[str, Any]:
    """The length of a value, of the length of all; and which layers have a state, where a newer file says it."""
    size = settings.number("ssm.inner_size") // settings.number("linear_num_value_heads")
    said = settings.get("attention.recurrent_layers")
    kinds = ["linear_attention" if recurrent else FULL for recurrent in said] if isinstance(said, list) else None
    return {"linear_value_head_dim": size, "layer_types": kinds}


SETTINGS = {
    "num_experts": "expert_count", "linear_conv_kernel_dim": "ssm.conv_kernel",
    "linear_key_head_dim": "ssm.state_size", "linear_num_key_heads": "ssm.group_count",
    "linear_num_value_heads": "ssm.time_step_rank",
}  # fmt: skip
TENSORS = {
    "post_attention_norm": "post_attention_layernorm", "attn_gate": "linear_attn.in_proj_z",
    "attn_qkv": "linear_attn.in_proj_qkv", "ssm_in": "linear_attn.in_proj_qkvz", "ssm_ba": "linear_attn.in_proj_ba",
    "ssm_alpha": "linear_attn.in_proj_a", "ssm_beta": "linear_attn.in_proj_b", "ssm_a": "linear_attn.A_log",
    "ssm_conv1d": "linear_attn.conv1d", "ssm_dt.bias": "linear_attn.dt_bias", "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj", "ffn_gate_inp_shexp": "mlp.shared_expert_gate", **SHARED_TENSORS,
}  # fmt: skip
DEFAULTS = {
    "num_attention_heads": 16, "head_dim": 256, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
    "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
}  # fmt: skip
TINY = {
    "layer_types": ["linear_attention", FULL], "linear_key_head_dim": 8, "linear_value_head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
FEW_EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48
}  # fmt: skip
QWEN3_NEXT = Family(
    read,
    GGUF("qwen3next", SETTINGS, TENSORS, undone, told=told),
    defaults={**DEFAULTS, "num_key_value_heads": 2, "num_experts": 512, "num_experts_per_tok": 10,
              "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512},
    without_effect=TRAINING,
    tiny={**TINY, **FEW_EXPERTS},
    folder=without_layers_behind,
)  # fmt: skip
