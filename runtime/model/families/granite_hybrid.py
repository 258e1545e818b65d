"""The models of Granite 4 without state layers (IBM 2025): dense ones, whose MLP is called the shared one, and those
with experts beside it."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, ModelConfig
from stemma.runtime.model.families.family import Family
from stemma.runtime.model.families.granite import GRANITE, scaled, unrotated
from stemma.runtime.model.families.granite_moe import by_name, with_experts
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.families.mixture import TRAINING
from stemma.runtime.model.settings import Settings

MAMBA = frozenset(
    f"mamba_{name}" for name in ("n_heads", "n_groups", "d_state", "d_head", "d_conv", "expand", "chunk_size",
                                 "conv_bias", "proj_bias")
)  # fmt: skip


def read(settings: Settings) -> ModelConfig:
    config = scaled(read_llama(settings), settings)
    kinds = settings.get("layer_types") or ["linear_attention"]
    if set(kinds) - {"attention", "full_attention"}:
        settings.refuse("layer_types", "layers with a state are not supported")
    if settings.get("position_embedding_type") != "rope":
        config = unrotated(config)
    if settings.get("num_local_experts"):
        return with_experts(config, settings)
    names = MLP(config.mlp.activation, place="shared_mlp", gate_up="input_linear", down="output_linear")
    return replace(config, mlp=names, intermediate=settings.number("shared_intermediate_size"))


GRANITE_HYBRID = Family(
    read,
    GRANITE.gguf,
    defaults={"num_local_experts": 8, "num_experts_per_tok": 2, "shared_intermediate_size": 1024},
    without_effect=MAMBA | TRAINING | {"num_experts_per_tok", "time_step_limit", "intermediate_size",
                                       "layers_block_type", "init_method", "normalization_function", "rope_theta"},
    tiny={"num_local_experts": 0, "layer_types": ["attention"] * 2, "shared_intermediate_size": 128},
    folder=by_name,
)  # fmt: skip
