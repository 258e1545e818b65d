"""A step's metadata, cut into the rectangles of attention.py. Knows no device.

One sequence of 40 query tokens, 3 query heads a KV head, 128 rows a tile (42 tokens), behind 1,030 cached ones; then a
decode token at position 1,300 (pieces of 512):

    positions      0                 512                1024  1030       1070
    40 tokens      |<--------------- one rectangle, written directly --------->|
    1 token        |<-- piece 0 ---->|<-- piece 1 ----->|<--- piece 2 ---> 1300|   merged in this order

Which tokens are cut into pieces depends on their own sequence alone, and pieces begin at multiples of a constant: what
a token's sum looks like does not depend on the batch. A shared prefix moves whole pieces to rectangles of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stemma.kernels.ops import AttentionMetadata, Int32Array, SharedPrefix

PIECE = {4: 256, 2: 512, 1: 2048}
"""Tokens of a piece, by the bytes of a KV element: constants, so that sums never depend on the batch. Long enough that
writing and merging partial sums costs a few percent of the KV's bytes, short enough to spread one long sequence. Of
one byte: at most, see `piece_of`."""

PIECE_OF_HEAD = 32_768
"""Tokens times head_dim of a piece of 8-bit KV, for one query head a KV head."""

FEW_ROWS = 64
"""A sequence with at most this many (token, query head) rows a KV head is cut into pieces; more fill the GPU anyway."""

SHARED_ROWS = 128
"""A shared prefix is used up to this many rows a sequence: beyond, partial sums cost more than reading the KV again."""


def piece_of(kv_bytes: int, group: int, head_dim: int) -> int:
    """Tokens of a piece: a constant of the model.

    Partial sums beside 8-bit KV are 4 x group / piece of its bytes, queries group / piece, scales 2 / head_dim. The
    piece is the shortest of 512, 1,024 and 2,048 with which all of that stays below a twentieth, or else the longest.
    """
    if kv_bytes > 1:
        return PIECE[kv_bytes]
    shortest = -(-PIECE_OF_HEAD * group // head_dim)
    return max(PIECE[2], min(PIECE[1], 1 << (shortest - 1).bit_length()))


class Cutting(NamedTuple):
    """What rectangles depend on besides the metadata."""

    group: int
    narrow_rows: int
    wide_rows: int
    piece: int
    block_size: int


class Rectangle(NamedTuple):
    """sequence: whose block table it reads; what is sent has the place of that table instead. piece: -1 is no partial
    sum."""

    first_row: int
    num_rows: int
    sequence: int
    kv_first: int
    kv_end: int
    piece: int


class Cut(NamedTuple):
    """narrow, wide: (rectangles, 6) int32, the longest first. partial_starts: (tokens + 1,). merged_rows: tokens that
    have partials."""

    narrow: Int32Array
    wide: Int32Array
    partial_starts: Int32Array
    merged_rows: Int32Array

    @property
    def num_partials(self) -> int:
        return int(self.partial_starts[-1])


def cut(metadata: AttentionMetadata, cutting: Cutting) -> Cut:
    """Cut a step into rectangles."""
    lengths = np.diff(metadata.query_starts)
    prefix_lens = np.zeros(len(lengths), dtype=np.int64)
    narrow: list[Rectangle] = []
    wide: list[Rectangle] = []
    for prefix in metadata.shared_prefixes:
        length = shared_len(metadata, prefix, cutting)
        if length:
            prefix_lens[prefix.first : prefix.last] = length
            num_tokens = int(metadata.query_starts[prefix.last] - metadata.query_starts[prefix.first])
            is_narrow = num_tokens * cutting.group <= cutting.narrow_rows
            step = num_tokens if is_narrow else cutting.wide_rows // cutting.group
            (narrow if is_narrow else wide).extend(prefix_rectangles(metadata, prefix, length, (cutting.piece, step)))
    few = lengths * cutting.group <= FEW_ROWS
    own_pieces = np.where(few, -(-(metadata.context_lens - prefix_lens) // cutting.piece), 1)
    pieces = own_pieces + prefix_lens // cutting.piece
    pieces[pieces == 1] = 0
    singles = lengths * cutting.group <= cutting.narrow_rows
    for index in np.flatnonzero(~singles & (lengths > 0)):
        kv_first, is_direct = int(prefix_lens[index]), bool(pieces[index] == 0)
        cutter = cut_pieces if few[index] else cut_rows
        wide.extend(cutter(metadata, int(index), kv_first, is_direct, cutting))
    counts = np.repeat(pieces, lengths)
    starts = np.concatenate(([0], np.cumsum(counts)))
    one_tile = cut_singles(metadata, singles & (lengths > 0), prefix_lens, pieces, cutting)
    return Cut(
        longest_first(np.concatenate((as_array(narrow), one_tile))),
        longest_first(as_array(wide)),
        starts.astype(np.int32),
        np.flatnonzero(counts).astype(np.int32),
    )


def as_array(rectangles: list[Rectangle]) -> Int32Array:
    return np.array(rectangles, dtype=np.int32).reshape(-1, len(Rectangle._fields))


def longest_first(rectangles: Int32Array) -> Int32Array:
    """What is long must not begin last, when other programs have nothing left. Only the order of work: sums do not
    depend on it."""
    return rectangles[np.argsort(rectangles[:, 3] - rectangles[:, 4], kind="stable")]


def shared_len(metadata: AttentionMetadata, prefix: SharedPrefix, cutting: Cutting) -> int:
    """Positions of the prefix that are worth rectangles of their own: whole pieces, before any token of this step."""
    members = slice(prefix.first, prefix.last)
    num_tokens = int(metadata.query_starts[prefix.last] - metadata.query_starts[prefix.first])
    num_sequences = prefix.last - prefix.first
    if num_sequences < 2 or num_tokens * cutting.group > SHARED_ROWS * num_sequences:
        return 0
    cached = metadata.context_lens[members] - np.diff(metadata.query_starts)[members]
    length = min(int(cached.min()), prefix.num_blocks * cutting.block_size)
    return length // cutting.piece * cutting.piece


def prefix_rectangles(
    metadata: AttentionMetadata, prefix: SharedPrefix, length: int, sizes: tuple[int, int]
) -> Iterator[Rectangle]:
    """All tokens of all the sequences, piece by piece: each piece of the prefix is read once for a tile of them. sizes:
    of a piece, and of a tile in tokens."""
    first, end = int(metadata.query_starts[prefix.first]), int(metadata.query_starts[prefix.last])
    piece, step = sizes
    for start in range(0, length, piece):
        for row in range(first, end, step):
            yield Rectangle(row, min(step, end - row), prefix.first, start, start + piece, start // piece)


def cut_pieces(
    metadata: AttentionMetadata, index: int, kv_first: int, is_direct: bool, cutting: Cutting
) -> Iterator[Rectangle]:
    """A few tokens of one sequence: one tile high, a rectangle a piece."""
    first, end = int(metadata.query_starts[index]), int(metadata.query_starts[index + 1])
    context = int(metadata.context_lens[index])
    for start in range(kv_first, context, cutting.piece):
        piece = -1 if is_direct else start // cutting.piece
        yield Rectangle(first, end - first, index, start, min(start + cutting.piece, context), piece)


def cut_rows(
    metadata: AttentionMetadata, index: int, kv_first: int, is_direct: bool, cutting: Cutting
) -> Iterator[Rectangle]:
    """Many tokens of one sequence: tiles, each down to the position of its last token."""
    first, end = int(metadata.query_starts[index]), int(metadata.query_starts[index + 1])
    context = int(metadata.context_lens[index])
    step = cutting.wide_rows // cutting.group
    piece = -1 if is_direct else kv_first // cutting.piece
    for row in range(first, end, step):
        last = min(row + step, end)
        yield Rectangle(row, last - row, index, kv_first, context - (end - last), piece)


def cut_singles(
    metadata: AttentionMetadata, chosen: np.ndarray, prefix_lens: np.ndarray, pieces: np.ndarray, cutting: Cutting
) -> Int32Array:
    """Sequences that fit one narrow tile, all at once: decode steps have hundreds of them."""
    index = np.flatnonzero(chosen)
    if len(index) == 0:
        return as_array([])
    contexts = metadata.context_lens[index].astype(np.int64)
    counts = -(-(contexts - prefix_lens[index]) // cutting.piece)
    owner = np.repeat(np.arange(len(index)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = prefix_lens[index][owner] + number * cutting.piece
    direct = pieces[index][owner] == 0
    first = metadata.query_starts[index][owner]
    rows = metadata.query_starts[index + 1][owner] - first
    ends = np.minimum(starts + cutting.piece, contexts[owner])
    piece = np.where(direct, -1, starts // cutting.piece)
    return np.stack((first, rows, index[owner], starts, ends, piece), axis=1).astype(np.int32)
