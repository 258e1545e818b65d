"""A KV pool with random sequences on one back end, which tests of attention run in steps of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from stemma.kernels.ops import AttentionMetadata, AttentionSpec, HeadNorms, HeadShape, KVShape, SharedPrefix
from stemma.kernels.weights import StoredWeight

LENGTHS = [1, 17, 255, 256, 257, 700]


class Chunk(NamedTuple):
    """One sequence's part of a step."""

    table: np.ndarray[Any, Any]
    cached: int
    new: int


def metadata(chunks: Sequence[Chunk], size: int, prefixes: tuple[SharedPrefix, ...] = ()) -> AttentionMetadata:
    positions = [np.arange(c.cached, c.cached + c.new) for c in chunks]
    slots = [c.table[p // size] * size + p % size for c, p in zip(chunks, positions, strict=True)]
    tables = np.zeros((len(chunks), max(len(c.table) for c in chunks)), dtype=np.int32)
    for row, chunk in zip(tables, chunks, strict=True):
        row[: len(chunk.table)] = chunk.table
    return AttentionMetadata(
        np.concatenate(positions).astype(np.int32),
        np.concatenate(slots).astype(np.int32),
        np.cumsum([0, *(c.new for c in chunks)]).astype(np.int32),
        np.array([c.cached + c.new for c in chunks], dtype=np.int32),
        tables,
        prefixes,
    )


class World:
    """A KV pool, its rotary tables and random sequences on one back end."""

    def __init__(self, ops: Any, heads: HeadShape, size: int, dtype: torch.dtype) -> None:
        blocks = sum(-(-length // size) for length in LENGTHS) + 40
        self.ops, self.heads, self.dtype = ops, heads, dtype
        self.shape = KVShape(2, blocks, size, heads.num_kv_heads, heads.head_dim)
        self.kv = ops.kv(self.shape)
        half = heads.head_dim // 2
        angles = np.outer(np.arange(1000), 10000.0 ** (-np.arange(half) / half))
        self.rope = ops.rope(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
        order = np.random.default_rng(0).permutation(blocks).astype(np.int32)
        bounds = np.cumsum([0, *(-(-length // size) for length in LENGTHS)])
        self.tables = [order[a:b] for a, b in pairwise(bounds)]
        self.spare = order[bounds[-1] :]
        width = (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim
        self.rows = [
            torch.randn(n, width, generator=torch.Generator().manual_seed(n)).to(dtype).contiguous() for n in LENGTHS
        ]
        self.norms: HeadNorms | None = None
        self.spec = AttentionSpec(heads.head_dim**-0.5)

    def use_norms(self) -> None:
        size = self.heads.head_dim
        values = np.random.default_rng(1).normal(size=(2, size)).astype(np.float32)
        for_q, for_k = (StoredWeight("F32", (size,), row) for row in values)
        self.norms = HeadNorms(self.ops.norm(for_q, 1e-5), self.ops.norm(for_k, 1e-6))

    def run(self, chunks: Sequence[Chunk], qkv: torch.Tensor, prefixes: tuple[SharedPrefix, ...] = ()) -> torch.Tensor:
        plan = self.ops.plan(metadata(chunks, self.shape.block_size, prefixes), self.shape)
        q = self.ops.rope_write(qkv.to(self.dtype), self.heads, self.rope, self.norms, self.kv, 1, plan)
        return torch.clone(self.ops.attention(q, self.kv, 1, plan, self.spec))

    def whole(self) -> torch.Tensor:
        """All sequences from their beginning, in one step."""
        chunks = [Chunk(t, 0, n) for t, n in zip(self.tables, LENGTHS, strict=True)]
        return self.run(chunks, torch.cat(self.rows))
