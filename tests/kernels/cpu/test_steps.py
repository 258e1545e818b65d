"""Recorded steps give the bits of steps that are run call by call, in logits and in KV, whatever came before."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.steps import COMMAND_WORDS, MAX_TOKENS, CpuExecutor, NativeCall, Recording
from stemma.kernels.ops import AttentionMetadata, Int32Array, SharedPrefix
from stemma.kernels.steps import EagerExecutor
from stemma.runtime.model.families.register import FAMILIES
from stemma.runtime.model.tiny import tiny
from tests.kernels.memories import MOST_SEQUENCES, everywhere, memory_of

BLOCK = 16
WIDTH = 40  # blocks of a sequence


def metadata_of(spans: Sequence[tuple[int, int]], num_shared: int) -> AttentionMetadata:
    """Sequences with (cached, new) tokens, each in blocks of its own but for the first `num_shared`."""
    positions = [np.arange(cached, cached + new) for cached, new in spans]
    tables = np.arange(len(spans) * WIDTH).reshape(len(spans), WIDTH)
    tables[:, :num_shared] = tables[0, :num_shared]
    slots = [t[place // BLOCK] * BLOCK + place % BLOCK for t, place in zip(tables, positions, strict=True)]
    return AttentionMetadata(
        positions=np.concatenate(positions).astype(np.int32),
        slots=np.concatenate(slots).astype(np.int32),
        query_starts=np.cumsum([0, *(new for _, new in spans)]).astype(np.int32),
        context_lens=np.array([sum(span) for span in spans], dtype=np.int32),
        block_tables=tables.astype(np.int32),
        shared_prefixes=(SharedPrefix(0, len(spans), num_shared),) if num_shared else (),
    )


class Pair:
    """A model's steps by the executor, and operation by operation, each on memory of its own."""

    def __init__(self, ops: CpuOps, family: str) -> None:
        loaded = tiny(ops, family)
        self._ops, self._vocabulary, self._random = ops, loaded.config.vocab_size, np.random.default_rng(0)
        self._memories = [memory_of(ops, loaded.config, 8 * WIDTH, BLOCK) for _ in range(2)]
        self._eager = EagerExecutor(ops, loaded.model, self._memories[0])
        self._executor = CpuExecutor(ops, loaded.model, loaded.config.num_heads, self._memories[1])

    def assert_same_logits(self, metadata: AttentionMetadata, rows: Int32Array) -> None:
        ids = self._random.integers(0, self._vocabulary, len(metadata.positions)).astype(np.int32)
        expected = self._eager(ids, metadata, rows).clone()
        assert torch.equal(self._executor(ids, metadata, rows), expected)

    def assert_same_memory(self) -> None:
        """KV and states."""
        one, other = self._memories
        blocks, slots = np.arange(8 * WIDTH, dtype=np.int32), range(2 * MOST_SEQUENCES)
        for mine, others in zip(one[:2], other[:2], strict=True):
            assert mine is None or self._ops.read_blocks(mine, blocks) == self._ops.read_blocks(others, blocks)
        if one.states is not None:
            assert self._ops.states.read(one.states, slots) == self._ops.states.read(other.states, slots)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_replay_is_the_step(ops: CpuOps, family: str) -> None:
    pair = Pair(ops, family)
    decodes = [[(60 + step, 1), (300 + step, 1), (9 + step, 1)] for step in range(5)]
    decodes += [[(300 + step, 1), (420 + step, 1)] for step in range(3)]  # these have a common beginning too
    steps = [*decodes, [(0, MAX_TOKENS + 200)], *decodes, [(30, 8), (600, 1)], [(0, 5)], *decodes, [(40, 8), (601, 1)]]
    for spans in [*steps, *steps]:
        for num_shared in (0, 16 if min(cached for cached, _ in spans) >= 256 else 0):
            metadata = everywhere(metadata_of(spans, num_shared))
            pair.assert_same_logits(metadata, (metadata.query_starts[1:] - 1).astype(np.int32))
    pair.assert_same_memory()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_last_layer_for_the_rows_that_are_read_is_the_step(ops: CpuOps, family: str) -> None:
    """Logits, KV and states, where few rows of a long step are read: the ends of some sequences, several rows of one,
    or none."""
    pair = Pair(ops, family)
    long = MAX_TOKENS + 16
    steps: list[tuple[list[tuple[int, int]], int, list[int]]] = [
        ([(0, 300), (0, 400), (0, 280)], 0, [299, 979]),
        ([(300, 1), (400, long), (280, 3)], 0, [0, long, long + 1, long + 2, long + 3]),
        ([(301, long), (480, 1), (283, 1)], 16, [long - 1, long, long + 1]),
        ([(381, 5), (481, 1), (284, long)], 16, [5]),
        ([(386, 4)], 0, []),
        ([(390, long), (482, 2), (364, 9)], 0, []),
        ([(470, 1), (484, 1), (373, 1)], 0, [0, 1, 2]),
    ]  # fmt: skip
    for spans, num_shared, chosen in steps:
        metadata = everywhere(metadata_of(spans, num_shared))
        pair.assert_same_logits(metadata, np.array(chosen, dtype=np.int32))
    pair.assert_same_memory()


def test_nothing_is_called_from_python_but_the_replay(ops: CpuOps, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny(ops)
    executor = CpuExecutor(ops, loaded.model, loaded.config.num_heads, memory_of(ops, loaded.config, WIDTH, BLOCK))
    row = np.zeros(1, dtype=np.int32)
    for position in range(2):
        executor(np.array([65], dtype=np.int32), metadata_of([(position, 1)], 0), row)
    monkeypatch.setattr(loaded.model, "forward", None)
    assert executor(np.array([65], dtype=np.int32), metadata_of([(2, 1)], 0), row).shape == (
        1,
        loaded.config.vocab_size,
    )


def test_a_command_knows_the_next_product() -> None:
    other, product = (ctypes.CFUNCTYPE(None)(lambda: None) for _ in range(2))
    calls = [NativeCall(operation, (1, 2)) for operation in (other, product, other, product)]
    commands = Recording.of(calls, (), np.zeros(1, dtype=np.float32), (), product).commands
    starts = commands.ctypes.data + 8 * (COMMAND_WORDS * np.array([1, 3, 3, 1]) + 1)
    assert commands[:, -1].tolist() == starts.tolist()  # behind the last one the step begins again
