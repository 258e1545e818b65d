"""Windows, soft caps, sinks, scales, norms of heads: against the reference; the same bits however a step is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.attention.kv_dtypes import KV_DTYPES
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.ops import AttentionSpec, HeadNorms, HeadShape, SharedPrefix
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.weights import StoredWeight
from tests.kernels.cpu.worlds import LENGTHS, Chunk, World
from tests.kernels.on_tensors import tensor_ops

TOLERANCE = {"int16": 3e-4, "float32": 4e-6, "bfloat16": 1e-2, "int8": 4e-2}
CASES = [  # heads, kv heads, head_dim, block size, KV dtype
    (8, 2, 64, 16, "int16"), (3, 3, 24, 12, "int16"), (3, 3, 24, 12, "float32"), (8, 2, 64, 16, "int8"),
]  # fmt: skip


@pytest.fixture(scope="module")
def backends(ops: CpuOps) -> dict[str, CpuOps]:
    return {n: tensor_ops(ops.target, 2, kv_dtype=n, cache_dir=ops.cache_dir) for n in KV_DTYPES}


@pytest.fixture(params=CASES, ids=str)
def world(request: pytest.FixtureRequest, backends: dict[str, CpuOps]) -> World:
    heads, kv_heads, head_dim, size, kv_dtype = request.param
    return World(backends[kv_dtype], HeadShape(heads, kv_heads, head_dim), size, torch.float32)


def specs_of(heads: int) -> list[AttentionSpec]:
    """With windows shorter and longer than contexts, that end inside a block, inside a split, and at its border."""
    sinks = tuple(np.linspace(-6, 9, heads).tolist())
    windows = [AttentionSpec(0.15, window) for window in (1, 5, 256, 300, 5000)]
    return [AttentionSpec(0.3, sinks=sinks), AttentionSpec(0.2, 100, 5.0, sinks), *windows]


def check(world: World, reference: ReferenceOps) -> None:
    other = World(reference, world.heads, world.shape.block_size, torch.float64)
    if world.norms is not None:
        other.use_norms()
    for spec in specs_of(world.heads.num_heads):
        world.spec = other.spec = spec
        got, want = world.whole(), other.whole()
        assert float((got - want).norm() / want.norm()) < TOLERANCE[world.ops.kv_dtype], spec


def test_equals_the_reference(world: World, reference: ReferenceOps) -> None:
    check(world, reference)


def test_chunks_company_and_shared_prefixes_never_change_a_bit(world: World) -> None:
    random, size = np.random.default_rng(3), world.shape.block_size
    shared = 640 // size
    own = np.array_split(world.spare[: 6 * (len(world.spare) // 6)], 6)
    news = [1, 7, 1, 1, 16, 2]
    chunks = [
        Chunk(np.concatenate((world.tables[5][:shared], blocks)), shared * size, min(new, len(blocks) * size))
        for blocks, new in zip(own, news, strict=True)
    ]
    qkv = torch.randn(sum(chunk.new for chunk in chunks), world.rows[0].shape[1])
    for spec in specs_of(world.heads.num_heads):
        world.spec = spec
        whole = torch.split(world.whole(), LENGTHS)
        cached, table, rows = 0, world.tables[5], world.rows[5]
        while cached < len(rows):
            new = min(len(rows) - cached, int(random.integers(1, 90)))
            got = world.run([Chunk(table, cached, new)], rows[cached : cached + new].contiguous())
            assert torch.equal(got, whole[5][cached : cached + new]), spec
            cached += new
        last = [Chunk(t, n - 1, 1) for t, n in zip(world.tables, LENGTHS, strict=True)]
        got = world.run(last, torch.stack([rows[-1] for rows in world.rows]))
        assert torch.equal(got, torch.stack([part[-1] for part in whole])), spec
        plain = world.run(chunks, qkv)
        for prefixes in ([(0, 6, shared)], [(1, 4, shared - 1), (4, 6, 300 // size)]):
            hints = tuple(SharedPrefix(*prefix) for prefix in prefixes)
            assert torch.equal(world.run(chunks, qkv, hints), plain), spec


def test_what_no_window_sees_is_not_read(world: World) -> None:
    """Neither whole splits nor the beginning of one, as far as 64 tokens stand together."""
    row, table = world.rows[5][-1:].contiguous(), world.tables[5]
    world.spec = AttentionSpec(0.15, 100)
    world.whole()
    want = world.run([Chunk(table, LENGTHS[5] - 1, 1)], row)
    unseen = (LENGTHS[5] - 100) // 64 * 64 // world.shape.block_size
    world.kv.memory[table[:unseen]] = 255  # in floats, also in scales: NaN
    assert torch.equal(world.run([Chunk(table, LENGTHS[5] - 1, 1)], row), want)


def test_lesser_instruction_sets_give_the_same_bits(lesser: Target, ops: CpuOps) -> None:
    other = tensor_ops(lesser, 2, kv_dtype="int16", cache_dir=ops.cache_dir)
    worlds = [World(o, HeadShape(2, 2, 32), 16, torch.float32) for o in (ops, other)]
    for world in worlds:
        world.spec = specs_of(2)[1]
    assert torch.equal(*(world.whole() for world in worlds))


def test_layers_of_two_kinds_compile_two_kernels(ops: CpuOps) -> None:
    world = World(tensor_ops(ops.target, 2, cache_dir=ops.cache_dir), HeadShape(4, 2, 32), 16, torch.float32)
    for layer in range(60):
        sinks = tuple(float(layer + head) for head in range(4))
        world.spec = AttentionSpec(0.1 + layer, None if layer % 2 else 64 + layer, None, sinks)
        world.run([Chunk(world.tables[0], 0, 1)], world.rows[0])
    assert len(world.ops._paged._libraries) == 3  # these two, and that which writes the KV


@pytest.mark.parametrize("kind", ["single", "together", "each"])
@pytest.mark.parametrize("after_rope", [False, True])
@pytest.mark.parametrize("which", ["both", "queries", "keys"])
def test_norms_of_heads(ops: CpuOps, reference: ReferenceOps, kind: str, after_rope: bool, which: str) -> None:
    heads = HeadShape(6, 2, 32)
    results = []
    for o, dtype in ((ops, torch.float32), (reference, torch.float64)):
        world = World(o, heads, 16, dtype)
        random = np.random.default_rng(1)
        norms = []
        for count, name in ((6, "queries"), (2, "keys")):
            size = 32 if kind == "single" else count * 32
            weight = StoredWeight("F32", (size,), random.normal(size=size).astype(np.float32))
            norm = o.layer_norm(weight, None, 1e-5) if kind == "each" else o.norm(weight, 1e-5)
            norms.append(norm if which in ("both", name) else None)
        world.norms = HeadNorms(*norms, after_rope)
        results.append(world.whole())
    got, want = results
    assert float((got - want).norm() / want.norm()) < 1e-4


def test_norms_of_values_and_layers_that_write_nothing(world: World, reference: ReferenceOps) -> None:
    """Two layers of Gemma 4: one whose values are normed, and one that has queries alone and reads what it wrote."""
    results, size = [], world.heads.head_dim
    ones = StoredWeight("F32", (size,), np.ones(size, dtype=np.float32))
    for each in (world, World(reference, world.heads, world.shape.block_size, torch.float64)):
        each.use_norms()
        assert each.norms is not None
        each.norms = each.norms._replace(v=each.ops.norm(ones, 1e-5))
        wrote = each.whole()
        queries = [rows[:, : world.heads.num_heads * size].contiguous() for rows in each.rows]
        own, each.heads = each.heads, each.heads._replace(num_kv_heads=0)
        each.norms = HeadNorms(each.norms.q, None)
        chunks = [Chunk(table, 0, n) for table, n in zip(each.tables, LENGTHS, strict=True)]
        assert torch.equal(each.run(chunks, torch.cat(queries)), wrote)
        each.heads, each.norms = own, None
        results.append(wrote)
    got, want = results
    assert float((got - want).norm() / want.norm()) < TOLERANCE[world.ops.kv_dtype]


@pytest.mark.parametrize("norms", [False, True])
def test_without_rotation(world: World, reference: ReferenceOps, norms: bool) -> None:
    other = World(reference, world.heads, world.shape.block_size, torch.float64)
    for each in (world, other):
        each.rope = None
        if norms:
            each.use_norms()
    got, want = world.whole(), other.whole()
    assert float((got - want).norm() / want.norm()) < TOLERANCE[world.ops.kv_dtype]


@pytest.mark.parametrize(("head_dim", "kv_dtype"), [(80, "int16"), (256, "int16"), (512, "int16"), (160, "float32")])
def test_widths_of_heads(backends: dict[str, CpuOps], reference: ReferenceOps, head_dim: int, kv_dtype: str) -> None:
    heads = HeadShape(4, 2, head_dim)
    worlds = [World(o, heads, 16, d) for o, d in ((backends[kv_dtype], torch.float32), (reference, torch.float64))]
    for world in worlds:
        world.spec = AttentionSpec(head_dim**-0.5, None, 30.0)
    got, want = (world.whole() for world in worlds)
    assert float((got - want).norm() / want.norm()) < TOLERANCE[kv_dtype]
