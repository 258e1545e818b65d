"""Latent attention against the reference, the same bits however a step is cut; blocks of latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.attention.kv_dtypes import KV_DTYPES
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.ops import AttentionSpec, KVShape, SharedPrefix
from stemma.kernels.reference import ReferenceOps
from tests.kernels.cpu.test_linear import stored, vector
from tests.kernels.cpu.worlds import Chunk, metadata
from tests.kernels.on_tensors import tensor_ops

TOLERANCE = {"int16": 3e-4, "float32": 4e-6, "bfloat16": 2e-2, "int8": 4e-2}
LENGTHS = [1, 30, 256, 300]
CASES = [  # heads, numbers that are not rotated, rotated, latent, block size, KV dtype
    (4, 16, 8, 32, 16, "int16"), (3, 16, 4, 24, 12, "int16"), (40, 32, 32, 64, 16, "int16"),
    (3, 16, 4, 24, 12, "float32"), (4, 16, 8, 32, 16, "bfloat16"), (4, 16, 8, 32, 16, "int8"),
]  # fmt: skip


class Latents:
    """Sequences of latents and queries on one back end."""

    def __init__(self, ops: Any, sizes: Sequence[int], dtype: torch.dtype) -> None:
        heads, plain, turned, rank, self.size = sizes
        blocks = [-(-length // self.size) + 1 for length in LENGTHS]
        order = np.random.default_rng(0).permutation(sum(blocks)).astype(np.int32)
        self.tables = np.split(order, np.cumsum(blocks)[:-1])
        self.ops, self.shape = ops, KVShape(2, sum(blocks), self.size, 1, rank + turned, rank)
        self.kv, self.spec = ops.kv(self.shape), AttentionSpec(0.2)
        angles = np.outer(np.arange(400), 10.0 ** -np.arange(turned // 2))
        self.rope = ops.rope(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
        self.keys = ops.head_linear([stored("F32", (rank, plain), head) for head in range(heads)])
        self.values = ops.head_linear([stored("F32", (10, rank), 50 + head) for head in range(heads)])
        self.norm = ops.norm(vector(rank, 3), 1e-6)
        random = torch.Generator().manual_seed(0)
        self.rows = [
            [torch.randn(n, w, generator=random).to(dtype) for w in (rank + turned, heads * (plain + turned))]
            for n in LENGTHS
        ]

    def run(self, spans: Sequence[tuple[int, int, int]], prefixes: tuple[SharedPrefix, ...] = ()) -> torch.Tensor:
        """spans: (sequence, first, end)."""
        chunks = [Chunk(self.tables[i], first, end - first) for i, first, end in spans]
        plan = self.ops.plan(metadata(chunks, self.size, prefixes), self.shape)
        latent, q = (torch.cat([self.rows[i][side][first:end] for i, first, end in spans]) for side in (0, 1))
        self.ops.latent_write(latent, self.norm, self.rope, self.kv, 1, plan)
        queries = self.ops.latent_queries(q, self.keys, self.rope, plan)
        out = self.ops.attention(queries, self.kv, 1, plan, self.spec)
        return torch.clone(self.ops.multiply_heads(out, self.values))

    def whole(self) -> torch.Tensor:
        return self.run([(i, 0, length) for i, length in enumerate(LENGTHS)])


@pytest.fixture(scope="module")
def backends(ops: CpuOps) -> dict[str, CpuOps]:
    return {n: tensor_ops(ops.target, 2, kv_dtype=n, cache_dir=ops.cache_dir) for n in KV_DTYPES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(backends: dict[str, CpuOps], reference: ReferenceOps, case: tuple[Any, ...]) -> None:
    *sizes, kv_dtype = case
    worlds = Latents(backends[kv_dtype], sizes, torch.float32), Latents(reference, sizes, torch.float64)
    got, want = (world.whole() for world in worlds)
    assert float((got - want).norm() / want.norm()) < TOLERANCE[kv_dtype]


@pytest.mark.parametrize("case", CASES[1:4], ids=str)
def test_chunks_and_company_never_change_a_bit(backends: dict[str, CpuOps], case: tuple[Any, ...]) -> None:
    *sizes, kv_dtype = case
    world = Latents(backends[kv_dtype], sizes, torch.float32)
    whole = torch.split(world.whole(), LENGTHS)
    for first, end in ((0, 7), (7, 100), (100, 101), (101, 300)):
        assert torch.equal(world.run([(3, first, end)]), whole[3][first:end])
    last = world.run([(i, length - 1, length) for i, length in enumerate(LENGTHS)])
    assert torch.equal(last, torch.stack([rows[-1] for rows in whole]))


def test_lesser_instruction_sets_give_the_same_bits(lesser: Target, ops: CpuOps) -> None:
    other = tensor_ops(lesser, 2, kv_dtype="int16", cache_dir=ops.cache_dir)
    one, two = (Latents(o, (2, 16, 8, 32, 16), torch.float32).whole() for o in (ops, other))
    assert torch.equal(one, two)


def test_latents_take_no_memory_for_values_and_come_back(ops: CpuOps) -> None:
    world = Latents(ops, CASES[0][:5], torch.float32)
    plain = ops.kv(world.shape._replace(value_dim=None))
    assert 2 * world.kv.num_bytes == plain.num_bytes
    want = world.run([(2, 0, 100)])
    data = ops.read_blocks(world.kv, world.tables[2])
    world.kv.memory[...] = 7
    ops.write_blocks(world.kv, world.tables[2], data)
    assert torch.equal(world.run([(2, 99, 100)])[0], want[-1])
