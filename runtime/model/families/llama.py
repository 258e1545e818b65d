"""Llama 1 to 3 (Touvron et al. 2023), SmolLM 1 and 2, and all that is built like them: pre-norm blocks of rotary
attention with grouped heads and a SwiGLU MLP. The configuration's defaults are this family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import MLP, Attention, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_head_dim, read_sizes, read_window
from stemma.runtime.model.families.rope_settings import Rotation, read_rope
from stemma.runtime.model.settings import Settings


def read_llama(
    settings: Settings, theta: float = 10000.0, rotation: Rotation | None = None, epsilon: str = "rms_norm_eps"
) -> ModelConfig:
    """theta, epsilon: of the rotation that a file means that does not say, and the norms' setting."""
    rotation = rotation or read_rope(settings, read_head_dim(settings), theta)
    bias = settings.get("attention_bias", False)
    return replace(
        read_sizes(settings, rotation, epsilon),
        attention=Attention(bias=bias, output_bias=settings.get("output_bias", bias)),
        mlp=MLP(activation=read_activation(settings), bias=settings.get("mlp_bias", False)),
    )


def read(settings: Settings) -> ModelConfig:
    """Files of llama.cpp call a Mistral a Llama, and say its window; a config.json of a Llama has none."""
    config = read_llama(settings)
    return replace(config, layers=read_window(settings, config, "attention.sliding_window"))


def unpermuted(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """The rows of Q and K in the order of rotary halves; llama.cpp's converter interleaves them:

        in the file  0 h 1 h+1 2 h+2 ...      here  0 1 2 ... h h+1 h+2 ...      h = head_dim / 2, in each head

    Whole rows move, so quantised ones move as they are.
    """
    num_heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}.get(name.split(".")[-2])
    if num_heads is None:
        return tensor
    rows = np.arange(tensor.shape[0]).reshape(num_heads, config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
    return replace(tensor, data=tensor.data[rows])


LLAMA = Family(
    read,
    GGUF("llama", undo=unpermuted),
    without_effect=frozenset({"sliding_window", "use_sliding_window", "max_window_layers", "layer_types"}),
)
