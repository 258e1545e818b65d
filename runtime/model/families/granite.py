"""Granite 3 and the dense models of 4 (IBM 2024): Llama with four scales, of embeddings, attention, what each part
adds, and logits."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, ModelConfig, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.settings import Settings

MAMBA = frozenset(
    f"mamba_{name}" for name in ("n_heads", "n_groups", "d_state", "d_head", "d_conv", "expand", "chunk_size",
                                 "conv_bias", "proj_bias")
)  # fmt: skip


def read(settings: Settings) -> ModelConfig:
    return scaled(read_llama(settings), settings)


def scaled(config: ModelConfig, settings: Settings) -> ModelConfig:
    """With the four scales."""
    return replace(
        config,
        attention=replace(config.attention, scale=settings.get("attention_multiplier", 1.0)),
        scales=Scales(
            embedding=settings.get("embedding_multiplier", 1.0),
            residual=settings.get("residual_multiplier", 1.0),
            logits=1.0 / settings.get("logits_scaling", 1.0),
        ),
    )


def read_hybrid(settings: Settings) -> ModelConfig:
    """Granite 4 without state layers and experts: its MLP is called the shared one."""
    config = read(settings)
    kinds = settings.get("layer_types") or ["linear_attention"]
    if set(kinds) - {"attention", "full_attention"}:
        settings.refuse("layer_types", "layers with a state are not supported")
    if settings.get("num_local_experts", 8):
        settings.refuse("num_local_experts", "experts in this type of model are not supported")
    if settings.get("position_embedding_type") != "rope":
        config = replace(config, layers=(replace(config.layer(0), rope=None),) * config.num_layers)
    names = MLP(config.mlp.activation, place="shared_mlp", gate_up="input_linear", down="output_linear")
    return replace(config, mlp=names, intermediate=settings.number("shared_intermediate_size", 1024))


SETTINGS = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}
GRANITE = Family(read, GGUF("granite", SETTINGS, undo=unpermuted))
GRANITE_HYBRID = Family(
    read_hybrid,
    GGUF("granite", SETTINGS, undo=unpermuted),
    without_effect=MAMBA | {"num_experts_per_tok", "output_router_logits", "router_aux_loss_coef", "time_step_limit",
                            "intermediate_size", "layers_block_type", "init_method", "normalization_function",
                            "rope_theta"},
    tiny={"num_local_experts": 0, "layer_types": ["attention"] * 2, "shared_intermediate_size": 128},
)  # fmt: skip
