"""Paged attention against the reference; the same bits in any chunks, company and cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.attention import attend, cells, integer_tiles
from stemma.kernels.cpu.attention.cells import Layout, layout_of
from stemma.kernels.cpu.attention.kv_dtypes import KV_DTYPES
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.ops import BlockCopy, HeadShape, KVShape, SharedPrefix
from stemma.kernels.reference import ReferenceOps
from tests.kernels.cpu.conftest import lesser_targets
from tests.kernels.cpu.worlds import LENGTHS, Chunk, World
from tests.kernels.on_tensors import tensor_ops

CASES = [  # heads, kv heads, head_dim, block size, KV dtype
    (9, 3, 64, 16, "int16"), (4, 4, 32, 4, "int16"), (8, 2, 128, 32, "int16"), (6, 1, 16, 8, "int16"),
    (14, 2, 64, 64, "int16"), (3, 3, 24, 12, "int16"), (16, 1, 40, 1, "int16"), (4, 2, 96, 16, "int16"),
    (9, 3, 64, 16, "float32"), (4, 4, 32, 4, "float32"), (8, 2, 128, 32, "float32"), (6, 1, 16, 8, "float32"),
    (14, 2, 64, 64, "float32"), (3, 3, 24, 12, "float32"), (16, 1, 40, 1, "float32"),
    (9, 3, 64, 16, "bfloat16"), (3, 3, 24, 12, "bfloat16"), (9, 3, 64, 16, "int8"), (3, 3, 24, 12, "int8"),
]  # fmt: skip
TOLERANCE = {"int16": 1e-4, "float32": 2e-6, "bfloat16": 6e-3, "int8": 2e-2}


@pytest.fixture(params=CASES, ids=str)
def world(request: pytest.FixtureRequest, backends: dict[str, CpuOps]) -> World:
    heads, kv_heads, head_dim, size, kv_dtype = request.param
    return World(backends[kv_dtype], HeadShape(heads, kv_heads, head_dim), size, torch.float32)


@pytest.fixture(scope="module")
def backends(ops: CpuOps) -> dict[str, CpuOps]:
    return {n: tensor_ops(ops.target, 2, kv_dtype=n, cache_dir=ops.cache_dir) for n in KV_DTYPES}


def test_equals_the_reference(world: World, reference: ReferenceOps) -> None:
    other = World(reference, world.heads, world.shape.block_size, torch.float64)
    for use_norms in (False, True):
        if use_norms:
            world.use_norms()
            other.use_norms()
        got, want = world.whole(), other.whole()
        assert float((got - want).norm() / want.norm()) < TOLERANCE[world.ops.kv_dtype]


def test_chunks_and_company_never_change_a_bit(world: World) -> None:
    whole = torch.split(world.whole(), LENGTHS)
    random = np.random.default_rng(3)
    for table, rows, want in zip(world.tables, world.rows, whole, strict=True):
        cached = 0
        while cached < len(rows):
            new = min(len(rows) - cached, int(random.integers(1, 90)))
            got = world.run([Chunk(table, cached, new)], rows[cached : cached + new].contiguous())
            assert torch.equal(got, want[cached : cached + new])
            cached += new
    last = [Chunk(t, n - 1, 1) for t, n in zip(world.tables, LENGTHS, strict=True)]
    got = world.run(last, torch.stack([rows[-1] for rows in world.rows]))
    assert torch.equal(got, torch.stack([part[-1] for part in whole]))


@pytest.mark.parametrize("new", [[1] * 6, [1, 2, 3, 4, 5, 6], [9, 1, 30, 1, 1, 2]], ids=str)
def test_shared_prefixes_never_change_a_bit(world: World, new: list[int]) -> None:
    world.whole()
    size = world.shape.block_size
    shared = 640 // size
    own = np.array_split(world.spare[: 6 * (len(world.spare) // 6)], 6)
    chunks = [
        Chunk(np.concatenate((world.tables[5][:shared], blocks)), shared * size, min(n, len(blocks) * size))
        for blocks, n in zip(own, new, strict=True)
    ]
    width = world.rows[0].shape[1]
    qkv = torch.randn(sum(chunk.new for chunk in chunks), width)
    plain = world.run(chunks, qkv)
    for prefixes in ([(0, 6, shared)], [(1, 4, shared - 1), (4, 6, 300 // size)]):
        hints = tuple(SharedPrefix(*prefix) for prefix in prefixes)
        assert torch.equal(world.run(chunks, qkv, hints), plain)


LESSER = [(lesser, CASES[(at + more) % 4]) for at, lesser in enumerate(lesser_targets()) for more in (0, 1)]
"""Each instruction set with two of the cases: compiling is what takes long."""


@pytest.mark.parametrize(("lesser", "case"), LESSER, ids=[f"{lesser.name}-{case}" for lesser, case in LESSER])
def test_lesser_instruction_sets_give_the_same_bits(
    lesser: Target, backends: dict[str, CpuOps], case: tuple[Any, ...]
) -> None:
    heads, kv_heads, head_dim, size, kv_dtype = case
    best = backends[kv_dtype]
    other = tensor_ops(lesser, 2, kv_dtype=kv_dtype, cache_dir=best.cache_dir)
    worlds = [World(o, HeadShape(heads, kv_heads, head_dim), size, torch.float32) for o in (best, other)]
    assert torch.equal(*(world.whole() for world in worlds))


@pytest.mark.parametrize("case", CASES[:4], ids=str)
def test_planes_of_bytes_and_words_give_the_same_bits(
    backends: dict[str, CpuOps], case: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine that multiplies words can multiply bytes too, as those with a matrix unit do."""
    heads, kv_heads, head_dim, size, kv_dtype = case
    best = backends[kv_dtype]
    want = World(best, HeadShape(heads, kv_heads, head_dim), size, torch.float32).whole()
    is_words = layout_of(best.target).words
    for module in (cells, attend, integer_tiles):
        monkeypatch.setattr(module, "layout_of", lambda target: Layout(False, target.byte_offset))
    other = tensor_ops(best.target, 2, kv_dtype=kv_dtype, cache_dir=tmp_path if is_words else best.cache_dir)
    assert torch.equal(World(other, HeadShape(heads, kv_heads, head_dim), size, torch.float32).whole(), want)


def test_what_other_sequences_left_does_not_leak(world: World) -> None:
    want = world.whole()
    world.kv.memory[...] = 255  # in float32 and bfloat16, and in the scales of int8: NaN
    assert torch.equal(world.whole(), want)


def test_copies_of_blocks(world: World) -> None:
    world.whole()
    size = world.shape.block_size
    tokens = 1 if size == 1 else size - 1
    source, table = int(world.tables[5][-2]), world.tables[5].copy()
    first, second = (int(b) for b in world.spare[:2])
    world.ops.copy_blocks(world.kv, [BlockCopy(source, first, size), BlockCopy(first, second, tokens)])
    table[-2] = second
    cached = (len(table) - 2) * size + tokens - 1
    row = world.rows[5][cached : cached + 1].contiguous()
    want = world.run([Chunk(world.tables[5], cached, 1)], row)
    assert torch.equal(world.run([Chunk(table, cached, 1)], row), want)


def test_snapshots_of_blocks(world: World) -> None:
    want = world.whole()[-1]
    blocks = world.tables[5]
    data = world.ops.read_blocks(world.kv, blocks)
    world.kv.memory[...] = 7
    world.ops.write_blocks(world.kv, blocks, data)
    got = world.run([Chunk(blocks, LENGTHS[5] - 1, 1)], world.rows[5][-1:].contiguous())
    assert torch.equal(got[0], want)
    with pytest.raises(ValueError, match="do not fit"):
        world.ops.write_blocks(world.kv, blocks[:1], data)


def test_a_pool_larger_than_the_machine_is_refused(ops: CpuOps) -> None:
    with pytest.raises(MemoryError):
        ops.kv(KVShape(1000, 10_000_000, 16, 8, 128))
