"""Runs a model over whole sequences, the plainest way: one sequence, blocks in order; in one step or in many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from stemma.kernels.memory import allocate, make_plans
from stemma.kernels.ops import AttentionMetadata, Ops
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.states import ZEROS, StateMetadata
from stemma.runtime.model import Model
from tests.kernels.memories import everywhere, memory_of

BLOCK_SIZE = 16


def reference_ops() -> ReferenceOps:
    return ReferenceOps(torch.device("cpu"))


def all_logits(model: Model, ids: list[int]) -> torch.Tensor:
    """Logits after each token, (tokens, vocab_size)."""
    return model.logits(all_hidden(model, ids), np.arange(len(ids), dtype=np.int32))


def all_hidden(model: Model, ids: list[int]) -> torch.Tensor:
    """What the model's `forward` gives for each token, (tokens, hidden)."""
    ops: Ops = model.ops
    length = len(ids)
    num_blocks = -(-length // BLOCK_SIZE)
    positions = np.arange(length, dtype=np.int32)
    metadata = AttentionMetadata(
        positions=positions,
        slots=positions,
        query_starts=np.array([0, length], dtype=np.int32),
        context_lens=np.array([length], dtype=np.int32),
        block_tables=np.arange(num_blocks, dtype=np.int32)[None],
    )
    memory = memory_of(ops, model.config, num_blocks, BLOCK_SIZE)
    plans = make_plans(ops, everywhere(metadata), memory)
    return model.forward(np.array(ids, dtype=np.int32), plans, memory)


NUM_SLOTS = 8


class Running:
    """A sequence in one memory, step by step, with no more than it may need: block tables of layers with a window name
    block 0, which holds nothing, for all behind the window, and states go from slot to slot, each step in two pieces.

    most: tokens that it may have.
    """

    def __init__(self, model: Model, most: int) -> None:
        self.model, self.position, self.slot = model, 0, ZEROS
        self._num_blocks, self._kept, self._next = -(-most // BLOCK_SIZE), {ZEROS}, 0
        sizes = {"num_window_blocks": self._num_blocks + 1, "num_slots": NUM_SLOTS}
        self._memory = allocate(model.ops, model.config.memory_shape(self._num_blocks, BLOCK_SIZE, **sizes))

    def step(self, ids: list[int]) -> torch.Tensor:
        """Logits after each of the next tokens, (tokens, vocab_size)."""
        length, rows = len(ids), np.arange(len(ids), dtype=np.int32)
        metadata = replace(self._full(length), window=self._window(length), states=self._pieces(length))
        plans = make_plans(self.model.ops, metadata, self._memory)
        hidden = self.model.forward(np.array(ids, dtype=np.int32), plans, self._memory)
        self.position += length
        return self.model.logits(hidden, rows).clone()

    def mark(self) -> tuple[int, int]:
        """Where it stands, to go on there another time: what was computed meanwhile is written over."""
        self._kept.add(self.slot)
        return self.position, self.slot

    def go_back(self, mark: tuple[int, int]) -> None:
        self.position, self.slot = mark

    def _full(self, length: int) -> AttentionMetadata:
        positions = np.arange(self.position, self.position + length, dtype=np.int32)
        return AttentionMetadata(
            positions, positions, np.array([0, length], dtype=np.int32),
            np.array([self.position + length], dtype=np.int32), np.arange(self._num_blocks, dtype=np.int32)[None],
        )  # fmt: skip

    def _window(self, length: int) -> AttentionMetadata | None:
        marks = self.model.config.marks
        if marks is None or marks.window is None:
            return None
        full = self._full(length)
        first = max(0, self.position - marks.window + 1) // BLOCK_SIZE
        tables = full.block_tables + np.int32(1)
        tables[:, :first] = 0
        return replace(full, slots=full.slots + np.int32(BLOCK_SIZE), block_tables=tables)

    def _pieces(self, length: int) -> StateMetadata | None:
        marks = self.model.config.marks
        if marks is None or not marks.has_states:
            return None
        starts = sorted({0, length // 3, length})
        slots = [self.slot, *(self._free_slot() for _ in starts[1:])]
        self.slot = slots[-1]
        rows = [0, len(starts) - 1]
        return StateMetadata(*(np.array(each, dtype=np.int32) for each in (rows, starts, slots[:-1], slots[1:])))

    def _free_slot(self) -> int:
        free = [slot for slot in range(NUM_SLOTS) if slot not in self._kept | {self.slot}]
        self._next += 1
        return free[self._next % len(free)]


def chunked_logits(model: Model, ids: list[int], chunk: int) -> torch.Tensor:
    """Those of `all_logits`, by steps of `chunk` tokens; 1 is how an answer is written."""
    running = Running(model, len(ids))
    return torch.cat([running.step(ids[start : start + chunk]) for start in range(0, len(ids), chunk)])


def logits_behind_a_mark(model: Model, ids: list[int], at: int) -> torch.Tensor:
    """Logits after each token from `at` on, where the sequence went another way first."""
    running = Running(model, len(ids))
    running.step(ids[:at])
    mark = running.mark()
    other = ids[:at:-1]
    running.step(other[: len(other) // 2])
    running.step(other[len(other) // 2 :])
    running.go_back(mark)
    return running.step(ids[at:])
