"""Gemma 1 (Gemma Team 2024): norms multiply by one more than their weight, embeddings are scaled by the root of their
length, and the gate is a GELU."""

from __future__ import annotations

from dataclasses import replace

from stemma.kernels.ops import Activation
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.config import MLP, Attention, ModelConfig, Norms, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_sizes
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config, bias = read_sizes(settings), settings.get("attention_bias", False)
    return replace(
        config,
        attention=Attention(bias=bias, output_bias=bias),
        mlp=MLP(activation=_activation(settings)),
        norms=Norms(one_more=True),
        scales=Scales(embedding=config.hidden**0.5),
    )


def _activation(settings: Settings) -> Activation:
    """Early files say gelu and mean its approximation, as all of Gemma's do."""
    named = read_activation(settings, "gelu_tanh", "hidden_act")
    return "gelu_tanh" if named == "gelu" else named


def one_less(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """Norms as Hugging Face has them; llama.cpp's converter stores them with the one added."""
    if not name.endswith("norm.weight"):
        return tensor
    return StoredWeight("F32", tensor.shape, dequantize(tensor) - 1)


GEMMA = Family(
    read,
    GGUF("gemma", undo=one_less),
    defaults={"num_key_value_heads": 16, "head_dim": 256, "tie_word_embeddings": True},
    without_effect=frozenset({"hidden_activation"}),
)
