"""Granite 4 (IBM 2025): layers of Mamba-2 with attention in a few, mostly not rotated; dense models, whose MLP is
called the shared one, and those with experts beside it. Some have attention alone."""

from __future__ import annotations

from dataclasses import replace

from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import MLP, Layer, Mamba, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family, Values
from stemma.runtime.model.families.granite import SETTINGS, scaled
from stemma.runtime.model.families.granite_moe import KEYS, SHARED, by_name, with_experts
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.families.mixture import TRAINING
from stemma.runtime.model.families.state_space import (
    IN_GGUF,
    INITIAL,
    check_activation,
    read_kinds,
    read_scan,
    ssm_tensors,
    undone,
)
from stemma.runtime.model.settings import Settings

MAMBA = Layer(None, mixer="mamba")
LAYERS = ("attention", "mamba")
OF_STATES = ("mamba_n_heads", "mamba_n_groups", "mamba_d_state", "mamba_d_head", "mamba_d_conv", "mamba_expand",
             "mamba_conv_bias", "mamba_proj_bias", "time_step_limit")  # fmt: skip


def read(settings: Settings) -> ModelConfig:
    config = scaled(read_llama(settings), settings)
    positions = settings.get("position_embedding_type", "nope")
    if positions not in ("rope", "nope"):
        settings.refuse("position_embedding_type", "heads are rotated ('rope') or not")
    rope = config.rope if positions == "rope" else None
    kinds = read_kinds(settings, LAYERS)
    if len(kinds) < config.num_layers:
        settings.refuse("layer_types", f"that is not {config.num_layers} layers")
    layers = tuple(Layer(rope) if kind == "attention" else MAMBA for kind in kinds[: config.num_layers])
    config = replace(config, layers=layers, mamba=read_mamba(settings, config.hidden) if MAMBA in layers else None)
    for name in OF_STATES:
        settings.get(name)  # nothing has a state, so they are without effect
    if settings.get("num_local_experts"):
        return with_experts(config, settings)
    names = MLP(config.mlp.activation, place="shared_mlp", gate_up="input_linear", down="output_linear")
    return replace(config, mlp=names, intermediate=settings.number("shared_intermediate_size"))


def read_mamba(settings: Settings, hidden: int) -> Mamba:
    check_activation(settings, "hidden_act")
    inner, bias = int(settings.get("mamba_expand", 2) * hidden), settings.get("mamba_proj_bias", False)
    return Mamba(
        read_scan(settings, inner, "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state"),
        settings.number("mamba_d_conv", 4), bias=bias, conv_bias=settings.get("mamba_conv_bias", True),
        output_bias=bias, place="mamba",
    )  # fmt: skip


def told(settings: Settings) -> Values:
    """Layers without heads of keys have a state; a model without experts has one MLP in each layer; and where a scale
    of the attention is not said (in Bamba's files), it is that of other models."""
    kv_heads, layers = settings.need("attention.head_count_kv"), settings.number("block_count")
    of_layers = kv_heads if isinstance(kv_heads, list) else [kv_heads] * layers
    hidden, heads = settings.number("hidden_size"), settings.number("num_attention_heads")
    dense = {"expert_shared_feed_forward_length": settings.need("intermediate_size")}
    return {
        "attention.head_count_kv": max(of_layers), "layer_types": ["attention" if n else "mamba" for n in of_layers],
        "mamba_expand": settings.number("ssm.inner_size") / hidden,
        "position_embedding_type": "rope" if settings.get("rope.scaling.finetuned", True) else "nope",
        "attention.scale": settings.get("attention_multiplier", settings.number("head_dim", hidden // heads) ** -0.5),
        **({} if settings.get("num_local_experts") else dense),
    }  # fmt: skip


def back(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    return undone(name, unpermuted(name, tensor, config), config)


TENSORS = {**ssm_tensors("mamba"), **SHARED, "ffn_gate": "shared_mlp.gate_proj", "ffn_up": "shared_mlp.up_proj",
           "ffn_down": "shared_mlp.output_linear"}  # fmt: skip
GRANITE_HYBRID = Family(
    read,
    GGUF("granitehybrid", {**SETTINGS, **KEYS, **IN_GGUF}, TENSORS, back, told=told),
    defaults={"num_local_experts": 8, "num_experts_per_tok": 2, "shared_intermediate_size": 1024, "mamba_n_heads": 128,
              "mamba_n_groups": 1, "mamba_d_state": 256},
    without_effect=INITIAL | TRAINING | {"num_experts_per_tok", "intermediate_size", "layers_block_type",
                                         "init_method", "normalization_function", "rope_theta"},
    tiny={"num_local_experts": 0, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 128,
          "mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_state": 16},
    folder=by_name,
)  # fmt: skip
