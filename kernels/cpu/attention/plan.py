"""From attention metadata to the tiles of attention (`tiles.py`), once a step, for all layers.

    rows of sequence i, splits of its context     | split 0 | split 1 | split 2 |
      in a shared prefix of 2 splits              |<- tiles of all its sequences ->|<- own tiles ->|
      no shared prefix, many tiles in the step    |<------- one tile, merged at once ------->|
      no shared prefix, few tiles                 |<- tile ->|<- tile ->|<- tile ->|  merged later

Which of these is chosen moves time, never a bit of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.cpu.attention.tiles import ITEM, PLAN
from stemma.kernels.ops import KV_SPLIT, AttentionMetadata

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class CpuPlan:
    """address: of the words that `attend` reads. num_parts: partial results that need memory, times all heads."""

    metadata: AttentionMetadata
    address: int
    num_rows: int
    num_parts: int
    positions: int
    slots: int
    words: Array
    memory: tuple[Array, ...]


def make_plan(metadata: AttentionMetadata, block_size: int, busy: int, tile_rows: int) -> CpuPlan:
    """busy: tiles (times KV heads) below which a context is divided among threads."""
    starts, lengths = metadata.query_starts.tolist(), metadata.context_lens.tolist()
    num_rows = starts[-1]
    shared = [0] * len(lengths)  # splits of each sequence that are computed with its neighbours
    items: list[tuple[int, ...]] = []
    for first, last, num_blocks in metadata.shared_prefixes:
        splits = min(num_blocks * block_size, *lengths[first:last]) // KV_SPLIT
        if splits > 0 and last - first > 1:
            shared[first:last] = [splits] * (last - first)
            items += [
                (row, min(tile_rows, starts[last] - row), first, split, split + 1, 1)
                for split in range(splits)
                for row in range(starts[first], starts[last], tile_rows)
            ]
    num_tiles = sum(-(-(end - start) // tile_rows) for start, end in pairwise(starts))
    divide = num_tiles < busy
    later: list[int] = []
    for i, length in enumerate(lengths):
        splits = -(-length // KV_SPLIT)
        parts = shared[i] > 0 or (divide and splits > 1)
        ranges = [(s, s + 1) for s in range(shared[i], splits)] if divide else [(shared[i], splits)]
        for row in range(starts[i], starts[i + 1], tile_rows):
            rows = min(tile_rows, starts[i + 1] - row)
            items += [(row, rows, i, a, b, int(parts)) for a, b in ranges if b > a]
        if parts:
            later += range(starts[i], starts[i + 1])
    return _with_words(metadata, num_rows, items, later)


def _with_words(metadata: AttentionMetadata, num_rows: int, items: list[tuple[int, ...]], later: list[int]) -> CpuPlan:
    positions, slots = (np.ascontiguousarray(a, dtype=np.int32) for a in (metadata.positions, metadata.slots))
    tables = np.ascontiguousarray(metadata.block_tables, dtype=np.int32)
    table_of_items = np.array(items, dtype=np.int64).reshape(-1, len(ITEM))
    live = np.empty(len(items), dtype=np.int64)
    merged = np.array(later, dtype=np.int64)
    part_starts = np.zeros(num_rows, dtype=np.int64)
    ends = np.cumsum(positions[merged].astype(np.int64) // KV_SPLIT + 1)
    part_starts[merged] = np.concatenate(([0], ends[:-1])) if later else 0
    words = np.array(
        [table_of_items.ctypes.data, len(items), live.ctypes.data, positions.ctypes.data, tables.ctypes.data,
         tables.shape[1], part_starts.ctypes.data, 0, merged.ctypes.data, len(later)], dtype=np.int64,
    )  # fmt: skip
    assert len(words) == len(PLAN)
    memory = (positions, slots, tables, table_of_items, live, merged, part_starts)
    num_parts = int(ends[-1]) if later else 0
    return CpuPlan(
        metadata, words.ctypes.data, num_rows, num_parts, positions.ctypes.data, slots.ctypes.data, words, memory
    )
