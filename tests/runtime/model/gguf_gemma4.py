"""What llama.cpp's converter writes of Gemma 4 and of no other family."""

from __future__ import annotations

from typing import Any

import transformers


def gemma4_divisors(config: transformers.PreTrainedConfig, share: float) -> list[float]:
    """Of rotary frequencies in layers that see all: pairs that stand still are divided by much."""
    size = config.per_layer_config["full_attention"].head_dim
    turning = int(size * share / 2)
    return [1.0] * turning + [1e30] * (size // 2 - turning)


def gemma4_scale(name: str) -> str:
    """What a router's inputs, and what experts say, are multiplied by."""
    part = "ffn_gate_inp" if name.endswith("router.scale") else "ffn_down_exps"
    return f"blk.{name.split('.')[2]}.{part}.scale"


def gemma4_keys(config: transformers.PreTrainedConfig) -> dict[str, Any]:
    """Heads, and the widths of MLPs, are said of each layer where the files' settings differ."""
    slides = [kind == "sliding_attention" for kind in config.layer_types]
    layers = [config.per_layer_config[index] for index in range(config.num_hidden_layers)]
    full = layers[slides.index(False)]
    first = config.num_hidden_layers - config.num_kv_shared_layers
    widths = [config.intermediate_size * (1 + (index >= first)) for index in range(config.num_hidden_layers)]
    said = {"attention.shared_kv_layers": config.num_kv_shared_layers, "attention.sliding_window_pattern": slides,
            "attention.key_length": full.head_dim, "attention.value_length": full.head_dim,
            "attention.key_length_swa": config.head_dim, "attention.value_length_swa": config.head_dim,
            "rope.dimension_count": full.head_dim, "rope.dimension_count_swa": config.head_dim,
            "rope.freq_base_swa": float(config.rope_parameters["sliding_attention"]["rope_theta"]),
            "embedding_length_per_layer_input": config.hidden_size_per_layer_input,
            "attention.sliding_window": config.sliding_window}  # fmt: skip
    if full.num_key_value_heads != config.num_key_value_heads:
        said["attention.head_count_kv"] = [layer.num_key_value_heads for layer in layers]
    if config.final_logit_softcapping:
        said["final_logit_softcapping"] = config.final_logit_softcapping
    return said | ({"feed_forward_length": widths} if config.use_double_wide_mlp else {})
