"""How many bytes an attention step moves, counted rectangle by rectangle on the cut that would run; no GPU needed.

Everything a kernel loads or stores is counted once for each time it asks for it, tables and records too, although most
of those repeated loads hit a cache. The ideal is the KV of each sequence, read once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.kernels.ops import AttentionMetadata, KVShape
from stemma.kernels.triton.cut import Cut

Int64Array = npt.NDArray[np.int64]


class Traffic(NamedTuple):
    """Bytes. partials: written by the rectangles and read again by the merge. control: tables, records, positions."""

    kv: int
    scales: int
    queries: int
    outputs: int
    partials: int
    control: int

    @property
    def total(self) -> int:
        return sum(self)


def ideal_bytes(metadata: AttentionMetadata, shape: KVShape, kv_bytes: int) -> int:
    """2 x tokens of context x KV heads x head_dim x bytes, over all sequences."""
    return 2 * int(metadata.context_lens.sum()) * shape.num_kv_heads * shape.head_dim * kv_bytes


def attention_traffic(
    metadata: AttentionMetadata, cut: Cut, shape: KVShape, num_heads: int, kv_bytes: int, activation_bytes: int = 2
) -> Traffic:
    """Of one layer. Scales (float16) are there for KV of one byte."""
    rectangles = np.concatenate((cut.narrow, cut.wide)).astype(np.int64)
    rows, length, piece = rectangles[:, 1], rectangles[:, 4] - rectangles[:, 3], rectangles[:, 5]
    kv_tokens = int(length.sum()) * shape.num_kv_heads
    row_bytes = num_heads * shape.head_dim * activation_bytes
    partial_rows = int(rows[piece >= 0].sum())
    direct_rows = int(rows[piece < 0].sum())
    partial_bytes = partial_rows * num_heads * (shape.head_dim + 2) * 4
    return Traffic(
        kv=2 * kv_tokens * shape.head_dim * kv_bytes,
        scales=2 * kv_tokens * 2 if kv_bytes == 1 else 0,
        queries=int(rows.sum()) * row_bytes,
        outputs=(direct_rows + len(cut.merged_rows)) * row_bytes,
        partials=2 * partial_bytes,
        control=control_bytes(rectangles, length, shape) + 4 * num_heads * 3 * len(cut.merged_rows),
    )


def control_bytes(rectangles: Int64Array, length: Int64Array, shape: KVShape) -> int:
    """Per KV head: the count and the record of each rectangle, a position a row, a table entry a block."""
    blocks = int((-(-length // shape.block_size)).sum())
    return 4 * shape.num_kv_heads * (7 * len(rectangles) + 2 * int(rectangles[:, 1].sum()) + blocks)
