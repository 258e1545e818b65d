"""Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases of Q, K and V, and windows in the upper layers of some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from stemma.runtime.model.config import MLP, Attention, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_layers, read_sizes
from stemma.runtime.model.settings import Settings

DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28}
)


def read(settings: Settings) -> ModelConfig:
    return replace(read_windows(settings), attention=Attention(bias=True))


def read_windows(settings: Settings) -> ModelConfig:
    """Llama's configuration with Qwen's windows: from the layer on that is named."""
    config = read_sizes(settings)
    slides, first = settings.get("use_sliding_window", False), settings.get("max_window_layers", config.num_layers)
    layers = read_layers(settings, config.rope, slides=lambda layer: slides and layer >= first)
    return replace(config, layers=layers if slides else (), mlp=MLP(activation=read_activation(settings)))


QWEN2 = Family(read, GGUF("qwen2"), defaults=DEFAULTS)
