"""Tiny models with layers that are not full: with a window (and other heads there), with a state, and with both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from stemma.kernels.ops import Ops
from stemma.runtime.model import LoadedModel
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults, ModelConfig
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors

WINDOW = 8
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "window": "gpt_oss",
        "state": "qwen3_5_text",
        "conv": "lfm2",
        "scan": "mamba2",
        "both": "qwen3_5_text",
        "heads": "gemma4_text",
    }
)


def config_of(kind: str) -> ModelConfig:
    config = tiny_config(KINDS[kind])
    if kind in ("window", "both"):
        layers = [config.layer(index) for index in range(config.num_layers)]
        windowed = [replace(layer, window=WINDOW) if layer.attends else layer for layer in layers]
        if kind == "window":
            windowed[-1] = replace(layers[-1], window=None)
        config = replace(config, layers=tuple(windowed))
    if kind == "heads":  # of windows, and KV that layers share
        config = replace(config, layers=tuple(layer if layer.window is None else replace(layer, window=WINDOW)
                                              for layer in config.layers))  # fmt: skip
    return config


def marked(ops: Ops, kind: str) -> LoadedModel:
    """A model of two layers or a few more, with a window of WINDOW tokens where it has one."""
    config = config_of(kind)
    return assemble(Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,))), ops)
