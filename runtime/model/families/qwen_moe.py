"""Qwen 1.5 to 3 with experts (Yang et al. 2025): in 1.5 and 2 also one that all tokens share."""

from __future__ import annotations

from dataclasses import replace

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import MLP, Attention, Experts, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.mixture import SHARED_TENSORS, TRAINING, sparse_layers
from stemma.runtime.model.families.reading import read_activation, read_layers, read_sizes
from stemma.runtime.model.settings import Settings


def _read(settings: Settings) -> ModelConfig:
    config, activation = read_sizes(settings), read_activation(settings)
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), renormalise=settings.get("norm_topk_prob", False), activation=activation
    )
    experts = Experts(
        _count(settings), settings.number("moe_intermediate_size"), spec,
        sparse_layers(settings, config.num_layers),
    )  # fmt: skip
    return replace(config, mlp=MLP(activation), experts=experts)


def _count(settings: Settings) -> int:
    """Hub files say num_experts; transformers 5 saves it under another name for Qwen 3."""
    return settings.number("num_local_experts" if settings.get("num_experts") is None else "num_experts")


def read2(settings: Settings) -> ModelConfig:
    config, slides = _read(settings), settings.get("use_sliding_window", False)
    first = settings.get("max_window_layers", 0)
    layers = read_layers(settings, config.rope, lambda layer: slides and layer % 2 == 0 and layer < first)
    size = settings.number("shared_expert_intermediate_size")
    assert config.experts is not None
    shared = replace(
        config.experts, shared="shared_expert", shared_intermediate=size, shared_gate="shared_expert_gate"
    )  # fmt: skip
    attention = Attention(bias=settings.get("qkv_bias", False))
    return replace(config, attention=attention, layers=layers if slides else (), experts=shared)


def read3(settings: Settings) -> ModelConfig:
    if settings.get("use_sliding_window", False):
        settings.refuse("use_sliding_window", "a window in models of this type is not supported")
    bias = settings.get("attention_bias", False)
    return replace(_read(settings), attention=Attention(norms="head", bias=bias, output_bias=bias))


def one_row(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """The shared expert's gate is a matrix of one row, and llama.cpp's converter makes a vector of it."""
    if not name.endswith("shared_expert_gate.weight"):
        return tensor
    return replace(tensor, shape=(1, config.hidden), data=tensor.data.reshape(1, -1))


QWEN2_MOE = Family(
    read2,
    GGUF("qwen2moe", {"num_experts": "expert_count", "qkv_bias": "attention_bias"},
         {**SHARED_TENSORS, "ffn_gate_inp_shexp": "mlp.shared_expert_gate"}, one_row),
    defaults={"num_key_value_heads": 16, "sliding_window": 4096, "max_window_layers": 28, "num_experts_per_tok": 4,
              "num_experts": 60, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
              "qkv_bias": True},
    without_effect=TRAINING | {"sliding_window"},
    tiny={"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
          "shared_expert_intermediate_size": 48},
)  # fmt: skip
QWEN3_MOE = Family(
    read3,
    GGUF("qwen3moe", {"num_experts": "expert_count"}, defaults={"norm_topk_prob": True}),
    defaults={"num_key_value_heads": 4, "num_experts_per_tok": 8, "num_local_experts": 128,
              "moe_intermediate_size": 768},
    without_effect=TRAINING | {"sliding_window", "max_window_layers"},
    tiny={"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
)  # fmt: skip
