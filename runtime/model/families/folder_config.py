"""A config.json as a `ModelConfig`, by its family. Opens no file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.register import find_family
from stemma.runtime.model.settings import ASKED_CONTEXT, WITHOUT_EFFECT, Settings


def read_config(raw: Mapping[str, Any], name: str, context_length: int | None = None) -> ModelConfig:
    """The configuration that a config.json describes.

    context_length: asked for. Raises UnsupportedModel for a setting that is not run.
    """
    model_type = str(raw.get("model_type", ""))
    family = find_family(model_type)
    settings = Settings({**raw, ASKED_CONTEXT: context_length}, "config.json", defaults=family.defaults)
    with settings.wrong_kinds_refused():
        config = replace(family.read(settings), name=name, family=model_type)
    settings.check_all_used(WITHOUT_EFFECT | family.without_effect)
    return config


def check_biases(raw: Mapping[str, Any], config: ModelConfig, tensors: Collection[str]) -> None:
    """Raises UnsupportedModel where the configuration and the tensors disagree about biases of the attention."""
    said = config.attention.bias
    held = any(name.endswith(("q_proj.bias", "qkv_proj.bias", "kv_a_proj_with_mqa.bias")) for name in tensors)
    if said != held and (held or "attention_bias" in raw):
        raise UnsupportedModel(
            f"config.json sets 'attention_bias' to {said}, but the files hold {'' if held else 'no '}biases of the "
            "attention; correct the setting, or fetch the model again"
        )


def network_tensors(config: ModelConfig, tensors: Mapping[str, StoredWeight]) -> dict[str, StoredWeight]:
    """A folder's tensors as its family's network takes them."""
    return find_family(config.family).folder(tensors, config)
