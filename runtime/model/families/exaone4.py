"""EXAONE 4 (LG AI Research 2025): norms behind each part and of the heads of Q and K; where some layers have a
window, the others do not rotate."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.families.olmo2 import NORMS, TENSORS
from stemma.runtime.model.families.reading import read_layers, slides_but_every
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings)
    if settings.get("sliding_window"):
        slides = slides_but_every(settings, 4)
        config = replace(config, layers=read_layers(settings, config.rope, slides, ropes=(None, config.rope)))
    return replace(config, attention=replace(config.attention, norms="head"), norms=NORMS)


EXAONE4 = Family(
    read,
    GGUF("exaone4", tensors=TENSORS),
    defaults={"num_key_value_heads": 32, "rms_norm_eps": 1e-5, "sliding_window": 4096},
    without_effect=frozenset({"sliding_window_pattern", "layer_types"}),
)
