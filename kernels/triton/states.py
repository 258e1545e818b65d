"""Slots on a GPU, one tensor a layer for each kind of state, and a step's pieces as the kernels read them.

conv        (slots, earlier inputs, channels)  float32
recurrent   (slots, heads, rows, columns)      float32, a head's state is contiguous
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from stemma.kernels.ops import Int32Array
from stemma.kernels.states import ZEROS, DeltaRuleSpec, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.triton.rounds import Walk, cut_rounds, walks_of
from stemma.kernels.triton.uploads import Fields, Uploads


@dataclass(frozen=True, slots=True, eq=False)
class TritonStates:
    shape: StateShape
    conv: tuple[torch.Tensor, ...]
    recurrent: tuple[torch.Tensor, ...]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors)

    @property
    def format(self) -> str:
        return "float32"

    @property
    def _tensors(self) -> tuple[torch.Tensor, ...]:
        return *self.conv, *self.recurrent

    def read(self, slots: Sequence[int]) -> bytes:
        """Slot by slot, the convolutions of all layers, then the rest."""
        index = torch.tensor(slots, dtype=torch.int64, device=self._tensors[0].device)
        rows = torch.cat([tensor.index_select(0, index).flatten(1) for tensor in self._tensors], dim=1)
        return rows.cpu().numpy().tobytes()

    def write(self, slots: Sequence[int], data: bytes) -> None:
        """Put back what `read` returned. Raises ValueError if the size does not fit."""
        if len(data) != len(slots) * self.shape.slot_bytes:
            raise ValueError(f"{len(data)} bytes do not fit {len(slots)} slots; the snapshot is another model's")
        if not slots:
            return
        device = self._tensors[0].device
        index = torch.tensor(slots, dtype=torch.int64, device=device)
        rows = torch.frombuffer(bytearray(data), dtype=torch.float32).view(len(slots), -1).to(device)
        sizes = [tensor[0].numel() for tensor in self._tensors]
        for tensor, part in zip(self._tensors, torch.split(rows, sizes, dim=1), strict=True):
            tensor.index_copy_(0, index, part.reshape(len(slots), *tensor.shape[1:]))


def allocate(shape: StateShape, device: torch.device) -> TritonStates:
    """Slots of zeros. Raises MemoryError if they do not fit the device."""
    count = shape.num_slots
    try:
        return TritonStates(
            shape,
            tuple(torch.zeros(count, *layer.conv[::-1], device=device) for layer in shape.layers),
            tuple(torch.zeros(count, *layer.recurrent, device=device) for layer in shape.layers),
        )
    except (RuntimeError, torch.OutOfMemoryError) as error:
        size = f"{count} slots of {shape.slot_bytes:,} bytes"
        raise MemoryError(f"{size} do not fit {device}; use fewer slots") from error


# What is packed once --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, eq=False)
class TritonConv:
    weight: torch.Tensor  # (taps, channels) float32
    bias: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class TritonDelta:
    spec: DeltaRuleSpec
    rates: torch.Tensor  # (value_heads,) A, float32
    dt_bias: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TritonScan:
    spec: Mamba2Spec
    rates: torch.Tensor  # (heads,) A, float32
    skips: torch.Tensor
    dt_bias: torch.Tensor


# A step ---------------------------------------------------------------------------------------------------------------
class StateCapacity(NamedTuple):
    """How much a plan's buffers hold: the grids of its kernels, whatever a step needs of them."""

    num_tokens: int
    num_sequences: int
    num_pieces: int


def state_needed(metadata: StateMetadata) -> StateCapacity:
    """What this step needs."""
    return StateCapacity(int(metadata.starts[-1]), len(metadata.rows) - 1, len(metadata.targets))


@dataclass(slots=True, eq=False)
class StatePlan:
    """The pieces of a step on the device. Room beyond them is sequences without pieces, pieces that are written
    nowhere, and tokens of which nothing is kept.

    fields: those of `state_sizes`. metadata: None in a plan that has held no step.
    """

    capacity: StateCapacity
    fields: Fields
    metadata: StateMetadata | None
    rounds: tuple[Walk, ...] | None = None

    @property
    def walk(self) -> Walk:
        """All tokens one after the other."""
        names = ("rows", "starts", "ends", "sources", "targets")
        return Walk("tokens", self.capacity.num_sequences, 0, {name: self.fields[name] for name in names})

    def walks(self) -> tuple[Walk, ...]:
        """The same, but whole cells as cells; sent to the device when a layer first asks. Plans of graphs have none."""
        if self.rounds is None:
            assert self.metadata is not None, "a plan without a step"
            self.rounds = walks_of(cut_rounds(self.metadata), self.fields.device)
        return self.rounds or (self.walk,)

    def __getitem__(self, name: str) -> torch.Tensor:
        """firsts, origins: (tokens,) the first row of a token's sequence, and the slot it begins with. The others are
        those of `StateMetadata`, and the row behind each piece."""
        return self.fields[name]


def state_sizes(capacity: StateCapacity) -> dict[str, int]:
    """Of a StatePlan's fields."""
    return {
        "firsts": capacity.num_tokens,
        "origins": capacity.num_tokens,
        "rows": capacity.num_sequences + 1,
        "starts": capacity.num_pieces,
        "ends": capacity.num_pieces,
        "sources": capacity.num_pieces,
        "targets": capacity.num_pieces,
    }


def state_arrays(metadata: StateMetadata) -> dict[str, Int32Array]:
    """What they are filled with."""
    begins, lengths = metadata.starts[metadata.rows[:-1]], np.diff(metadata.starts[metadata.rows])
    inner = np.delete(np.arange(len(metadata.targets)), metadata.rows[:-1])
    assert np.array_equal(metadata.sources[inner], metadata.targets[inner - 1]), "a piece does not go on"
    return {
        "firsts": np.repeat(begins, lengths),
        "origins": np.repeat(metadata.sources[metadata.rows[:-1]], lengths),
        "rows": metadata.rows,
        "starts": metadata.starts[:-1],
        "ends": metadata.starts[1:],
        "sources": metadata.sources,
        "targets": metadata.targets,
    }


def state_fill(num_pieces: int) -> dict[str, int]:
    """What is behind them, after a step of so many pieces."""
    return {"origins": ZEROS, "rows": num_pieces, "targets": -1}


def state_plan(metadata: StateMetadata, device: torch.device) -> StatePlan:
    """A plan of a step, in a buffer of its own."""
    capacity = state_needed(metadata)
    uploads = Uploads(state_sizes(capacity), device)
    uploads.send(state_arrays(metadata), state_fill(capacity.num_pieces))
    return StatePlan(capacity, Fields(uploads), metadata)
