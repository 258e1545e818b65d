"""The register of model families: to add one, write its file and a line here. The names are Hugging Face's
`model_type`; a GGUF file names the architecture that its family says."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.families.family import Family
from stemma.runtime.model.families.llama import LLAMA
from stemma.runtime.model.families.mistral import MISTRAL
from stemma.runtime.model.families.qwen2 import QWEN2
from stemma.runtime.model.families.qwen3 import QWEN3

FAMILIES: Mapping[str, Family] = MappingProxyType({"llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2, "qwen3": QWEN3})
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {family.gguf.architecture: name for name, family in reversed(list(FAMILIES.items()))}
)
"""Families by the architecture that GGUF files name; of several with one, the first in the register."""


def find_family(model_type: str) -> Family:
    """A family by Hugging Face's name. Raises UnsupportedModel for one that is not in the register."""
    if model_type not in FAMILIES:
        raise _unknown(model_type, FAMILIES)
    return FAMILIES[model_type]


def find_architecture(architecture: str) -> tuple[str, Family]:
    """A family and its name by GGUF's. Raises UnsupportedModel for one that is not in the register."""
    if architecture not in ARCHITECTURES:
        raise _unknown(architecture, ARCHITECTURES)
    return ARCHITECTURES[architecture], FAMILIES[ARCHITECTURES[architecture]]


def _unknown(name: str, known: Mapping[str, object]) -> UnsupportedModel:
    return UnsupportedModel(f"models of type {name!r} are not supported; supported: {', '.join(sorted(known))}")
