"""ERNIE 4.5, the dense models (Baidu 2025): Llama that rotates neighbours."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    bias = settings.get("use_bias", False)
    config = read_llama(settings, theta=500000.0)
    attention = replace(config.attention, interleaved=True, bias=bias, output_bias=bias)
    return replace(config, attention=attention, mlp=replace(config.mlp, bias=bias))


ERNIE4_5 = Family(
    read,
    GGUF("ernie4_5", settings={"use_bias": "attention_bias"}),
    defaults={"num_key_value_heads": 2, "head_dim": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": True},
)
