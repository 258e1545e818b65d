"""Mistral (Jiang et al. 2023): Llama with a window in every layer, in files that are called Llama's by llama.cpp."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, ModelConfig
from stemma.runtime.model.families.family import Family
from stemma.runtime.model.families.llama import LLAMA
from stemma.runtime.model.families.reading import read_activation, read_sizes, read_window
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_sizes(settings)
    return replace(
        config,
        layers=read_window(settings, config),
        mlp=MLP(activation=read_activation(settings)),
    )


MISTRAL = Family(
    read,
    LLAMA.gguf,
    defaults={"num_key_value_heads": 8, "sliding_window": 4096},
    without_effect=frozenset({"use_sliding_window", "max_window_layers", "layer_types"}),
)
