"""What a model remembers as bytes: blocks of full layers, and marks, which are slots and blocks of windows. For files;
decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemma.kernels.memory import Memory
from stemma.kernels.ops import KV, BlockCopy, Ops
from stemma.radix import BlockCopy as CacheCopy
from stemma.radix import Mark


@dataclass(frozen=True, slots=True)
class MemoryBytes:
    """Of one engine's memory."""

    ops: Ops
    memory: Memory

    @property
    def block_size(self) -> int:
        return self.memory.full.shape.block_size

    @property
    def block_bytes(self) -> int:
        """Of one block of full layers."""
        return _of_block(self.memory.full)

    def mark_bytes(self, num_window_blocks: int) -> int:
        """Of a mark with so many window blocks."""
        window, states = self.memory.window, self.memory.states
        of_windows = 0 if window is None else num_window_blocks * _of_block(window)
        return of_windows + (0 if states is None else states.num_bytes // states.shape.num_slots)

    def read_block(self, block: int) -> bytes:
        return self.ops.read_blocks(self.memory.full, np.array([block], dtype=np.int32))

    def write_block(self, block: int, data: bytes) -> None:
        self.ops.write_blocks(self.memory.full, np.array([block], dtype=np.int32), data)

    def read_mark(self, mark: Mark) -> bytes:
        """Its window blocks, then its slot."""
        window, states = self.memory.window, self.memory.states
        of_windows = b"" if window is None else self.ops.read_blocks(window, np.array(mark.window_blocks, np.int32))
        return of_windows + (b"" if states is None else self.ops.states.read(states, [mark.slot]))

    def write_mark(self, slot: int, window_blocks: Sequence[int], data: bytes) -> None:
        """What `read_mark` gave, to another slot and other blocks."""
        window, states, at = self.memory.window, self.memory.states, 0
        if window is not None:
            at = len(window_blocks) * _of_block(window)
            self.ops.write_blocks(window, np.array(window_blocks, dtype=np.int32), data[:at])
        if states is not None:
            self.ops.states.write(states, [slot], data[at:])

    def copy(self, copies: Sequence[CacheCopy]) -> None:
        if copies:
            self.ops.copy_blocks(self.memory.full, [BlockCopy(*copy) for copy in copies])

    def copy_windows(self, copies: Sequence[CacheCopy]) -> None:
        if copies:
            self.ops.copy_blocks(self.memory.window, [BlockCopy(*copy) for copy in copies])


def _of_block(pool: KV) -> int:
    return pool.num_bytes // pool.shape.num_blocks
