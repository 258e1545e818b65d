"""DeepSeek V2 and V3 (DeepSeek-AI 2024), and Kimi K2: latent attention; the first layers are dense, the others have
experts and one that all tokens share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stemma.kernels.experts import ExpertsSpec
from stemma.runtime.model.config import MLP, Attention, Experts, Latent, ModelConfig
from stemma.runtime.model.families.family import Family
from stemma.runtime.model.families.glm4_moe import read_experts
from stemma.runtime.model.families.mixture import TRAINING, without_layers_behind
from stemma.runtime.model.families.reading import read_activation, read_sizes
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.parts.scalings import yarn_amplitude
from stemma.runtime.model.settings import Settings

NAMES = frozenset({"head_dim", "qk_head_dim", "num_key_value_heads"})


def read_latent(settings: Settings) -> ModelConfig:
    """A dense model with latent attention."""
    rotated, plain = settings.number("qk_rope_head_dim"), settings.number("qk_nope_head_dim")
    config, activation = read_sizes(settings, read_rope(settings, rotated)), read_activation(settings)
    query_rank = settings.get("q_lora_rank")
    bias = settings.get("attention_bias", False)
    value = settings.number("v_head_dim", config.hidden // config.num_heads)
    if settings.get("mlp_bias", False):
        settings.refuse("mlp_bias", "an MLP with biases is not supported in models of this type")
    return replace(
        config,
        num_kv_heads=1,
        head_dim=plain + rotated,
        attention=Attention(
            scale=(plain + rotated) ** -0.5 * _sharper(settings) ** 2, bias=bias, output_bias=bias, interleaved=True
        ),
        latent=Latent(settings.number("kv_lora_rank"), query_rank, plain, rotated, value),
        mlp=MLP(activation),
    )


def _sharper(settings: Settings) -> float:
    """What YaRN multiplies queries by, and keys likewise."""
    scaling: Mapping[str, Any] = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    slope = scaling.get("mscale_all_dim")
    return yarn_amplitude(scaling.get("factor") or 1.0, slope) if slope else 1.0


def read3(settings: Settings) -> ModelConfig:
    config = read_latent(settings)
    interleaved = settings.get("rope_interleave", True)
    for name, known in (("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")):
        if settings.get(name, known) != known:
            settings.refuse(name, f"only {known!r} is supported in models of this type")
    attention = replace(config.attention, interleaved=interleaved)
    return replace(config, attention=attention, experts=read_experts(settings, config.mlp.activation))


def read2(settings: Settings) -> ModelConfig:
    config, inner = read_latent(settings), settings.number("moe_intermediate_size")
    method = settings.get("topk_method", "greedy")
    if method not in ("greedy", "group_limited_greedy") or settings.get("scoring_func", "softmax") != "softmax":
        settings.refuse("topk_method", "experts are chosen by greedy or group_limited_greedy, of softmax scores")
    if settings.get("norm_topk_prob", False):
        settings.refuse("norm_topk_prob", "transformers ignores it in models of this type, and others do not")
    grouped = method != "greedy"
    spec = ExpertsSpec(
        top_k=settings.number("num_experts_per_tok"), scaling=settings.get("routed_scaling_factor", 1.0),
        groups=settings.number("n_group", 1) if grouped else 1,
        top_groups=settings.number("topk_group", 1) if grouped else 1, activation=config.mlp.activation,
    )  # fmt: skip
    experts = Experts(
        settings.number("n_routed_experts"), inner, spec, frozenset(range(settings.get("first_k_dense_replace", 0))),
        shared="shared_experts", shared_intermediate=inner * settings.number("n_shared_experts"),
    )  # fmt: skip
    return replace(config, experts=experts)


TINY = {
    "head_dim": None, "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "kv_lora_rank": 32, "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
DEFAULTS = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128,
            "qk_nope_head_dim": 128}  # fmt: skip
DEEPSEEK_V2 = Family(
    read2,
    defaults={**DEFAULTS, "n_routed_experts": 64, "n_shared_experts": 2, "moe_intermediate_size": 1407},
    without_effect=TRAINING | NAMES | {"n_group", "topk_group", "num_experts"},
    tiny=TINY,
    folder=without_layers_behind,
)
DEEPSEEK_V3 = Family(
    read3,
    defaults={**DEFAULTS, "n_routed_experts": 256, "moe_intermediate_size": 2048, "routed_scaling_factor": 2.5,
              "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3},
    without_effect=TRAINING | NAMES | {"num_local_experts"},
    tiny=TINY,
    folder=without_layers_behind,
)  # fmt: skip
