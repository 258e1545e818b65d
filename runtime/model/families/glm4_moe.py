"""GLM 4.5 to 4.7 (GLM Team 2025): half of each head is rotated, as halves; the first layers are dense, the others have
experts that are chosen by corrected sigmoids, and one that all tokens share."""

from __future__ import annotations

from dataclasses import replace

from stemma.kernels.experts import Activation, ExpertsSpec
from stemma.runtime.model.config import MLP, Attention, Experts, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.mixture import TRAINING, first_layers, without_layers_behind
from stemma.runtime.model.families.reading import read_activation, read_head_dim, read_sizes
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.settings import Settings

SHARED = {f"ffn_{name}_shexp": f"mlp.shared_experts.{name}_proj" for name in ("gate", "up", "down")}


def read(settings: Settings) -> ModelConfig:
    rotation = read_rope(settings, read_head_dim(settings), partial=0.5)
    config, activation = read_sizes(settings, rotation), read_activation(settings)
    num_layers = config.num_layers - settings.get("nextn_predict_layers", 0)
    return replace(
        config,
        num_layers=num_layers,
        attention=Attention(
            rotated=rotation.rotated,
            norms="head" if settings.get("use_qk_norm", False) else None,
            bias=settings.get("attention_bias", False),
        ),
        mlp=MLP(activation),
        experts=read_experts(settings, activation),
    )


def read_experts(settings: Settings, activation: Activation) -> Experts:
    """As DeepSeek V3 has them."""
    inner = settings.number("moe_intermediate_size")
    spec = ExpertsSpec(
        top_k=settings.number("num_experts_per_tok"), score="sigmoid",
        renormalise=settings.is_on("norm_topk_prob", True), scaling=settings.get("routed_scaling_factor", 1.0),
        groups=settings.number("n_group", 1), top_groups=settings.number("topk_group", 1), group_score="two best",
        activation=activation,
    )  # fmt: skip
    return Experts(
        settings.number("n_routed_experts"), inner, spec, first_layers(settings, "first_k_dense_replace"),
        correction=True, shared="shared_experts",
        shared_intermediate=inner * settings.number("n_shared_experts", 1),
    )  # fmt: skip


SETTINGS = {
    "n_routed_experts": "expert_count", "n_shared_experts": "expert_shared_count", "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count", "first_k_dense_replace": "leading_dense_block_count",
    "routed_scaling_factor": "expert_weights_scale",
}  # fmt: skip
GLM4_MOE = Family(
    read,
    GGUF("glm4moe", SETTINGS,
         {**SHARED, "exp_probs_b.bias": "mlp.gate.e_score_correction_bias",
          "post_attention_norm": "post_attention_layernorm"},
         without_effect=frozenset({"expert_gating_func"})),
    defaults={"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "moe_intermediate_size": 1408, "num_experts_per_tok": 8,
              "n_routed_experts": 128, "first_k_dense_replace": 1},
    without_effect=TRAINING | {"num_local_experts"},
    tiny={"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    folder=without_layers_behind,
)  # fmt: skip
