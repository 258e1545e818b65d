"""Seed-OSS (ByteDance 2025): Llama with biases of Q, K and V."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings)
    return replace(
        config, attention=replace(config.attention, output_bias=settings.get("attention_out_bias", False))
    )  # fmt: skip


SEED_OSS = Family(
    read,
    GGUF("seed_oss", settings={"attention_out_bias": "output_bias"},
         tensors={"post_attention_norm": "post_attention_layernorm"}),
    defaults={"num_key_value_heads": 8, "head_dim": 128, "attention_bias": True},
)  # fmt: skip
