"""What llama.cpp's converter makes of models with gated delta rules or short convolutions (conversion/qwen.py and
lfm2.py): keys, names, and what it changes in tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import transformers

from tests.runtime.model.gguf_writing import Array

Config = transformers.PreTrainedConfig
DELTA = {"qwen3_next": "qwen3next", "qwen3_5_text": "qwen35", "qwen3_5_moe_text": "qwen35moe"}
CONV = {"lfm2": "lfm2", "lfm2_moe": "lfm2moe"}


def delta_settings(config: Config) -> dict[str, Any]:
    values = config.linear_num_value_heads
    said = {
        "ssm.conv_kernel": config.linear_conv_kernel_dim, "ssm.state_size": config.linear_key_head_dim,
        "ssm.group_count": config.linear_num_key_heads, "ssm.time_step_rank": values,
        "ssm.inner_size": values * config.linear_value_head_dim, "full_attention_interval": 4,
        "attention.recurrent_layers": [kind == "linear_attention" for kind in config.layer_types],
    }  # fmt: skip
    if config.model_type == "qwen3_next":
        return said
    head = {"feed_forward_length": None} if config.model_type == "qwen3_5_moe_text" else {}
    pairs = int(config.head_dim * config.rope_parameters["partial_rotary_factor"]) // 2
    return said | head | {"rope.dimension_sections": [pairs - pairs // 2, pairs // 2, 0, 0]}


def conv_settings(config: Config) -> dict[str, Any]:
    heads = [0 if kind == "conv" else config.num_key_value_heads for kind in config.layer_types]
    said = {"attention.head_count_kv": heads, "shortconv.l_cache": config.conv_L_cache}
    if config.model_type == "lfm2_moe":
        return said | {"leading_dense_block_count": config.num_dense_layers, "expert_gating_func": 2}
    size = config.intermediate_size
    if config.block_auto_adjust_ff_dim:
        step = config.block_multiple_of
        size = step * ((int(config.block_ffn_dim_multiplier * int(2 * size / 3)) + step - 1) // step)
    return said | {"feed_forward_length": size}


def changed(name: str, values: Array, config: Config) -> dict[str, Array]:
    """A tensor as the converter writes it, by the names that the gguf library knows."""
    if config.model_type in CONV:
        return _changed_conv(name, values)
    if config.model_type not in DELTA:
        return {name: values}
    if config.model_type != "qwen3_next" and ".linear_attn." in name:
        values = _tiled(name, values, config)
    if name.endswith(".A_log"):
        values = -np.exp(values)
    elif name.endswith(".dt_bias"):
        name = name.replace(".dt_bias", ".dt_proj.bias")
    elif "conv1d" in name:
        values = values.squeeze()
    elif name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight"):
        values = values + 1
    elif name.endswith("in_proj_qkvz.weight"):
        return _divided(name, values, config)
    return {name: values}


def _changed_conv(name: str, values: Array) -> dict[str, Array]:
    if "conv.conv" in name:
        values = values.squeeze(1) if values.ndim == 3 else values
    name = name.replace(".expert_bias", ".expert_bias.bias")
    return {name.removeprefix("model.") if ".experts." in name else name: values}


def _divided(name: str, values: Array, config: Config) -> dict[str, Array]:
    """Each key head's queries, keys, values and gates, from together to apart."""
    keys, group = config.linear_key_head_dim, config.linear_num_value_heads // config.linear_num_key_heads
    sizes = [keys, keys, group * config.linear_value_head_dim]
    by_head = values.reshape(config.linear_num_key_heads, -1, values.shape[-1])
    q, k, v, z = (part.reshape(-1, values.shape[-1]) for part in np.split(by_head, np.cumsum(sizes), axis=1))
    return {name.replace("qkvz", "qkv"): np.concatenate((q, k, v)), name.replace("qkvz", "z"): z}


def _tiled(name: str, values: Array, config: Config) -> Array:
    """Value heads: first each key head's first, then each one's second, ..."""
    heads, dim = config.linear_num_key_heads, config.linear_value_head_dim
    group, both = config.linear_num_value_heads // heads, 2 * heads * config.linear_key_head_dim

    def turned(part: Array, size: int) -> Array:
        return part.reshape(heads, group, size, *part.shape[1:]).swapaxes(0, 1).reshape(part.shape)

    kind = name.rsplit(".linear_attn.", 1)[1]
    if kind in ("in_proj_qkv.weight", "conv1d.weight"):
        return np.concatenate((values[:both], turned(values[both:], dim)))
    if kind in ("in_proj_a.weight", "in_proj_b.weight", "A_log", "dt_bias"):
        return turned(values, 1)
    if kind == "in_proj_z.weight":
        return turned(values, dim)
    return turned(values.T, dim).T if kind == "out_proj.weight" else values
