"""Phi 3, 3.5, 4 and 4-mini (Abdin et al. 2024): Llama with projections that files hold as one, of which some rotate a
part of each head by LongRoPE."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, Attention, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_head_dim, read_sizes, read_window
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    rotation = read_rope(settings, read_head_dim(settings), partial=1.0)
    config = read_sizes(settings, rotation)
    return replace(
        config,
        layers=read_window(settings, config),
        attention=Attention(rotated=rotation.rotated),
        mlp=MLP(activation=read_activation(settings)),
    )


PHI3 = Family(
    read,
    GGUF("phi3", tensors={"ffn_up": "mlp.gate_up_proj"}),
    defaults={"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096},
)
