"""The slots of layers with a state, and the pieces of a step as kernels read them.

    slot      | layer 0: conv, recurrent | layer 1: ... |        every part begins at a cache line
    conv      (vectors of channels, earlier inputs, LANES), the oldest input first; the last vector is filled up
    recurrent (heads, panels, depth, LANES): a panel is LANES of a head's values (of a delta rule) or outputs (of
              Mamba-2); its depth is keys, or the state. The last panel is filled up with zeros.

A head's panels evolve each by itself, so one stays in the nearest cache while all tokens of a step go through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.cpu.machine.ahead import PagesAhead
from stemma.kernels.cpu.machine.pages import lazy_zeros
from stemma.kernels.states import LayerState, StateMetadata, StateShape

Array = npt.NDArray[Any]
LANES = 16
PIECES = ("rows", "starts", "sources", "targets", "sequences")
"""The words of a plan: addresses of the arrays of `StateMetadata`, then the number of sequences."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuStates:
    """memory: bytes (slots, bytes of one). conv, recurrent: addresses of each layer's part in slot 0."""

    shape: StateShape
    memory: Array
    conv: tuple[int, ...]
    recurrent: tuple[int, ...]
    format: str
    ahead: PagesAhead

    @property
    def num_bytes(self) -> int:
        return self.memory.nbytes

    @property
    def stride(self) -> int:
        """Bytes from slot to slot."""
        return int(self.memory.strides[0])


@dataclass(frozen=True, slots=True, eq=False)
class CpuStatePlan:
    """address: of the words PIECES."""

    address: int
    words: Array
    memory: tuple[Array, ...]


def addresses(arrays: Iterable[Array]) -> list[int]:
    """Where they stand, for words."""
    return [array.ctypes.data for array in arrays]


def padded(count: int) -> int:
    """Up to whole vectors."""
    return -(-count // LANES) * LANES


def conv_floats(layer: LayerState) -> int:
    channels, earlier = layer.conv
    return padded(channels) * earlier


def recurrent_floats(layer: LayerState) -> int:
    """Either side may be the one in panels: rules differ."""
    heads, rows, columns = layer.recurrent
    return heads * max(rows * padded(columns), padded(rows) * columns)


def allocate(shape: StateShape) -> CpuStates:
    """Zeros, whose pages the system hands out a little before they are written. Raises MemoryError."""
    sizes = [size for layer in shape.layers for size in (conv_floats(layer), recurrent_floats(layer))]
    starts = np.cumsum([0, *sizes]).tolist()
    memory = lazy_zeros(4 * shape.num_slots * starts[-1], "a pool of states")
    memory = memory.reshape(shape.num_slots, 4 * starts[-1])
    addresses = [memory.ctypes.data + 4 * start for start in starts[:-1]]
    format = f"float32/{LANES}"
    return CpuStates(shape, memory, tuple(addresses[::2]), tuple(addresses[1::2]), format, PagesAhead(memory))


def make_plan(metadata: StateMetadata) -> CpuStatePlan:
    given = metadata.rows, metadata.starts, metadata.sources, metadata.targets
    arrays = tuple(np.ascontiguousarray(array, dtype=np.int32) for array in given)
    words = np.array([*addresses(arrays), len(metadata.rows) - 1], dtype=np.int64)
    return CpuStatePlan(words.ctypes.data, words, arrays)


def read_slots(states: CpuStates, slots: Sequence[int]) -> bytes:
    return states.memory[list(slots)].tobytes()


def write_slots(states: CpuStates, slots: Sequence[int], data: bytes) -> None:
    """Raises ValueError if the size does not fit."""
    if len(data) != len(slots) * states.stride:
        raise ValueError(f"{len(data)} bytes do not fit {len(slots)} slots; the snapshot is another model's")
    states.memory[list(slots)] = np.frombuffer(data, dtype=np.uint8).reshape(len(slots), -1)
