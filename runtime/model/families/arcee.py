"""AFM (Arcee 2025): Llama with an MLP of squared ReLUs and no gate."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.families.reading import read_activation
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings)
    return replace(config, mlp=MLP(read_activation(settings, "relu2"), bias=config.mlp.bias, gate=None))


ARCEE = Family(read, GGUF("arcee", undo=unpermuted), defaults={"rms_norm_eps": 1e-5})
