"""A model as it lies on disk, read but not yet packed for a device: the one form that every file format becomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import EmbeddingDefaults, GenerationDefaults, ModelConfig
from stemma.runtime.model.undone import as_stored


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What describes a tokenizer and its chat template.

    spec: the contents of a `tokenizer.json`.
    special: the texts that stand for roles in a template, by role: bos_token, eos_token, ...
    adds_bos: whether a plain prompt begins with the bos token; None leaves it to the spec's post-processor.
    adds_eos: whether a text that is embedded ends with the eos token; None likewise.
    chat_template: Jinja source.
    tool_template: another for chats with tools, where the model has one.
    """

    spec: dict[str, Any]
    special: Mapping[str, str]
    adds_bos: bool | None
    chat_template: str | None
    tool_template: str | None = None
    adds_eos: bool | None = None


class Stored(NamedTuple):
    """How a model lies on disk. type: of most of its numbers, by GGUF's name."""

    form: Literal["gguf", "safetensors"]
    type: str
    num_parameters: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that was read. tensors: memory maps, by Hugging Face's names. file_names: the file's own, by those.

    embedding: None for a model whose files do not say that it makes embeddings.
    """

    config: ModelConfig
    tensors: Mapping[str, StoredWeight]
    tokenizer: TokenizerFiles
    generation: GenerationDefaults
    file_names: Mapping[str, str] = field(default_factory=dict)
    embedding: EmbeddingDefaults | None = None

    @property
    def stored(self) -> Stored:
        """What there is to tell of its files."""
        sizes = Counter[str]()
        tensors = as_stored(self.tensors).values()
        for tensor in tensors:
            sizes[tensor.type] += math.prod(tensor.shape)
        ((most, _),) = sizes.most_common(1)
        num_bytes = sum(tensor.num_bytes for tensor in tensors)
        return Stored("gguf" if self.file_names else "safetensors", most, sizes.total(), num_bytes)
