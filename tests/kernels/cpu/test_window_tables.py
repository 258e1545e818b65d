"""Blocks behind a window: their entries in a block table are 0, and what lies in them, or in block 0, never matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.attention.kv_dtypes import KV_DTYPES
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.ops import AttentionMetadata, AttentionSpec, HeadShape, SharedPrefix
from stemma.kernels.reference import ReferenceOps
from tests.kernels.cpu.worlds import LENGTHS, Chunk, World, metadata
from tests.kernels.on_tensors import tensor_ops

WINDOWS = [1, 5, 17, 100, 256, 300]  # shorter than a block, than a split, as long, and longer
STEPS = {  # (sequence, cached, new)
    "decode": [(5, 699, 1), (4, 256, 1), (3, 255, 1), (1, 16, 1)],
    "alone": [(5, 699, 1)],
    "a split begins": [(5, 511, 1), (4, 255, 2)],
    "drafts": [(5, 690, 7), (4, 254, 3)],
    "prefill": [(5, 300, 400), (3, 100, 156), (0, 0, 1)],
    "from a mark": [(5, 37, 663)],
}
HUGE, NOTHING, NAN = 1e30, 0.0, float("nan")


@pytest.fixture(scope="module", params=KV_DTYPES)
def world(request: pytest.FixtureRequest, ops: CpuOps) -> World:
    back_end = tensor_ops(ops.target, 2, kv_dtype=request.param, cache_dir=ops.cache_dir)
    made = World(back_end, HeadShape(6, 2, 32), 16, torch.float32)
    made.whole()
    return made


def behind(chunks: Sequence[Chunk], window: int, size: int) -> tuple[list[Any], set[int]]:
    """Tables with 0 for each block of which no row sees anything, and the other blocks; of these one may be 0 too."""
    tables, held = [], set()
    for chunk in chunks:
        table, unseen = chunk.table.copy(), max(0, chunk.cached - window + 1) // size
        held |= set(table[unseen:].tolist())
        table[:unseen] = 0
        tables.append(table)
    return tables, held


def fill(world: World, blocks: list[int], value: float) -> None:
    """Foreign keys and values; NaN also in what is stored as integers with a scale."""
    if np.isnan(value):
        world.kv.memory[blocks] = 255
        return
    other = World(world.ops, world.heads, world.shape.block_size, torch.float32)
    qkv = torch.full((world.shape.block_size, world.rows[0].shape[1]), value)
    other.run([Chunk(np.array([0]), 0, world.shape.block_size)], qkv)
    world.kv.memory[blocks] = other.kv.memory[0]


def attend(world: World, step: AttentionMetadata, q: torch.Tensor) -> torch.Tensor:
    return torch.clone(world.ops.attention(q, world.kv, 1, world.ops.plan(step, world.shape), world.spec))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("value", [HUGE, NOTHING, NAN])
def test_what_lies_behind_a_window_never_changes_a_bit(world: World, step: str, value: float) -> None:
    size, rows = world.shape.block_size, STEPS[step]
    sinks = tuple(np.linspace(-6, 9, world.heads.num_heads).tolist())
    chunks = [Chunk(world.tables[sequence], cached, new) for sequence, cached, new in rows]
    whole = metadata(chunks, size)
    q = torch.randn(len(whole.positions), world.heads.num_heads, world.heads.head_dim)
    kept = world.kv.memory.copy()
    for window, (softcap, scores) in product(WINDOWS, [(None, ()), (5.0, sinks)]):
        world.spec = AttentionSpec(0.15, window, softcap, scores)
        want = attend(world, whole, q)
        tables, held = behind(chunks, window, size)
        zeros = [table.copy() for table in whole.block_tables]
        for row, table in zip(zeros, tables, strict=True):
            row[: len(table)] = table
        fill(world, [block for block in range(world.shape.num_blocks) if block not in held], value)
        got = attend(world, replace(whole, block_tables=np.stack(zeros)), q)
        world.kv.memory[:] = kept
        assert torch.equal(got, want), world.spec


def test_prefixes_of_window_tables_share_what_all_have_or_none_sees(world: World) -> None:
    """A hint made of the tables with their zeros; one made of the full layers' tables would be another."""
    size, window = world.shape.block_size, 100
    world.spec = AttentionSpec(0.15, window)
    shared = world.tables[5][: 640 // size]
    chunks = [Chunk(np.concatenate((shared, world.spare[i : i + 1])), 640, 1 + i) for i in range(4)]
    zeros, held = behind(chunks, window, size)
    step = metadata([chunk._replace(table=table) for chunk, table in zip(chunks, zeros, strict=True)], size)
    q = torch.randn(len(step.positions), world.heads.num_heads, world.heads.head_dim)
    kept = world.kv.memory.copy()
    want = attend(world, metadata(chunks, size), q)
    world.kv.memory[[block for block in range(world.shape.num_blocks) if block not in held]] = 255
    got = attend(world, replace(step, shared_prefixes=(SharedPrefix(0, 4, 640 // size),)), q)
    world.kv.memory[:] = kept
    assert torch.equal(got, want)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_reference_does_not_read_behind_a_window(reference: ReferenceOps, window: int) -> None:
    world = World(reference, HeadShape(6, 2, 32), 16, torch.float64)
    world.whole()
    world.spec = AttentionSpec(0.15, window)
    chunk = Chunk(world.tables[5], LENGTHS[5] - 30, 30)
    q = torch.randn(30, 6, 32, dtype=torch.float64)
    want = attend(world, metadata([chunk], 16), q)
    (table,), held = behind([chunk], window, 16)
    unheld = np.setdiff1d(np.arange(world.shape.num_blocks), list(held))
    for tensor in (world.kv.keys, world.kv.values):
        tensor.view(2, -1, 16, 2, 32)[:, unheld] = NAN
    assert torch.equal(attend(world, metadata([chunk._replace(table=table)], 16), q), want)
