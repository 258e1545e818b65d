"""Writes transformers' models of any family as GGUF files, the way llama.cpp's converter does: names by the gguf
library's own tables, keys and changes of tensors as in convert_hf_to_gguf.py."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from tests.runtime.model.gguf_delta import CONV, DELTA, changed, conv_settings, delta_settings
from tests.runtime.model.gguf_windows import caps, gemma4_divisors, gemma4_keys, gemma4_name, kinds, windows
from tests.runtime.model.gguf_writing import ADD, Array, interleaved, write_byte_tokenizer

Config = transformers.PreTrainedConfig
ARCHITECTURES = {
    "mistral": "llama", "gemma3_text": "gemma3", "gemma4_text": "gemma4", "hunyuan_v1_dense": "hunyuan-dense",
    "ministral3": "mistral3",
    "olmo3": "olmo2", "falcon_h1": "falcon-h1", "glm": "chatglm", "granitemoehybrid": "granite", "mixtral": "llama",
    "granitemoe": "granitemoe", "granitemoeshared": "granitemoe",
    "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "glm4_moe": "glm4moe", "gpt_oss": "gpt-oss",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", **DELTA, **CONV,
}  # fmt: skip
INTERLEAVED = frozenset({"llama", "arcee", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared", "minicpm",
                         "smollm3", "ministral3", "mistral", "mixtral", "nemotron_h"})  # fmt: skip
ONE_MORE = frozenset({"gemma", "gemma2", "gemma3_text"})


def architecture_of(config: Config) -> str:
    if config.model_type == "granitemoehybrid" and has_states(config):
        return "granitehybrid"
    if config.model_type == "nemotron_h" and "moe" in config.layer_types:
        return "nemotron_h_moe"
    if getattr(config, "num_local_experts", 0) and config.model_type == "granitemoehybrid":
        return "granitemoe"
    return ARCHITECTURES.get(config.model_type, config.model_type)


def has_states(config: Config) -> bool:
    return "linear_attention" in (getattr(config, "layer_types", None) or ())


def write_family(
    path: Path, model: transformers.PreTrainedModel, metadata: dict[str, Any] | None = None,
    tensors: dict[str, Array] | None = None,
) -> None:  # fmt: skip
    """metadata, tensors: of another release of the converter."""
    config = model.config
    architecture = architecture_of(config)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (metadata or metadata_of(config)).items():
        ADD[type(value)](writer, f"{architecture}.{key}", value)
    write_byte_tokenizer(writer)
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, values in (tensors or tensors_of(model)).items():
        mapped = name if name.startswith("blk.") else names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert mapped is not None, name
        bare = mapped.endswith((".weight", ".bias", ".scale")) or name.endswith(
            (".A_log", ".D", ".pre_ff_layernorm.weight")
        )
        writer.add_tensor(mapped if bare else f"{mapped}.weight", values)
    for name, divisors in rope_tensors(config).items():
        writer.add_tensor(name, np.array(divisors, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors_of(model: transformers.PreTrainedModel) -> dict[str, Array]:
    """By the names that a folder has, the experts of a layer in one tensor."""
    config, found = model.config, {}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = load_file(f"{folder}/model.safetensors")
    for name, values in together(saved).items():
        if config.model_type in INTERLEAVED and name.split(".")[-2] in ("q_proj", "k_proj"):
            values = interleaved(values, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        if config.model_type in ONE_MORE and name.endswith("norm.weight"):
            values = values + 1
        if name.endswith("shared_expert_gate.weight"):
            values = values[0]
        if name.endswith("kv_b_proj.weight") and architecture_of(config) == "deepseek2":
            found |= apart(name, values, config)
            continue
        if config.model_type == "falcon_h1":
            values = multiplied(name, values, config)
        if config.model_type not in DELTA:
            name, values = of_states(name, values, config)
        found |= {gemma4_name(own): np.ascontiguousarray(x) for own, x in changed(name, values, config).items()}
    return found


def multiplied(name: str, values: Array, config: Config) -> Array:
    """Of Falcon-H1, whose factors are in the matrices of GGUF files."""
    if name.endswith("in_proj.weight"):
        inner, both = config.mamba_d_ssm, config.mamba_n_groups * config.mamba_d_state
        sizes = [inner, inner, both, both, config.mamba_n_heads]
        of_rows = np.repeat(config.ssm_multipliers, sizes)[:, None]
        return np.asarray(values * config.ssm_in_multiplier * of_rows, dtype=np.float32)
    read, parts = config.attention_in_multiplier, {
        "q_proj": 1.0, "v_proj": 1.0, "k_proj": config.key_multiplier, "o_proj": config.attention_out_multiplier,
        "gate_proj": config.mlp_multipliers[0], "down_proj": config.mlp_multipliers[1],
        "out_proj": config.ssm_out_multiplier, "lm_head": config.lm_head_multiplier,
        "embed_tokens": config.embedding_multiplier,
    }  # fmt: skip
    part = name.split(".")[-2]
    return np.asarray(values * (read if part[0] in "qkv" else 1.0) * parts.get(part, 1.0), dtype=np.float32)


def of_states(name: str, values: Array, config: Config) -> tuple[str, Array]:
    """Of a Mamba-2 layer: columns, and the norm by groups. A is what the scan takes."""
    if name.endswith("A_log"):
        values = -np.exp(values)
    if name.endswith((".A_log", ".D")):
        values = values[:, None]
    if name.endswith("conv1d.weight"):
        values = values.squeeze(1)
    if name.endswith(("mixer.norm.weight", "mamba.norm.weight")):
        groups = getattr(config, "n_groups", None) or config.mamba_n_groups
        values = values.reshape(groups, -1)
    if ".mixer.experts." in name:
        name = name.replace(".mixer.", ".mlp.").replace("backbone.", "model.")
    return name.replace(".dt_bias", ".dt_proj.bias"), values


def apart(name: str, values: Array, config: Config) -> dict[str, Array]:
    """Of each head: what makes latents of its queries, and what makes values of latents."""
    heads = values.reshape(config.num_attention_heads, config.qk_nope_head_dim + config.v_head_dim, -1)
    keys, rest = np.split(heads, [config.qk_nope_head_dim], axis=1)
    pieces = {"k_b_proj": keys.swapaxes(1, 2), "v_b_proj": rest}
    return {name.replace("kv_b_proj", own): np.ascontiguousarray(piece) for own, piece in pieces.items()}


def together(saved: dict[str, Array]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    stacks: dict[str, list[Array]] = {}
    normed: dict[str, list[Array]] = {}

    for name, values in sorted(
        saved.items(), key=lambda item: [int(x) if x.isdigit() else -1 for x in item[0].split(".")]
    ):
        place, _, rest = name.partition("experts.")
        part = rest.removesuffix("_bias")
        kind = "bias" if rest.endswith("_bias") else "weight"
        if rest and rest[0].isdigit():
            stacks.setdefault(f"{place}experts.{rest.partition('.')[2]}", []).append(values)
        elif "_layernorm.norms." in name:
            normed.setdefault(f"{name.partition('.norms.')[0]}.weight", []).append(values)
        elif "shared_mlp." in name:
            layer, _, rest = name.partition("shared_mlp.")
            place = "mlp.shared_expert" if any("block_sparse_moe" in other for other in saved) else "mlp"
            pieces = (
                {"down": values} if "output" in rest else dict(zip(("gate", "up"), np.split(values, 2), strict=True))
            )
            found |= {f"{layer}{place}.{part}_proj.weight": piece for part, piece in pieces.items()}
        elif name.endswith("input_linear.weight"):
            gate, up = np.split(values, 2, axis=1)
            layer = name.removesuffix("block_sparse_moe.input_linear.weight")
            found |= {f"{layer}mlp.experts.gate_proj.weight": gate, f"{layer}mlp.experts.up_proj.weight": up}
        elif part in ("gate_up_proj", "down_proj") and "." not in rest and ".mlp." not in name:  # Gemma 4
            found[f"{name}.weight"] = values
        elif part in ("gate_up_proj", "down_proj") and "." not in rest:
            values = values if kind == "bias" else values.swapaxes(1, 2)
            pieces = {"down_proj": values} if part == "down_proj" else {
                "gate_proj": values[:, 0::2], "up_proj": values[:, 1::2]
            }  # fmt: skip
            found |= {f"{place}experts.{own}.{kind}": piece for own, piece in pieces.items()}
        else:
            found[name.replace("e_score_correction_bias", "e_score_correction.bias")] = values
    return found | {name: np.stack(values) for name, values in (stacks | normed).items()}


def states(config: Config) -> dict[str, Any]:
    """Of Mamba-2 layers; `head_count_kv` is 0 in layers that have no attention."""
    names = {"ssm.conv_kernel": ("conv_kernel", "mamba_d_conv"), "ssm.group_count": ("n_groups", "mamba_n_groups"),
             "ssm.state_size": ("state_size", "ssm_state_size", "mamba_d_state"),
             "ssm.time_step_rank": ("mamba_num_heads", "mamba_n_heads", "num_heads")}  # fmt: skip
    said = {key: next(getattr(config, name) for name in olds if hasattr(config, name)) for key, olds in names.items()}
    sizes = [getattr(config, name) for name in ("mamba_head_dim", "mamba_d_head", "head_dim") if hasattr(config, name)]
    return said | {"ssm.inner_size": sizes[0] * said["ssm.time_step_rank"]}


def granite_states(config: Config) -> dict[str, Any]:
    heads = [config.num_key_value_heads if kind == "full_attention" else 0 for kind in config.layer_types]
    endless = {} if config.position_embedding_type == "rope" else {"context_length": 2**20}
    return states(config) | {"attention.head_count_kv": heads} | endless if has_states(config) else {}


def mamba2(config: Config) -> dict[str, Any]:
    """Nothing of attention."""
    return states(config) | {
        "block_count": config.num_hidden_layers, "context_length": 2**20, "embedding_length": config.hidden_size,
        "feed_forward_length": 0, "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": config.layer_norm_epsilon,
    }  # fmt: skip


def nemotron(config: Config) -> dict[str, Any]:
    """Layers of experts, or MLPs where there are none, have a size; attention has heads of keys."""
    kinds, with_experts = config.layer_types, "moe" in config.layer_types
    sized = ("moe", config.moe_intermediate_size) if with_experts else ("mlp", config.intermediate_size)
    said = {
        "block_count": len(kinds), "context_length": 2**20, "embedding_length": config.hidden_size,
        "feed_forward_length": [sized[1] if kind == sized[0] else 0 for kind in kinds],
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": [config.num_key_value_heads if kind == "full_attention" else 0 for kind in kinds],
        "attention.key_length": config.head_dim, "attention.value_length": config.head_dim,
        "attention.layer_norm_epsilon": config.layer_norm_epsilon, "rope.dimension_count": config.head_dim,
        "rope.scaling.finetuned": False,
    }  # fmt: skip
    if not with_experts:
        return said | states(config)
    shared = {"expert_shared_feed_forward_length": config.moe_shared_expert_intermediate_size,
              "expert_weights_norm": config.norm_topk_prob}  # fmt: skip
    said |= experts(config) | shared
    return {key: value for key, value in said.items() if key != "expert_group_used_count"} | states(config)


WHOLE: dict[str, Callable[[Config], dict[str, Any]]] = {"mamba2": mamba2, "nemotron_h": nemotron}
"""Families whose keys are all their own."""


def metadata_of(config: Config) -> dict[str, Any]:
    if config.model_type in WHOLE:
        return WHOLE[config.model_type](config)
    config.allow_global_per_layer_attribute_access = True  # of Gemma 4
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = full_rope(config)
    epsilon = getattr(config, "rms_norm_eps", getattr(config, "norm_eps", None))
    norm = "layer_norm_epsilon" if epsilon is None else "layer_norm_rms_epsilon"
    said = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_dim, "attention.value_length": head_dim,
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)),
        f"attention.{norm}": epsilon or getattr(config, "layer_norm_eps", None) or config.norm_epsilon,
    }  # fmt: skip
    said |= scaling_of(rope, config) | OWN.get(config.model_type, lambda config: {})(config)
    return {key: value for key, value in said.items() if value is not None}


def full_rope(config: Config) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", {})
    return dict(rope.get("full_attention", rope))


def scaling_of(rope: dict[str, Any], config: Config) -> dict[str, Any]:
    kind, original = rope.get("rope_type", "default"), rope.get("original_max_position_embeddings")
    if kind == "longrope":
        scale = config.max_position_embeddings / original
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        return {"rope.scaling.attn_factor": factor, "rope.scaling.original_context_length": original}
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    if kind == "yarn":
        slope = {name: float(rope[old]) for name, old in {"rope.scaling.yarn_log_multiplier": "mscale_all_dim"}.items()
                 if rope.get(old)}  # fmt: skip
        return {"rope.scaling.type": "yarn", "rope.scaling.factor": float(rope["factor"]),
                "rope.scaling.original_context_length": original, **slope}  # fmt: skip
    return {}


def rope_tensors(config: Config) -> dict[str, list[float]]:
    rope = full_rope(config)
    if rope.get("rope_type") == "longrope":
        return {"rope_factors_long.weight": rope["long_factor"], "rope_factors_short.weight": rope["short_factor"]}
    if rope.get("rope_type") == "proportional":
        return {"rope_freqs.weight": gemma4_divisors(config, rope["partial_rotary_factor"])}
    if rope.get("rope_type") == "llama3":
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        plain = rope["rope_theta"] ** -(torch.arange(0, head_dim, 2) / head_dim)
        scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
        return {"rope_freqs.weight": (plain / scaled).tolist()}
    return {}


def scales(config: Config) -> dict[str, Any]:
    return {"attention.scale": float(config.attention_multiplier), "logit_scale": float(config.logits_scaling),
            "embedding_scale": float(config.embedding_multiplier),
            "residual_scale": float(config.residual_multiplier)}  # fmt: skip


def alpha(config: Config) -> dict[str, Any]:
    rope, size = config.rope_parameters, config.head_dim
    return {"rope.freq_base": float(rope["rope_theta"] * rope.get("alpha", 1.0) ** (size / (size - 2)))}


def queries(config: Config) -> dict[str, Any]:
    rope = config.rope_parameters
    return {"attention.temperature_scale": float(rope["llama_4_scaling_beta"]),
            "attention.temperature_length": rope["original_max_position_embeddings"]}  # fmt: skip


def experts(config: Config) -> dict[str, Any]:
    names = {"expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
             "expert_used_count": ("num_experts_per_tok", "top_k_experts"),
             "expert_feed_forward_length": ("moe_intermediate_size",),
             "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
             "expert_shared_count": ("n_shared_experts",), "expert_group_count": ("n_group",),
             "expert_group_used_count": ("topk_group",), "leading_dense_block_count": ("first_k_dense_replace",),
             "expert_weights_scale": ("routed_scaling_factor",)}  # fmt: skip
    said = {key: next((getattr(config, name) for name in olds if getattr(config, name, None) is not None), None)
            for key, olds in names.items()}  # fmt: skip
    return {key: value for key, value in said.items() if value is not None}


def shared(config: Config) -> dict[str, Any]:
    """Of Granite: a model without experts has the shared one alone."""
    size = (
        {"expert_shared_feed_forward_length": config.shared_intermediate_size}
        if config.shared_intermediate_size
        else {}
    )
    return (
        experts(config) | size if config.num_local_experts else {"feed_forward_length": config.shared_intermediate_size}
    )


def glm_experts(config: Config) -> dict[str, Any]:
    return experts(config) | {"expert_gating_func": 2, "expert_weights_norm": config.norm_topk_prob}


def latent(config: Config) -> dict[str, Any]:
    """Sizes of a head that is made of latents, as MiniCPM 3 and older conversions of DeepSeek say them."""
    said = {"attention.q_lora_rank": config.q_lora_rank, "attention.kv_lora_rank": config.kv_lora_rank,
            "attention.key_length": config.qk_nope_head_dim + config.qk_rope_head_dim,
            "attention.value_length": config.v_head_dim,
            "rope.dimension_count": config.qk_rope_head_dim}  # fmt: skip
    return {key: value for key, value in said.items() if value is not None}


def minicpm(config: Config) -> dict[str, Any]:
    """Of a Llama's configuration that has no scales: those of its case."""
    embedding, residual, head = config.scales
    long = {"rope.scaling.type": "longrope"} if config.rope_parameters["rope_type"] == "longrope" else {}
    return {"embedding_scale": embedding, "residual_scale": residual, "logit_scale": 1.0 / head, **long}


def deepseek(config: Config, scores: int) -> dict[str, Any]:
    said, slope = latent(config) | experts(config), config.rope_parameters.get("mscale_all_dim")
    said |= {"attention.key_length_mla": said["attention.key_length"], "attention.head_count_kv": 1,
             "attention.value_length_mla": said["attention.value_length"],
             "attention.key_length": config.kv_lora_rank + config.qk_rope_head_dim,
             "attention.value_length": config.kv_lora_rank, "expert_gating_func": scores,
             "expert_weights_norm": bool(config.norm_topk_prob)}  # fmt: skip
    if getattr(config, "topk_method", "") == "greedy":  # which has one group
        said = {key: value for key, value in said.items() if "expert_group" not in key}
    return said | ({"rope.scaling.yarn_log_multiplier": 0.1 * slope} if slope else {})


OWN: dict[str, Callable[[Config], dict[str, Any]]] = {
    "cohere2": lambda config: windows(config) | {"logit_scale": float(config.logit_scale)},
    "exaone4": kinds,
    "falcon_h1": states,
    "gemma2": caps,
    "gemma3_text": caps,
    "gemma4_text": lambda config: gemma4_keys(config) | experts(config),
    "granite": scales,
    "hunyuan_v1_dense": alpha,
    "ministral3": queries,
    "olmo3": kinds,
    "phi3": windows,
    "qwen2_moe": experts,
    "qwen3_moe": experts,
    "mixtral": experts,
    "olmoe": experts,
    "granitemoe": lambda config: scales(config) | experts(config),
    "granitemoeshared": lambda config: scales(config) | shared(config),
    "granitemoehybrid": lambda config: (
        scales(config)
        | shared(config)
        | granite_states(config)
        | {"rope.scaling.finetuned": config.position_embedding_type == "rope"}
    ),
    "glm4_moe": glm_experts,
    "deepseek_v2": lambda config: deepseek(config, scores=1),
    "deepseek_v3": lambda config: deepseek(config, scores=2),
    "minicpm3": latent,
    "minicpm": minicpm,
    "gpt_oss": lambda config: (
        windows(config) | experts(config) | {"expert_feed_forward_length": config.intermediate_size}
    ),
    "qwen3_next": lambda config: experts(config) | delta_settings(config),
    "qwen3_5_text": delta_settings,
    "qwen3_5_moe_text": lambda config: experts(config) | delta_settings(config),
    "lfm2": conv_settings,
    "lfm2_moe": lambda config: {**experts(config), "expert_weights_scale": None} | conv_settings(config),
    "stablelm": lambda config: {"use_parallel_residual": config.use_parallel_residual},
}
