"""Mixtral (Jiang et al. 2024): Mistral with experts in every layer."""

from __future__ import annotations

from dataclasses import replace

from stemma.kernels.experts import ExpertsSpec
from stemma.runtime.model.config import Experts, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.families.mixture import TRAINING
from stemma.runtime.model.families.reading import read_window
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings, theta=1e6)
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), "softmax of the chosen", activation=config.mlp.activation
    )  # fmt: skip
    experts = Experts(
        settings.number("num_local_experts"), config.intermediate, spec, place="block_sparse_moe",
        gate="w1", up="w3", down="w2",
    )  # fmt: skip
    return replace(config, layers=read_window(settings, config), experts=experts)


MIXTRAL = Family(
    read,
    GGUF(
        "llama",
        {"num_local_experts": "expert_count"},
        {
            "ffn_gate_inp": "block_sparse_moe.gate",
            "ffn_gate_exps": "block_sparse_moe.experts.w1",
            "ffn_up_exps": "block_sparse_moe.experts.w3",
            "ffn_down_exps": "block_sparse_moe.experts.w2",
        },
        unpermuted,
        is_it=lambda values, tensors: bool(values.get("expert_count")),
    ),
    defaults={"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "num_experts_per_tok": 2, "num_local_experts": 8},
    without_effect=TRAINING,
    tiny={"num_local_experts": 4},
)
