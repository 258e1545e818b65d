"""OLMo 2 and 3 (OLMo Team 2025): norms behind each part and none before, and norms of all of Q and K together; 3 has a
window in three of four layers."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig, Norms
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.families.reading import read_head_dim, read_layers, slides_but_every
from stemma.runtime.model.families.rope_settings import read_ropes
from stemma.runtime.model.settings import Settings

NORMS = Norms(
    attention=None, behind_attention="post_attention_layernorm", mlp=None, behind_mlp="post_feedforward_layernorm"
)  # fmt: skip
TENSORS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings)
    if settings.get("attention.sliding_window"):  # llama.cpp calls OLMo 3 by this name too; OLMo 2 has no window
        layers = read_layers(settings, config.rope, slides_but_every(settings, 4))
        theta = settings.get("rope_local_base_freq", config.rope.theta)
        plain = replace(config.rope, theta=theta, factors=(), amplitude=1.0)
        config = replace(config, layers=tuple(replace(one, rope=plain) if one.window else one for one in layers))
    return replace(config, attention=replace(config.attention, norms="width"), norms=NORMS)


def read3(settings: Settings) -> ModelConfig:
    theta = settings.get("rope_theta", 500000.0)
    full, local = read_ropes(settings, read_head_dim(settings), theta, theta)
    config = read_llama(settings, rotation=full)
    ropes = (full.rope, local.rope)
    return replace(
        config,
        layers=read_layers(settings, config.rope, lambda layer: (layer + 1) % 4 != 0, ropes=ropes),
        attention=replace(config.attention, norms="width"),
        norms=NORMS,
    )


OLMO2 = Family(
    read, GGUF("olmo2", {"rope_local_base_freq": "rope.freq_base_swa"}, TENSORS), defaults={"rms_norm_eps": 1e-5}
)  # fmt: skip
OLMO3 = Family(
    read3, GGUF("olmo2", tensors=TENSORS), defaults={"rms_norm_eps": 1e-5, "sliding_window": 4096}
)  # fmt: skip
