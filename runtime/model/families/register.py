"""The register of model families: to add one, write its file and a line here. The names are Hugging Face's
`model_type`; a GGUF file names the architecture that its family says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.families.arcee import ARCEE
from stemma.runtime.model.families.cohere2 import COHERE2
from stemma.runtime.model.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from stemma.runtime.model.families.ernie4_5 import ERNIE4_5
from stemma.runtime.model.families.exaone4 import EXAONE4
from stemma.runtime.model.families.falcon_h1 import FALCON_H1
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.gemma import GEMMA
from stemma.runtime.model.families.gemma2 import GEMMA2
from stemma.runtime.model.families.gemma3 import GEMMA3
from stemma.runtime.model.families.gemma4 import GEMMA4
from stemma.runtime.model.families.glm4 import GLM, GLM4
from stemma.runtime.model.families.glm4_moe import GLM4_MOE
from stemma.runtime.model.families.gpt_oss import GPT_OSS
from stemma.runtime.model.families.granite import GRANITE
from stemma.runtime.model.families.granite_hybrid import GRANITE_HYBRID
from stemma.runtime.model.families.granite_moe import GRANITE_MOE
from stemma.runtime.model.families.hunyuan import HUNYUAN
from stemma.runtime.model.families.lfm2 import LFM2, LFM2_MOE
from stemma.runtime.model.families.llama import LLAMA
from stemma.runtime.model.families.mamba2 import MAMBA2
from stemma.runtime.model.families.minicpm import MINICPM
from stemma.runtime.model.families.minicpm3 import MINICPM3
from stemma.runtime.model.families.ministral3 import MINISTRAL3
from stemma.runtime.model.families.mistral import MINISTRAL, MISTRAL
from stemma.runtime.model.families.mixtral import MIXTRAL
from stemma.runtime.model.families.nemotron_h import NEMOTRON_H
from stemma.runtime.model.families.olmo2 import OLMO2, OLMO3
from stemma.runtime.model.families.olmoe import OLMOE
from stemma.runtime.model.families.phi3 import PHI3
from stemma.runtime.model.families.qwen2 import QWEN2
from stemma.runtime.model.families.qwen3 import QWEN3
from stemma.runtime.model.families.qwen3_5 import QWEN3_5, QWEN3_5_MOE
from stemma.runtime.model.families.qwen3_next import QWEN3_NEXT
from stemma.runtime.model.families.qwen_moe import QWEN2_MOE, QWEN3_MOE
from stemma.runtime.model.families.seed_oss import SEED_OSS
from stemma.runtime.model.families.smollm3 import SMOLLM3
from stemma.runtime.model.families.stablelm import STABLELM
from stemma.runtime.model.families.starcoder2 import STARCODER2

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "mixtral": MIXTRAL,
        "llama": LLAMA,
        "mistral": MISTRAL,
        "qwen2": QWEN2,
        "qwen3": QWEN3,
        "arcee": ARCEE,
        "cohere2": COHERE2,
        "ernie4_5": ERNIE4_5,
        "exaone4": EXAONE4,
        "falcon_h1": FALCON_H1,
        "gemma": GEMMA,
        "gemma2": GEMMA2,
        "gemma3_text": GEMMA3,
        "gemma4_text": GEMMA4,
        "glm": GLM,
        "glm4": GLM4,
        "granite": GRANITE,
        "granitemoehybrid": GRANITE_HYBRID,
        "hunyuan_v1_dense": HUNYUAN,
        "mamba2": MAMBA2,
        "minicpm": MINICPM,
        "ministral": MINISTRAL,
        "ministral3": MINISTRAL3,
        "nemotron_h": NEMOTRON_H,
        "olmo2": OLMO2,
        "olmo3": OLMO3,
        "phi3": PHI3,
        "seed_oss": SEED_OSS,
        "smollm3": SMOLLM3,
        "stablelm": STABLELM,
        "starcoder2": STARCODER2,
        "deepseek_v3": DEEPSEEK_V3,
        "deepseek_v2": DEEPSEEK_V2,
        "minicpm3": MINICPM3,
        "glm4_moe": GLM4_MOE,
        "gpt_oss": GPT_OSS,
        "granitemoe": GRANITE_MOE,
        "granitemoeshared": GRANITE_MOE,
        "olmoe": OLMOE,
        "qwen2_moe": QWEN2_MOE,
        "qwen3_moe": QWEN3_MOE,
        "qwen3_next": QWEN3_NEXT,
        "qwen3_5_text": QWEN3_5,
        "qwen3_5_moe_text": QWEN3_5_MOE,
        "lfm2": LFM2,
        "lfm2_moe": LFM2_MOE,
    }
)
ARCHITECTURES = frozenset().union(*(family.gguf.architectures for family in FAMILIES.values() if family.gguf))
"""What GGUF files name."""


def find_family(model_type: str) -> Family:
    """A family by Hugging Face's name. Raises UnsupportedModel for one that is not in the register."""
    if model_type not in FAMILIES:
        raise _unknown(model_type, FAMILIES)
    return FAMILIES[model_type]


def find_architecture(
    architecture: str, values: Mapping[str, Any], tensors: Collection[str]
) -> tuple[str, Family, GGUF]:  # fmt: skip
    """A family and its name by GGUF's: the first in the register of those that the file may be. values: its keys
    behind the architecture. Raises UnsupportedModel for one that is not in the register."""
    for name, family in FAMILIES.items():
        gguf = family.gguf
        if gguf is not None and architecture in gguf.architectures and gguf.is_it(values, tensors):
            return name, family, gguf
    raise _unknown(architecture, ARCHITECTURES)


def _unknown(name: str, known: Collection[str]) -> UnsupportedModel:
    return UnsupportedModel(f"models of type {name!r} are not supported; supported: {', '.join(sorted(known))}")
