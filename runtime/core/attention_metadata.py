"""From a batch to the arrays that say where its tokens stand. Numpy on the host; never touches the model.

position     0 ....... hit_len ........ match_len ........ end
full         |-- cached ---|-- replayed --|-- new tokens --|      replayed ones have their KV: slot -1
window       |-- behind it: 0 --|--- the last W, and this step's tokens ---|
states                     |-- pieces, from slot to slot ---|
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from stemma.kernels.ops import AttentionMetadata, Int32Array, SharedPrefix
from stemma.kernels.states import StateMetadata
from stemma.radix import Lease
from stemma.runtime.core.batch import Batch, Row
from stemma.runtime.model import MarkNeeds

MIN_SHARED_TOKENS = 128
"""A common beginning shorter than this is not worth a pass of its own."""


def make_attention_metadata(batch: Batch, block_size: int, needs: MarkNeeds | None = None) -> AttentionMetadata:
    """Where the tokens of a batch's rows stand, row by row.

    needs: what the model keeps beside the KV of full layers. Plain integers until the end: for the few tokens of a
    decode step that is faster than arrays.
    """
    leases = [_lease(row) for row in batch.rows]
    if batch.is_decode and needs is None:
        return _with_prefixes(_of_decodes(batch, [lease.blocks for lease in leases], block_size), batch, block_size)
    metadata = _with_prefixes(_of_pool(batch, [lease.blocks for lease in leases], block_size), batch, block_size)
    if needs is None:
        return metadata
    _replay(metadata.slots, batch, leases)
    window = None if needs.window is None else _of_pool(batch, [lease.window_blocks for lease in leases], block_size)
    return replace(metadata, window=window, states=_states(batch) if needs.has_states else None)


def _lease(row: Row) -> Lease:
    assert row.sequence.lease is not None
    return row.sequence.lease


def _of_pool(batch: Batch, tables: list[array[int]], block_size: int) -> AttentionMetadata:
    stacked, rows = _stack(tables), np.arange(len(tables), dtype=np.int32)
    starts = np.array([row.start for row in batch.rows], dtype=np.int32)
    counts = np.array([len(row.tokens) for row in batch.rows], dtype=np.int32)
    query_starts = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(counts, out=query_starts[1:])
    of_token = np.repeat(rows, counts)
    positions = np.arange(len(of_token), dtype=np.int32) + (starts - query_starts[:-1])[of_token]
    return AttentionMetadata(
        positions, _slots(stacked, of_token, positions, block_size), query_starts, starts + counts, stacked
    )


def _of_decodes(batch: Batch, tables: list[array[int]], block_size: int) -> AttentionMetadata:
    """As `_of_pool`, where each row has one token."""
    stacked, rows = _stack(tables), np.arange(len(tables) + 1, dtype=np.int32)
    positions = np.array([row.start for row in batch.rows], dtype=np.int32)
    slots = _slots(stacked, rows[:-1], positions, block_size)
    return AttentionMetadata(positions, slots, rows, positions + np.int32(1), stacked)


def _slots(stacked: Int32Array, rows: Int32Array, positions: Int32Array, block_size: int) -> Int32Array:
    """Where positions of these rows are written."""
    blocks, offsets = np.divmod(positions, np.int32(block_size))
    return stacked[rows, blocks] * np.int32(block_size) + offsets


def _with_prefixes(metadata: AttentionMetadata, batch: Batch, block_size: int) -> AttentionMetadata:
    """With the beginnings that neighbours have in common."""
    found = _shared_prefixes(batch, metadata.block_tables, block_size)
    return replace(metadata, shared_prefixes=found) if found else metadata


def _replay(slots: Int32Array, batch: Batch, leases: Iterable[Lease]) -> None:
    """Positions whose KV is the tree's are not written."""
    first = 0
    for row, lease in zip(batch.rows, leases, strict=True):
        num_replayed = min(max(lease.written_from - row.start, 0), len(row.tokens))
        slots[first : first + num_replayed] = -1
        first += len(row.tokens)


def _states(batch: Batch) -> StateMetadata:
    rows, starts, sources, targets = [0], [0], list[int](), list[int]()
    first = 0
    for row in batch.rows:
        for segment in row.segments:
            starts.append(first + segment.end - row.start)
            sources.append(segment.source)
            targets.append(segment.target)
        rows.append(len(sources))
        first += len(row.tokens)
    positions = [row.start for row in batch.rows]
    return StateMetadata(*(np.array(each, dtype=np.int32) for each in (rows, starts, sources, targets, positions)))


def _stack(tables: list[array[int]]) -> Int32Array:
    """The tables as one array, padded with 0."""
    widest = 4 * max(map(len, tables))
    padded = bytearray().join([table.tobytes().ljust(widest, b"\0") for table in tables])
    return np.frombuffer(padded, dtype=np.int32).reshape(len(tables), -1)


def _shared_prefixes(batch: Batch, tables: Int32Array, block_size: int) -> tuple[SharedPrefix, ...]:
    """Runs of neighbours with the same first blocks, as far as these are full before each row's first new token."""
    shortest = -(-MIN_SHARED_TOKENS // block_size)
    if len(tables) < 2 or tables.shape[1] < shortest:
        return ()
    if not (tables[1:, shortest - 1] == tables[:-1, shortest - 1]).any():
        return ()  # most steps: a block stands in several tables only behind the same blocks
    num_full = np.array([row.start // block_size for row in batch.rows], dtype=np.int32)
    return _runs(tables, num_full, shortest)


def _runs(tables: Int32Array, num_full: Int32Array, shortest: int) -> tuple[SharedPrefix, ...]:
    """Runs of neighbours with the same first blocks, each run as long as it saves the most block reads.

    num_full: (rows,) whole blocks of cached context before each row's first new token.
    """
    differs = tables[1:] != tables[:-1]
    same = np.where(differs.any(axis=1), differs.argmax(axis=1), tables.shape[1])
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
