"""Command R7B and A (Cohere 2025): attention and MLP read the same layer norm and are added together; three of four
layers have a window and rotate neighbours, the others see all and do not rotate."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig, Norms, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.families.reading import read_layers, slides_but_every
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings, epsilon="layer_norm_eps")
    slides = slides_but_every(settings, 4)
    return replace(
        config,
        layers=read_layers(settings, config.rope, slides, ropes=(None, config.rope)),
        attention=replace(config.attention, interleaved=True),
        norms=Norms(mlp=None, kind="layer", parallel=True),
        scales=Scales(logits=settings.amount("logit_scale", 1.0)),
    )


COHERE2 = Family(
    read,
    GGUF("cohere2"),
    defaults={"layer_norm_eps": 1e-5, "tie_word_embeddings": True, "sliding_window": 4096, "logit_scale": 0.0625},
    without_effect=frozenset({"order_of_interleaved_layers", "position_embedding_type", "rotary_pct", "head_dim",
                              "use_embedding_sharing", "use_gated_activation", "use_parallel_block",
                              "use_parallel_embedding", "use_qk_norm", "cache_implementation"}),
    tiny={"rms_norm_eps": None, "layer_norm_eps": 1e-5},
)  # fmt: skip
