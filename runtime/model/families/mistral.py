"""Mistral (Jiang et al. 2023): Llama with a window in every layer, in files that are called Llama's by llama.cpp.
Ministral (Mistral AI 2024), which may be called a Mistral too, says which of its layers have the window."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, ModelConfig
from stemma.runtime.model.families.family import Family
from stemma.runtime.model.families.llama import LLAMA
from stemma.runtime.model.families.reading import read_activation, read_layers, read_sizes
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config, windowed = read_sizes(settings), bool(settings.get("sliding_window"))
    return replace(
        config,
        layers=read_layers(settings, config.rope, slides=lambda layer: windowed),
        mlp=MLP(activation=read_activation(settings)),
    )


MISTRAL = Family(
    read,
    LLAMA.gguf,
    defaults={"num_key_value_heads": 8, "sliding_window": 4096},
    without_effect=frozenset({"use_sliding_window", "max_window_layers"}),
)
MINISTRAL = replace(MISTRAL, gguf=None)
"""Its GGUF files are Llama's, and of no other name."""
