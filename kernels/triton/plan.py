"""A step's metadata, cut into the rectangles of attention.py, and the device arrays that say so. No kernel runs here.

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
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from stemma.kernels.ops import AttentionMetadata, Int32Array, KVShape, SharedPrefix

PIECE = {4: 256, 2: 512, 1: 2048}
"""Tokens of a piece, by the bytes of a KV element: constants, so that sums never depend on the batch. Long enough that
writing and merging partial sums costs a few percent of the KV's bytes, short enough to spread one long sequence."""

FEW_ROWS = 64
"""A sequence with at most this many (token, query head) rows a KV head is cut into pieces; more fill the GPU anyway."""

SHARED_ROWS = 128
"""A shared prefix is used up to this many rows a sequence: beyond, partial sums cost more than reading the KV again."""


class CapacityError(ValueError):
    """A step does not fit the buffers of a fixed plan: run it with a plan of its own."""


class Cutting(NamedTuple):
    """What rectangles depend on besides the metadata."""

    group: int
    narrow_rows: int
    wide_rows: int
    piece: int
    block_size: int


class Rectangle(NamedTuple):
    first_row: int
    num_rows: int
    table_offset: int
    kv_first: int
    kv_end: int
    piece: int


class Cut(NamedTuple):
    """narrow, wide: (rectangles, 6) int32. partial_starts: (tokens + 1,). merged_rows: tokens that have partials."""

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
    wide: list[Rectangle] = []
    for prefix in metadata.shared_prefixes:
        length = shared_len(metadata, prefix, cutting)
        if length:
            prefix_lens[prefix.first : prefix.last] = length
            wide.extend(prefix_rectangles(metadata, prefix, length, cutting))
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
    return Cut(
        cut_singles(metadata, singles & (lengths > 0), prefix_lens, pieces, cutting),
        as_array(wide),
        starts.astype(np.int32),
        np.flatnonzero(counts).astype(np.int32),
    )


def as_array(rectangles: list[Rectangle]) -> Int32Array:
    return np.array(rectangles, dtype=np.int32).reshape(-1, len(Rectangle._fields))


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
    metadata: AttentionMetadata, prefix: SharedPrefix, length: int, cutting: Cutting
) -> Iterator[Rectangle]:
    """All tokens of all the sequences, piece by piece: each piece of the prefix is read once for a tile of them."""
    first, end = int(metadata.query_starts[prefix.first]), int(metadata.query_starts[prefix.last])
    offset = prefix.first * metadata.block_tables.shape[1]
    step = cutting.wide_rows // cutting.group
    for start in range(0, length, cutting.piece):
        for row in range(first, end, step):
            yield Rectangle(row, min(step, end - row), offset, start, start + cutting.piece, start // cutting.piece)


def cut_pieces(
    metadata: AttentionMetadata, index: int, kv_first: int, is_direct: bool, cutting: Cutting
) -> Iterator[Rectangle]:
    """A few tokens of one sequence: one tile high, a rectangle a piece."""
    first, end = int(metadata.query_starts[index]), int(metadata.query_starts[index + 1])
    offset, context = index * metadata.block_tables.shape[1], int(metadata.context_lens[index])
    for start in range(kv_first, context, cutting.piece):
        piece = -1 if is_direct else start // cutting.piece
        yield Rectangle(first, end - first, offset, start, min(start + cutting.piece, context), piece)


def cut_rows(
    metadata: AttentionMetadata, index: int, kv_first: int, is_direct: bool, cutting: Cutting
) -> Iterator[Rectangle]:
    """Many tokens of one sequence: tiles, each down to the position of its last token."""
    first, end = int(metadata.query_starts[index]), int(metadata.query_starts[index + 1])
    offset, context = index * metadata.block_tables.shape[1], int(metadata.context_lens[index])
    step = cutting.wide_rows // cutting.group
    piece = -1 if is_direct else kv_first // cutting.piece
    for row in range(first, end, step):
        last = min(row + step, end)
        yield Rectangle(row, last - row, offset, kv_first, context - (end - last), piece)


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
    offset = index[owner] * metadata.block_tables.shape[1]
    ends = np.minimum(starts + cutting.piece, contexts[owner])
    piece = np.where(direct, -1, starts // cutting.piece)
    return np.stack((first, rows, offset, starts, ends, piece), axis=1).astype(np.int32)


class Capacity(NamedTuple):
    """How much a plan's buffers hold: the grids of its kernels, whatever a step needs of them."""

    num_tokens: int
    num_table_entries: int
    num_narrow: int
    num_wide: int
    num_partials: int


def needed(metadata: AttentionMetadata, pieces: Cut) -> Capacity:
    """What this step needs."""
    return Capacity(
        len(metadata.positions), metadata.block_tables.size, len(pieces.narrow), len(pieces.wide), pieces.num_partials
    )


class Uploads:
    """Int32 arrays in one device buffer, sent with one copy; each begins at a multiple of 16 bytes."""

    def __init__(self, sizes: dict[str, int], device: torch.device) -> None:
        self._sizes = sizes
        self._starts: dict[str, int] = {}
        total = 0
        for name, size in sizes.items():
            self._starts[name] = total
            total += -(-max(size, 1) // 4) * 4
        self._pinned = device.type == "cuda"
        self._device = torch.zeros(total, dtype=torch.int32, device=device)

    @property
    def device(self) -> torch.device:
        return self._device.device

    def __getitem__(self, name: str) -> torch.Tensor:
        start = self._starts[name]
        return self._device[start : start + self._sizes[name]]

    def send(self, arrays: dict[str, Int32Array], fill: dict[str, int]) -> None:
        """Send arrays; what is shorter than its place ends in `fill`.

        The host side is new each time: the last one may still be on its way to the device.
        """
        staging = torch.zeros(len(self._device), dtype=torch.int32, pin_memory=self._pinned)
        host = staging.numpy()
        for name, array in arrays.items():
            start, flat = self._starts[name], array.reshape(-1)
            host[start : start + len(flat)] = flat
            host[start + len(flat) : start + self._sizes[name]] = fill.get(name, 0)
        self._device.copy_(staging, non_blocking=True)


@dataclass(slots=True, eq=False)
class AttentionPlan:
    """The rectangles of a step on the device, for one number of query heads, and room for partial sums."""

    cutting: Cutting
    capacity: Capacity
    uploads: Uploads
    partial_out: torch.Tensor  # (partials, heads, head_dim or value_dim) float32
    partial_stats: torch.Tensor  # (partials, heads, 2) float32

    def send(self, metadata: AttentionMetadata, pieces: Cut) -> None:
        """Raises CapacityError if the step needs more than the capacity."""
        wanted = needed(metadata, pieces)
        if any(need > have for need, have in zip(wanted, self.capacity, strict=True)):
            raise CapacityError(f"a step of {wanted} does not fit a plan of {self.capacity}; make it a plan of its own")
        self.uploads.send(
            {
                "tables": metadata.block_tables,
                "narrow": pieces.narrow,
                "wide": pieces.wide,
                "partial_starts": pieces.partial_starts,
                "merged_rows": pieces.merged_rows,
                "counts": np.array(
                    [len(pieces.narrow), 0, 0, 0, len(pieces.wide), 0, 0, 0, len(pieces.merged_rows)], dtype=np.int32
                ),
            },
            fill={"partial_starts": pieces.num_partials},
        )

    def rectangles(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """ "narrow" or "wide": room for rectangles (capacity, 6), and on the device how many there are."""
        count = self.uploads["counts"][0 if name == "narrow" else 4 :]
        return self.uploads[name].view(-1, len(Rectangle._fields)), count

    def merged_rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Room for the rows that have partials, and on the device how many there are."""
        return self.uploads["merged_rows"], self.uploads["counts"][8:]


def attention_plan(capacity: Capacity, cutting: Cutting, shape: KVShape, device: torch.device) -> AttentionPlan:
    """Allocate a plan of a capacity."""
    num_heads = cutting.group * shape.num_kv_heads
    merged = capacity.num_tokens if capacity.num_partials else 0
    sizes = {
        "tables": capacity.num_table_entries,
        "narrow": capacity.num_narrow * len(Rectangle._fields),
        "wide": capacity.num_wide * len(Rectangle._fields),
        "partial_starts": capacity.num_tokens + 1,
        "merged_rows": merged,
        "counts": 12,
    }
    partials = (max(capacity.num_partials, 1), num_heads)
    return AttentionPlan(
        cutting,
        capacity,
        Uploads(sizes, device),
        torch.empty((*partials, shape.value_dim or shape.head_dim), dtype=torch.float32, device=device),
        torch.empty((*partials, 2), dtype=torch.float32, device=device),
    )


@dataclass(slots=True, eq=False)
class TritonPlan:
    """A step: its rows on the device, and its rectangles, cut when attention first says how many heads there are."""

    shape: KVShape
    metadata: AttentionMetadata
    uploads: Uploads
    attention: dict[int, AttentionPlan] = field(default_factory=dict)

    @property
    def positions(self) -> torch.Tensor:
        return self.uploads["positions"]

    @property
    def slots(self) -> torch.Tensor:
        return self.uploads["slots"]

    def refill(self, metadata: AttentionMetadata) -> None:
        """Another step in the same buffers, for launches that were captured: the grids stay as they are.

        Rows beyond the step's own write no KV, and their results mean nothing. Raises CapacityError if it does not fit.
        """
        self.put(metadata, {num_heads: cut(metadata, plan.cutting) for num_heads, plan in self.attention.items()})

    def put(self, metadata: AttentionMetadata, pieces: dict[int, Cut]) -> None:
        """`refill` with a step that has been cut: its pieces, by number of query heads."""
        if len(metadata.positions) > len(self.positions):
            raise CapacityError(
                f"a step of {len(metadata.positions)} tokens does not fit a plan of {len(self.positions)}; "
                "make it a plan of its own"
            )
        for num_heads, plan in self.attention.items():
            plan.send(metadata, pieces[num_heads])
        self.metadata = metadata
        arrays = {"positions": metadata.positions, "slots": metadata.slots}
        self.uploads.send(arrays, fill={"slots": -1})


def step_plan(num_tokens: int, metadata: AttentionMetadata, shape: KVShape, device: torch.device) -> TritonPlan:
    """A plan with room for `num_tokens` rows, holding `metadata`."""
    plan = TritonPlan(shape, metadata, Uploads({"positions": num_tokens, "slots": num_tokens}, device))
    plan.refill(metadata)
    return plan
