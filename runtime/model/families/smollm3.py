"""SmolLM 3 (Bakouch et al. 2025): Llama without a rotation in every fourth layer."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.families.reading import read_layers
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings, theta=2000000.0)
    every = settings.get("no_rope_layer_interval", 4)
    rotated = settings.get("no_rope_layers") or [(layer + 1) % every for layer in range(config.num_layers)]
    if len(rotated) != config.num_layers:
        settings.refuse("no_rope_layers", f"that is not {config.num_layers} layers")
    slides = settings.get("use_sliding_window", False)
    layers = read_layers(settings, config.rope, slides=lambda layer: slides and not rotated[layer])
    layers = layers or (config.layer(0),) * config.num_layers
    return replace(
        config,
        layers=tuple(layer if on else replace(layer, rope=None) for layer, on in zip(layers, rotated, strict=True)),
    )


SMOLLM3 = Family(
    read,
    GGUF("smollm3", undo=unpermuted),
    defaults={"num_key_value_heads": 4, "tie_word_embeddings": True},
)
