"""From a batch to the arrays that say where its tokens stand. Numpy on the host; never touches the model."""

from __future__ import annotations

import numpy as np

from stemma.kernels.ops import Int32Array, Layout, SharedPrefix
from stemma.runtime.core.batch import Batch

MIN_SHARED_TOKENS = 128
"""A common beginning shorter than this is not worth a pass of its own."""


def make_layout(batch: Batch, block_size: int) -> Layout:
    """The layout of a batch's rows, in their order."""
    num_rows = len(batch.rows)
    blocks = [row.sequence.lease.blocks if row.sequence.lease is not None else [] for row in batch.rows]
    tables = np.zeros((num_rows, max(map(len, blocks))), dtype=np.int32)
    for table, row_blocks in zip(tables, blocks, strict=True):
        table[: len(row_blocks)] = row_blocks
    starts = np.fromiter((row.start for row in batch.rows), np.int32, num_rows)
    counts = np.fromiter((len(row.tokens) for row in batch.rows), np.int32, num_rows)
    query_starts = np.zeros(num_rows + 1, dtype=np.int32)
    np.cumsum(counts, out=query_starts[1:])
    rows = np.repeat(np.arange(num_rows), counts)
    positions = np.arange(query_starts[-1], dtype=np.int32) + (starts - query_starts[:-1])[rows]
    slots = tables[rows, positions // block_size] * block_size + positions % block_size
    return Layout(
        positions=positions,
        slots=slots,
        query_starts=query_starts,
        context_lens=starts + counts,
        block_tables=tables,
        shared_prefixes=_shared_prefixes(tables, starts // block_size, -(-MIN_SHARED_TOKENS // block_size)),
    )


def _shared_prefixes(tables: Int32Array, num_full: Int32Array, shortest: int) -> tuple[SharedPrefix, ...]:
    """Runs of neighbours with the same first blocks, each run as long as it saves the most block reads.

    num_full: (rows,) whole blocks of cached context before each row's first new token.
    """
    same = (tables[1:] == tables[:-1]).cumprod(axis=1).sum(axis=1)
    common = np.minimum(same, np.minimum(num_full[1:], num_full[:-1])).tolist()
    runs: list[SharedPrefix] = []
    first = 0
    while first < len(common):
        last, depth = first, 0  # rows [first, last] share `depth` blocks
        while last < len(common):
            next_depth = min(depth, common[last]) if last > first else common[last]
            if next_depth < shortest or (last - first + 1) * next_depth < (last - first) * depth:
                break
            last, depth = last + 1, next_depth
        if last > first:
            runs.append(SharedPrefix(first, last + 1, depth))
        first = last + 1
    return tuple(runs)
