"""MiniCPM 3 (OpenBMB 2024): latent attention, rotated as halves, and MiniCPM's three scales."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families import latent
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.latent import NAMES, read_latent
from stemma.runtime.model.families.minicpm import with_scales
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_latent(settings)
    return with_scales(replace(config, attention=replace(config.attention, interleaved=False)), settings)


SCALES = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}
"""Which a GGUF file does not say at all: llama.cpp knows them by the model's name."""
MINICPM3 = Family(
    read,
    GGUF("minicpm3", latent.SETTINGS, latent.TENSORS, defaults=SCALES, told=latent.told_sizes),
    defaults={"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "kv_lora_rank": 256, "q_lora_rank": 768,
              "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, **SCALES},
    without_effect=NAMES,
    tiny={"head_dim": None, "kv_lora_rank": 32, "q_lora_rank": 24, "qk_nope_head_dim": 16,
          "qk_rope_head_dim": 8, "v_head_dim": 16, "dim_model_base": 64},
)  # fmt: skip
