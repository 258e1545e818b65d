"""OLMoE (Muennighoff et al. 2024): experts in every layer, and norms of all of Q and K together."""

from __future__ import annotations

from dataclasses import replace

from stemma.kernels.experts import ExpertsSpec
from stemma.runtime.model.config import Experts, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.families.mixture import TRAINING
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings)
    if settings.get("clip_qkv") is not None:
        settings.refuse("clip_qkv", "clipped queries, keys and values are not supported")
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), renormalise=settings.get("norm_topk_prob", False),
        activation=config.mlp.activation,
    )  # fmt: skip
    experts = Experts(settings.number("num_experts"), config.intermediate, spec)
    return replace(config, attention=replace(config.attention, norms="width"), experts=experts)


OLMOE = Family(
    read,
    GGUF("olmoe", {"num_experts": "expert_count"}),
    defaults={"rms_norm_eps": 1e-5, "num_experts_per_tok": 8, "num_experts": 64},
    without_effect=TRAINING,
    tiny={"num_experts": 4, "num_experts_per_tok": 2},
)
