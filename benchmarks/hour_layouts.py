"""Steps as attention sees them, for measurements: sequences in blocks of their own, or over a common beginning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stemma.kernels.ops import AttentionMetadata, SharedPrefix


def decode_layout(batch: int, context: int, block_size: int, num_shared: int = 0) -> AttentionMetadata:
    """One token a sequence; the first `num_shared` blocks are common to all of them."""
    width = -(-context // block_size)
    own = np.arange(batch * width, dtype=np.int32).reshape(batch, width)
    own[:, :num_shared] = own[0, :num_shared]
    positions = np.full(batch, context - 1, dtype=np.int32)
    shared = (SharedPrefix(0, batch, num_shared),) if num_shared else ()
    slots = own[:, (context - 1) // block_size] * block_size + (context - 1) % block_size
    contexts = np.full(batch, context, dtype=np.int32)
    return AttentionMetadata(positions, slots, np.arange(batch + 1, dtype=np.int32), contexts, own, shared)


def extend_layout(cached: int, new: int, block_size: int) -> AttentionMetadata:
    """One sequence: `new` tokens behind `cached` ones."""
    positions = np.arange(cached, cached + new, dtype=np.int32)
    table = np.arange(-(-(cached + new) // block_size), dtype=np.int32)[None]
    starts, contexts = np.array([0, new], dtype=np.int32), np.array([cached + new], dtype=np.int32)
    return AttentionMetadata(positions, positions, starts, contexts, table)


def layout(sequences: Sequence[tuple[int, int]], block_size: int) -> AttentionMetadata:
    """(cached, new) tokens of each sequence."""
    counts = [-(-(cached + new) // block_size) for cached, new in sequences]
    starts = np.concatenate(([0], np.cumsum(counts)))
    tables = np.zeros((len(sequences), max(counts)), dtype=np.int32)
    for row, start, count in zip(tables, starts, counts, strict=False):
        row[:count] = np.arange(start, start + count)
    positions = [np.arange(cached, cached + new) for cached, new in sequences]
    slots = [start * block_size + own for start, own in zip(starts, positions, strict=False)]
    return AttentionMetadata(
        np.concatenate(positions).astype(np.int32),
        np.concatenate(slots).astype(np.int32),
        np.cumsum([0, *(new for _, new in sequences)]).astype(np.int32),
        np.array([cached + new for cached, new in sequences], dtype=np.int32),
        tables,
    )
