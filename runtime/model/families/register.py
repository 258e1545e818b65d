"""The register of model families: to add one, write its file and a line here. The names are Hugging Face's `model_type`
and GGUF's `general.architecture`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.families.llama import Llama
from stemma.runtime.model.families.protocol import BuildModel
from stemma.runtime.model.families.qwen2 import Qwen2
from stemma.runtime.model.families.qwen3 import Qwen3

FAMILIES: Mapping[str, BuildModel] = MappingProxyType(
    {"llama": Llama, "mistral": Llama, "qwen2": Qwen2, "qwen3": Qwen3}
)


def check_supported(family: str) -> None:
    """Raises UnsupportedModel for a name that is not in the register."""
    if family not in FAMILIES:
        raise UnsupportedModel(f"models of type {family!r} are not supported; supported: {', '.join(sorted(FAMILIES))}")
