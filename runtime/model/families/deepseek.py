"""DeepSeek V2 and V3 (DeepSeek-AI 2024), and Kimi K2: latent attention; the first layers are dense, the others have
experts and one that all tokens share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from stemma.kernels.experts import ExpertsSpec
from stemma.runtime.model.config import Experts, ModelConfig
from stemma.runtime.model.families import latent
from stemma.runtime.model.families.family import GGUF, Family, Values
from stemma.runtime.model.families.glm4_moe import SETTINGS, SHARED, read_experts
from stemma.runtime.model.families.latent import NAMES, read_latent
from stemma.runtime.model.families.mixture import TRAINING, first_layers, without_layers_behind
from stemma.runtime.model.settings import Settings

SCORES: Mapping[Any, str] = {0: "softmax", 1: "softmax", 2: "sigmoid"}
"""What a GGUF file's number of them means; 0 is nothing said."""


def read3(settings: Settings) -> ModelConfig:
    config = read_latent(settings)
    interleaved = settings.is_on("rope_interleave", True)
    for name, known in (("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")):
        if settings.get(name, known) != known:
            settings.refuse(name, f"only {known!r} is supported in models of this type")
    attention = replace(config.attention, interleaved=interleaved)
    return replace(config, attention=attention, experts=read_experts(settings, config.mlp.activation))


def read2(settings: Settings) -> ModelConfig:
    config, inner = read_latent(settings), settings.number("moe_intermediate_size")
    method = settings.get("topk_method", "greedy")
    if method not in ("greedy", "group_limited_greedy"):
        settings.refuse("topk_method", "experts are chosen by greedy or group_limited_greedy")
    if settings.get("scoring_func", "softmax") != "softmax":
        settings.refuse("scoring_func", "experts of this type of model are chosen by softmax scores")
    if settings.get("norm_topk_prob", False):
        settings.refuse("norm_topk_prob", "transformers ignores it in models of this type, and others do not")
    grouped = method != "greedy"
    spec = ExpertsSpec(
        top_k=settings.number("num_experts_per_tok"), scaling=settings.get("routed_scaling_factor", 1.0),
        groups=settings.number("n_group", 1) if grouped else 1,
        top_groups=settings.number("topk_group", 1) if grouped else 1, activation=config.mlp.activation,
    )  # fmt: skip
    experts = Experts(
        settings.number("n_routed_experts"), inner, spec, first_layers(settings, "first_k_dense_replace"),
        shared="shared_experts", shared_intermediate=inner * settings.number("n_shared_experts"),
    )  # fmt: skip
    return replace(config, experts=experts)


def told(settings: Settings) -> dict[str, Any]:
    """The file has a tenth of YaRN's slope, which sharpens whole queries and keys; 0 is no scale of experts; layers
    that guess further tokens are counted among the others; and groups of V2 are known by their count."""
    behind, scores = settings.get("nextn_predict_layers", 0), settings.get("expert_gating_func")
    said = latent.told_sizes(settings) | {
        "block_count": settings.number("num_hidden_layers") - behind,
        "expert_weights_scale": settings.get("routed_scaling_factor") or None,
        "scoring_func": SCORES.get(scores, scores),
    }
    if settings.get("rope.scaling.type") == "yarn" and settings.get("rope.scaling.factor", 1.0) != 1.0:
        slope = settings.need("rope.scaling.yarn_log_multiplier")
        said |= {"rope.scaling.yarn_log_multiplier": None, "mscale_all_dim": slope * 10}
    return said


def has_sigmoids(values: Values, tensors: Collection[str]) -> bool:
    """What tells V3 from V2 in GGUF. Only sigmoids are corrected, in files that do not say their scores."""
    scores = values.get("expert_gating_func")
    sigmoid = any(scores == number and score == "sigmoid" for number, score in SCORES.items())
    return sigmoid or (not scores and any(".exp_probs_b." in name for name in tensors))


GGUF_OF_V2 = GGUF(
    "deepseek2", {**latent.SETTINGS, **SETTINGS}, {**latent.TENSORS, **SHARED},
    defaults={"norm_topk_prob": False, "topk_method": "group_limited_greedy"}, told=told,
)  # fmt: skip
GGUF_OF_V3 = replace(
    GGUF_OF_V2,
    tensors={**GGUF_OF_V2.tensors, "exp_probs_b.bias": "mlp.gate.e_score_correction_bias"},
    defaults={"norm_topk_prob": False},
    told=lambda settings: told(settings) | {"scoring_func": "sigmoid"},
    is_it=has_sigmoids,
)
TINY = {
    "head_dim": None, "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "kv_lora_rank": 32, "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
DEFAULTS = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128,
            "qk_nope_head_dim": 128}  # fmt: skip
DEEPSEEK_V2 = Family(
    read2,
    GGUF_OF_V2,
    defaults={**DEFAULTS, "n_routed_experts": 64, "n_shared_experts": 2, "moe_intermediate_size": 1407},
    without_effect=TRAINING | NAMES | {"n_group", "topk_group", "num_experts"},
    tiny=TINY,
    folder=without_layers_behind,
)
DEEPSEEK_V3 = Family(
    read3,
    GGUF_OF_V3,
    defaults={**DEFAULTS, "n_routed_experts": 256, "moe_intermediate_size": 2048, "routed_scaling_factor": 2.5,
              "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3},
    without_effect=TRAINING | NAMES | {"num_local_experts"},
    tiny=TINY,
    folder=without_layers_behind,
)  # fmt: skip
