"""MiniCPM 1 to 4 (Hu et al. 2024): Llama with three scales, of embeddings, of what each part adds, and of logits."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    """llama.cpp's converter writes the scales as they are multiplied."""
    return with_scales(read_llama(settings), settings)


def with_scales(config: ModelConfig, settings: Settings) -> ModelConfig:
    """The three scales; a null is none."""
    depth = settings.get("scale_depth", config.num_layers**0.5) / config.num_layers**0.5
    width = settings.get("dim_model_base", config.hidden) / config.hidden
    return replace(
        config,
        scales=Scales(
            embedding=settings.get("scale_emb", 1.0),
            residual=settings.amount(RESIDUAL, depth),
            logits=1.0 / settings.amount(LOGITS, 1.0 / width),
        ),
    )


RESIDUAL, LOGITS = "residual.scale", "logits.scale"
"""Settings of no config.json."""
MINICPM = Family(
    read,
    GGUF(
        "minicpm",
        settings={"scale_emb": "embedding_scale", RESIDUAL: "residual_scale", LOGITS: "logit_scale"},
        undo=unpermuted,
    ),
    without_effect=frozenset({"num_experts", "mup_denominator"}),
)
