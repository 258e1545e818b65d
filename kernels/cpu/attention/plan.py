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

from stemma.kernels.cpu.attention.tiles import AT_ONCE, PARTS, PLAN, STATE
from stemma.kernels.ops import KV_SPLIT, AttentionMetadata, Int32Array

LONGEST = 4
"""Splits of an item, where a context is divided: the rest of a window may be little of a context."""


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
    """busy: items (times KV heads) that keep all threads busy; a context that is more of a step is divided."""
    starts, positions = metadata.query_starts.tolist(), metadata.positions.tolist()
    shared, first_parts = [0] * (len(starts) - 1), [0] * (len(starts) - 1)
    prefixes: list[tuple[int, ...]] = []  # tiles: the first words of items; shared: splits, by sequence
    for first, last, num_blocks in metadata.shared_prefixes:
        seen = min(positions[starts[i]] + 1 for i in range(first, last))
        splits = min(num_blocks * block_size, seen) // KV_SPLIT
        if splits > 0 and last - first > 1:
            shared[first:last] = [splits] * (last - first)
            begins = range(starts[first], starts[last], tile_rows)
            prefixes += [(row, min(tile_rows, starts[last] - row), first, 0, splits) for row in begins]
    own = [
        (row, min(tile_rows, end - row), i, shared[i], positions[min(row + tile_rows, end) - 1] // KV_SPLIT + 1)
        for i, (start, end) in enumerate(pairwise(starts))
        for row in range(start, end, tile_rows)
    ]
    most = max(1, sum(max(0, end - begin) for *_, begin, end in prefixes + own) // busy)
    items: list[tuple[int, ...]] = []
    later: list[tuple[int, int]] = []  # rows, and the first part that their merge finds
    for row, rows, i, begin, end in prefixes:
        items += _divided((row, rows, i), begin, end, most, STATE)
    for first, last, _ in metadata.shared_prefixes:
        if 0 < shared[first] <= most:
            first_parts[first:last] = [shared[first] - 1] * (last - first)
    for row, rows, i, begin, end in own:
        kind = PARTS if shared[i] else AT_ONCE
        items += _divided((row, rows, i), begin, end, most, kind)
        if shared[i] or end - begin > most:
            later += [(r, first_parts[i]) for r in range(row, row + rows)]
    return _with_words(metadata, starts[-1], items, later)


def _divided(tile: tuple[int, ...], begin: int, end: int, most: int, kind: int) -> list[tuple[int, ...]]:
    """The items of a tile: one of that kind, or several that leave parts."""
    if end - begin <= most:
        return [(*tile, begin, end, kind)] if end > begin else []
    size = min(most, LONGEST)
    return [(*tile, at, min(at + size, end), PARTS) for at in range(begin, end, size)]


def _with_words(
    metadata: AttentionMetadata, num_rows: int, items: list[tuple[int, ...]], later: list[tuple[int, int]]
) -> CpuPlan:
    """All in one piece of memory: to make an array, or ask for its address, takes longer than to fill a small one."""
    positions = metadata.positions.tolist()
    part_starts, num_parts = [0] * num_rows, 0
    for row, _ in later:
        part_starts[row] = num_parts
        num_parts += positions[row] // KV_SPLIT + 1
    parts = (
        bytes(8 * len(PLAN)), _int64s([*chain.from_iterable(items)]), bytes(8 * len(items)), _int64s(part_starts),
        _int64s([row for row, _ in later]), _int64s([first for _, first in later]),
        *map(_int32s, (metadata.positions, metadata.slots, metadata.block_tables)),
    )  # fmt: skip
    words = array("q", b"".join(parts))
    address, _ = words.buffer_info()
    begins = accumulate(map(len, parts), initial=address)
    _, of_items, live, of_parts, merged, first_parts, of_positions, of_slots, tables, _ = begins
    width = metadata.block_tables.shape[1]
    known = (of_items, len(items), live, of_positions, tables, width, of_parts, 0, merged, first_parts, len(later))
    words[: len(PLAN)] = array("q", known)
    return CpuPlan(metadata, address, num_rows, num_parts, of_positions, of_slots, words)


def _int64s(numbers: list[int]) -> bytes:
    return struct.pack(f"{len(numbers)}q", *numbers)


def _int32s(numbers: Int32Array) -> bytes:
    """Of whole words."""
    data = np.asarray(numbers, dtype=np.int32).tobytes()
    return data + bytes(-len(data) % 8)
