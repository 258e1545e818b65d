"""Qwen 3, the dense models (Yang et al. 2025): RMS norms of each head of Q and K before the rotation."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import Attention, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.qwen2 import DEFAULTS, read_windows
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    bias = settings.get("attention_bias", False)
    return replace(read_windows(settings), attention=Attention(norms="head", bias=bias, output_bias=bias))


QWEN3 = Family(read, GGUF("qwen3"), defaults={**DEFAULTS, "head_dim": 128})
