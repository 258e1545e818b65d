"""Granite 3 (IBM 2024): Llama with four scales, of embeddings, attention, what each part adds, and logits."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import Layer, ModelConfig, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    return scaled(read_llama(settings), settings)


def scaled(config: ModelConfig, settings: Settings) -> ModelConfig:
    """With the four scales; and without a rotation where a GGUF file says so, by a name that means otherwise."""
    if not settings.get("rope.scaling.finetuned", True):
        config = unrotated(config)
    return replace(
        config,
        attention=replace(config.attention, scale=settings.amount("attention_multiplier", 1.0)),
        scales=Scales(
            embedding=settings.amount("embedding_multiplier", 1.0),
            residual=settings.amount("residual_multiplier", 1.0),
            logits=1.0 / settings.amount("logits_scaling", 1.0),
        ),
    )


def unrotated(config: ModelConfig) -> ModelConfig:
    return replace(config, layers=(Layer(None),) * config.num_layers)


SETTINGS = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}
GRANITE = Family(read, GGUF("granite", SETTINGS, undo=unpermuted))
