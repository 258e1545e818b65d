"""What llama.cpp's converter writes of windows, and of Gemma 4."""

from __future__ import annotations

from typing import Any

import transformers

Config = transformers.PreTrainedConfig


def windows(config: Config) -> dict[str, Any]:
    return {"attention.sliding_window": config.sliding_window} if config.sliding_window else {}


def kinds(config: Config) -> dict[str, Any]:
    """Windows of a family whose files say of each layer whether it has one."""
    if not config.sliding_window:
        return {}
    local = config.rope_parameters.get("sliding_attention")
    said = windows(config) | {"attention.sliding_window_pattern": [kind[0] == "s" for kind in config.layer_types]}
    return said | ({"rope.freq_base_swa": float(local["rope_theta"])} if local else {})


def caps(config: Config) -> dict[str, Any]:
    found = {"attn_logit_softcapping": config.attn_logit_softcapping,
             "final_logit_softcapping": config.final_logit_softcapping}  # fmt: skip
    return windows(config) | {name: value for name, value in found.items() if value}


def gemma4_divisors(config: Config, share: float) -> list[float]:
    """Of rotary frequencies in layers that see all: pairs that stand still are divided by much."""
    size = config.per_layer_config["full_attention"].head_dim
    turning = int(size * share / 2)
    return [1.0] * turning + [1e30] * (size // 2 - turning)


def gemma4_name(name: str) -> str:
    """GGUF's names of what a router's inputs, and what experts say, are multiplied by; others as they are."""
    own = {"router.scale": "ffn_gate_inp.scale", "router.per_expert_scale": "ffn_down_exps.scale"}
    place, _, rest = name.partition(".router.")
    return f"blk.{place.split('.')[-1]}.{own['router.' + rest]}" if f"router.{rest}" in own else name


def gemma4_keys(config: Config) -> dict[str, Any]:
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
