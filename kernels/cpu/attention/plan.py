"""From attention metadata to the tiles of attention (`tiles.py`), once a step, for all layers.

    rows of sequence i, splits of its context     | split 0 | split 1 | split 2 |
      in a shared prefix of 2 splits              |<- tiles of all its sequences ->|<- own tiles ->|
      no shared prefix, many tiles in the step    |<------- one tile, merged at once ------->|
      no shared prefix, few tiles                 |<- tile ->|<- tile ->|<- tile ->|  merged later

Which of these is chosen moves time, never a bit of the result.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import numpy as np

from stemma.kernels.cpu.attention.tiles import PLAN
from stemma.kernels.ops import KV_SPLIT, AttentionMetadata, Int32Array


@dataclass(frozen=True, slots=True, eq=False)
class CpuPlan:
    """address: of the words that `attend` reads, with all that they point to behind them. positions, slots: addresses
    there. num_parts: partial results that need memory, times all heads."""

    metadata: AttentionMetadata
    address: int
    num_rows: int
    num_parts: int
    positions: int
    slots: int
    words: array[int]


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
    """All in one piece of memory: to make an array, or ask for its address, takes longer than to fill a small one."""
    positions = metadata.positions.tolist()
    part_starts, num_parts = [0] * num_rows, 0
    for row in later:
        part_starts[row] = num_parts
        num_parts += positions[row] // KV_SPLIT + 1
    parts = (
        bytes(8 * len(PLAN)), _int64s([*chain.from_iterable(items)]), bytes(8 * len(items)), _int64s(part_starts),
        _int64s(later), *map(_int32s, (metadata.positions, metadata.slots, metadata.block_tables)),
    )  # fmt: skip
    words = array("q", b"".join(parts))
    address, _ = words.buffer_info()
    begins = accumulate(map(len, parts), initial=address)
    _, of_items, live, of_parts, merged, of_positions, of_slots, tables, _ = begins
    width = metadata.block_tables.shape[1]
    known = (of_items, len(items), live, of_positions, tables, width, of_parts, 0, merged, len(later))
    words[: len(PLAN)] = array("q", known)
    return CpuPlan(metadata, address, num_rows, num_parts, of_positions, of_slots, words)


def _int64s(numbers: list[int]) -> bytes:
    return struct.pack(f"{len(numbers)}q", *numbers)


def _int32s(numbers: Int32Array) -> bytes:
    """Of whole words."""
    data = np.asarray(numbers, dtype=np.int32).tobytes()
    return data + bytes(-len(data) % 8)
