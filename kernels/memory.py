"""What a model remembers, in three pools: keys and values of every position, those of the last few, and states.

    full     blocks of the layers that see all positions           one block table a sequence
    window   blocks of the layers that see the last W              another one, empty behind the window
    states   slots of the layers that keep a state                 one slot a sequence

A model has those that its layers need; layers are counted within their pool.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from stemma.kernels.ops import KV, AttentionMetadata, Int32Array, KVShape, Ops, SharedPrefix
from stemma.kernels.states import States, StateShape


class MemoryShape(NamedTuple):
    """The three pools of one model. window, states: None in a model without such layers."""

    full: KVShape
    window: KVShape | None = None
    states: StateShape | None = None


class Memory(NamedTuple):
    """The pools on one back end."""

    full: KV
    window: KV | None = None
    states: States | None = None

    @property
    def num_bytes(self) -> int:
        return sum(pool.num_bytes for pool in self if pool is not None)

    @property
    def shape(self) -> MemoryShape:
        window, states = self.window, self.states
        return MemoryShape(
            self.full.shape, None if window is None else window.shape, None if states is None else states.shape
        )


class Plans(NamedTuple):
    """One step's plans, as the back end made them."""

    full: Any
    window: Any = None
    states: Any = None


class ReadRows(NamedTuple):
    """The rows of a step that somebody reads, and the plans of a step of these alone, in which each is a sequence.

    rows: rising. plans: of blocks; there are none without rows, and none of states, which go from token to token.
    """

    rows: Int32Array
    plans: Plans


class Planner(Protocol):
    """What makes plans: a back end."""

    @property
    def states(self) -> Any:
        """Its operations for layers with a state."""

    def plan(self, metadata: AttentionMetadata, shape: KVShape) -> Any:
        """Prepare a step."""


def allocate(ops: Ops, shape: MemoryShape) -> Memory:
    """Raises MemoryError if it does not fit the device."""
    window = None if shape.window is None else ops.kv(shape.window)
    states = None if shape.states is None else ops.states.allocate(shape.states)
    return Memory(ops.kv(shape.full), window, states)


def make_plans(ops: Planner, metadata: AttentionMetadata, memory: Memory) -> Plans:
    """Prepare a step."""
    full = ops.plan(metadata, memory.full.shape)
    if memory.window is None and memory.states is None:
        return Plans(full)
    window = states = None
    if memory.window is not None:
        assert metadata.window is not None, "the step says nothing of the window's blocks"
        window = ops.plan(metadata.window, memory.window.shape)
    if memory.states is not None:
        assert metadata.states is not None, "the step says nothing of slots"
        states = ops.states.plan(metadata.states, memory.states.shape)
    return Plans(full, window, states)


def read_rows(ops: Planner, metadata: AttentionMetadata, rows: Int32Array, memory: Memory) -> ReadRows:
    """Prepare what a step's last layer computes for these rows alone."""
    if not len(rows):
        return ReadRows(rows, Plans(None))
    window = None
    if memory.window is not None:
        assert metadata.window is not None, "the step says nothing of the window's blocks"
        window = ops.plan(of_rows(metadata.window, rows), memory.window.shape)
    return ReadRows(rows, Plans(ops.plan(of_rows(metadata, rows), memory.full.shape), window))


def of_rows(metadata: AttentionMetadata, rows: Int32Array) -> AttentionMetadata:
    """Some rows of a step, rising, each as a sequence of its own whose KV is written already."""
    sequences = np.searchsorted(metadata.query_starts, rows, side="right") - 1
    positions, starts = metadata.positions[rows], np.arange(len(rows) + 1, dtype=np.int32)
    prefixes = [
        (int(np.searchsorted(sequences, first)), int(np.searchsorted(sequences, last)), num_blocks)
        for first, last, num_blocks in metadata.shared_prefixes
    ]
    return AttentionMetadata(
        positions, np.full_like(positions, -1), starts, positions + np.int32(1), metadata.block_tables[sequences],
        tuple(SharedPrefix(*each) for each in prefixes if each[1] - each[0] > 1),
    )  # fmt: skip
