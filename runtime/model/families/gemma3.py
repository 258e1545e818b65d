"""Gemma 3, the text of it (Gemma Team 2025): norms of the heads of Q and K in place of soft caps, a window in five of
six layers, and another rotation in these."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.gemma import one_less
from stemma.runtime.model.families.gemma2 import TENSORS, with_caps
from stemma.runtime.model.families.reading import read_head_dim, read_layers, read_sizes, slides_but_every
from stemma.runtime.model.families.rope_settings import read_ropes
from stemma.runtime.model.settings import Settings

LARGEST = 62
"""Layers of the largest one. Folders of those that see say few of their sizes: the others are this family's own."""


def read(settings: Settings) -> ModelConfig:
    """A soft cap of attention may be said, and caps nothing, as in transformers and llama.cpp."""
    local_theta = settings.get("rope_local_base_freq", 10000.0)
    full, local = read_ropes(settings, read_head_dim(settings), theta=1e6, local_theta=local_theta)
    config = with_caps(read_sizes(settings, full), settings, LARGEST)
    return replace(
        config,
        layers=read_layers(settings, full.rope, slides_but_every(settings, 6), ropes=(full.rope, local.rope)),
        attention=replace(config.attention, norms="head", softcap=None),
    )


GEMMA3 = Family(
    read,
    GGUF("gemma3", {"rope_local_base_freq": "rope.freq_base_swa"}, TENSORS, one_less, {"sliding_window": 1024}),
    defaults={"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
              "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
              "tie_word_embeddings": True, "query_pre_attn_scalar": 256, "sliding_window": 4096},
    without_effect=frozenset({"hidden_act", "cache_implementation", "attn_logit_softcapping"}),
)  # fmt: skip
