"""What a family's file says: how its configuration is read, and what is its own in names and in GGUF files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stemma.kernels.memory import Memory, Plans, ReadRows
from stemma.kernels.ops import Int32Array, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.settings import Settings

ReadConfig = Callable[[Settings], ModelConfig]
Undo = Callable[[str, StoredWeight, ModelConfig], StoredWeight]
Values = Mapping[str, Any]


def any_file(values: Values, tensors: Collection[str]) -> bool:
    """Of families that have an architecture of their own."""
    return True


class Model(Protocol):
    """A network with its packed weights. Has no state of its own: what a step reads and writes is the memory."""

    config: ModelConfig
    ops: Ops

    def forward(self, ids: Int32Array, plans: Plans, memory: Memory) -> Rows:
        """Run a step's tokens, writing their KV and states: (tokens,) -> (tokens, hidden). `plans` are those of
        `make_plans`."""

    def forward_rows(self, ids: Int32Array, plans: Plans, memory: Memory, read: ReadRows) -> Rows:
        """The rows of that which `read` names, for which alone the last layer is computed: (rows, hidden)."""

    def hidden_states(self, hidden: Rows, rows: Int32Array) -> Rows:
        """Some of the rows that `forward` returned, behind the last norm: float32 (rows, hidden)."""

    def logits(self, hidden: Rows, rows: Int32Array) -> Rows:
        """Logits of some of the rows that `forward` returned: float32 (rows, vocab_size)."""


@dataclass(frozen=True, slots=True)
class GGUF:
    """What llama.cpp's converter makes of a family.

    architecture: `general.architecture`.
    settings: its keys, by the names of config.json, where they are no architecture's but this one's.
    tensors: Hugging Face's names, by those of the file, in a layer or outside, where they differ from Llama's.
    undo: puts back what the converter changed in a tensor, by its Hugging Face name.
    defaults: what a file means by a setting that is not there, by the names of config.json.
    without_effect: keys that change no number.
    told: more keys, by the file's own names, that follow from others or stand for them.
    is_it: whether a file, by its keys behind the architecture and its tensors' names, is of this family, where several
        have one architecture.
    also: more architectures, which it makes of some of the family's models.
    """

    architecture: str
    settings: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    undo: Undo = field(default=lambda name, tensor, config: tensor)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    without_effect: frozenset[str] = frozenset()
    told: Callable[[Settings], Values] = field(default=lambda settings: {})
    is_it: Callable[[Values, Collection[str]], bool] = field(default=any_file)
    also: frozenset[str] = frozenset()

    @property
    def architectures(self) -> frozenset[str]:
        """All that files of the family may name."""
        return self.also | {self.architecture}


@dataclass(frozen=True, slots=True)
class Family:
    """One family. read: its settings, by the names of config.json, from either format.

    gguf: None for a family whose GGUF files are not read.
    defaults: what a config.json means by a setting that is not there.
    without_effect: settings that change no number of this family, though of others.
    tiny: what a tiny model of it must say beside its sizes.
    folder: the tensors of a folder as the network takes them, where they are stored otherwise.
    """

    read: ReadConfig
    gguf: GGUF | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    without_effect: frozenset[str] = frozenset()
    tiny: Mapping[str, Any] = field(default_factory=dict)
    folder: Callable[[Mapping[str, StoredWeight], ModelConfig], dict[str, StoredWeight]] = field(
        default=lambda tensors, config: dict(tensors)
    )
