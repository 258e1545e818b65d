"""Ministral 3 (Mistral AI 2025): Mistral with YaRN, and queries that grow with their position."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import unpermuted
from stemma.runtime.model.families.reading import read_activation, read_head_dim, read_sizes, read_window
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    """Queries are multiplied by `1 + beta * log(1 + position // original)`, which is 1 in the context that the model
    was trained on first: that is the context here."""
    rotation = read_rope(settings, read_head_dim(settings), theta=1e6)
    if settings.get("attention.temperature_scale"):
        length = settings.number("attention.temperature_length")
        rotation = replace(rotation, context_length=min(rotation.context_length, length))
    config = read_sizes(settings, rotation)
    return replace(config, layers=read_window(settings, config), mlp=MLP(activation=read_activation(settings)))


YARN = {"type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0,
        "llama_4_scaling_beta": 0.1}  # fmt: skip
MINISTRAL3 = Family(
    read,
    GGUF("mistral3", undo=unpermuted),
    defaults={"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5, "rope_parameters": YARN},
    without_effect=frozenset({"layer_types"}),
)
