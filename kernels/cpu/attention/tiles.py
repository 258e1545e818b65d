"""What every kind of paged attention shares: the words of a plan, the memory of a tile, the walk over its splits.

One unit of work is a *tile*: some query rows with all query heads of one KV head, over some splits of KV_SPLIT tokens
of one block table. Each query's scores, softmax and weighted values of a split are the same operations in the same
order whoever shares the tile, and splits are merged in order of position by one formula, whether at once or from
memory: so chunking, batching, caching and shared prefixes never change a bit of a result.

    tile (in `items`, 64-bit words): first row, rows, row of the block table, first split, end split, what becomes of it

A tile is either all that its rows see, and they are finished (AT_ONCE); or every split is put into memory as a part,
for a merge that follows (PARTS); or it begins with the first split, and what it merged is the first part of the merge,
in the place of its last split (STATE): merging goes on from there with the same bits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from llvmlite import ir

from stemma.kernels.cpu.attention.kv_dtypes import region_bytes
from stemma.kernels.cpu.machine.dialect import FLOAT, I32, I64, Code, Value, vector
from stemma.kernels.cpu.machine.exponentials import exp2
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.ops import KV_SPLIT

ITEM = ("first_row", "rows", "table", "first_split", "end_split", "kind")
AT_ONCE, PARTS, STATE = 0, 1, 2
PLAN = ("items", "num_items", "live", "positions", "tables", "table_width", "part_starts", "parts", "merged_rows",
        "first_parts", "num_merged")  # fmt: skip
"""live: room for the numbers of the items of which a window sees something."""
SPEC = ("score_scale", "softcap", "window", "sinks")
"""Two floats, a number, and an address or 0: of a float for each head. Scores, caps and sinks are in powers of 2."""
JOB = ("q", "out", "keys", "values", "block_stride", *PLAN, *SPEC)
SCRATCH_BYTES, ITEM_AT = 1 << 22, (1 << 22) - 64
"""A thread's memory for one tile; at its end room for the words of an item."""
LOG2_E = 1.4426950408889634
"""Scores are in powers of 2: exp(x) = 2**(x * LOG2_E)."""
MOST_QUERIES = 128
"""Rows of a tile times the heads that share a KV head, where that is more than one row."""
MOST_UNROLLED = 32
"""Queries whose products are written out one after the other; of more, in a loop."""
CHUNK = 64
"""What a window lets be left out at the beginning of a split are multiples of so many tokens."""


def matrix_unit(target: Target, kv_dtype: str) -> bool:
    """Whether the machine's matrix unit does the products of attention."""
    return target.name == "amx" and kv_dtype == "int16"


def planned_rows(target: Target, kv_dtype: str) -> int:
    """Query rows of a tile in a plan: a key is read once for all of them, times the heads that share it."""
    return 16 if matrix_unit(target, kv_dtype) else 4


def part_floats(value_width: int) -> int:
    """A partial result of one query: weighted values, maximum (of scores in powers of 2), sum."""
    return -(-value_width // 16) * 16 + 16


@dataclass(frozen=True, slots=True)
class Shape:
    """What the kernels are compiled for. windowed, softcapped: whether there is a window, a soft cap, of any size.

    value_dim: None, or how many of a key's numbers are its value too.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    target: Target
    kv_dtype: str
    windowed: bool = False
    softcapped: bool = False
    value_dim: int | None = None

    @property
    def accumulators(self) -> int:
        return self.target.accumulators

    @property
    def region_bytes(self) -> int:
        """Keys, or values, of one block and head."""
        return region_bytes(self.head_dim, self.block_size, self.kv_dtype)

    @property
    def group(self) -> int:
        return self.num_heads // self.num_kv_heads

    @property
    def tile_rows(self) -> int:
        """Rows that are computed at once."""
        return max(1, min(planned_rows(self.target, self.kv_dtype), MOST_QUERIES // self.group))

    @property
    def dim_lanes(self) -> int:
        return math.gcd(self.head_dim, 16)

    @property
    def padded_dim(self) -> int:
        return -(-self.head_dim // 16) * 16

    @property
    def part_floats(self) -> int:
        return part_floats(self.value_width)

    @property
    def value_width(self) -> int:
        return self.value_dim or self.head_dim

    @property
    def padded_value(self) -> int:
        return -(-self.value_width // 16) * 16

    @property
    def value_lanes(self) -> int:
        return math.gcd(self.value_width, 16)


@dataclass(frozen=True, slots=True)
class Tile:
    """The tile being computed, in the generated program. queries: rows times the heads that share a KV head."""

    job: Mapping[str, Value]
    item: Mapping[str, Value]
    head: Value
    table: Value
    rows: Value
    queries: Value
    memory: Mapping[str, Value]
    first_split: Value


class Span(NamedTuple):
    """Tokens of a split that some query of the tile may see: from position start + begin to start + end. The first of
    them, `seen`, may be a few tokens further: what stands between is nobody's, and may be NaN where it is floats."""

    start: Value
    begin: Value | int
    seen: Value | int
    end: Value

    def groups(self, tokens: int) -> tuple[Value | int, Value]:
        """The first and the end, counted by so many tokens, the last filled up."""
        first = self.begin // tokens if isinstance(self.begin, int) else self.begin.unsigned_divide(tokens)
        return first, (self.end + (tokens - 1)).unsigned_divide(tokens)


class Bounds(NamedTuple):
    """Which tokens of a split a query sees, for vectors of them."""

    numbers: Value
    low: Value | None
    limit: Value

    def hold(self, code: Code, token: Value) -> Value:
        """Of the tokens from this one."""
        places = code.splat(token.to(I32), self.numbers.type.count) + self.numbers
        seen = places < self.limit
        return seen if self.low is None else seen & (places >= self.low)


class Tiles(ABC):
    """Writes the function that computes one tile of up to `rows` rows."""

    def __init__(self, module: ir.Module, shape: Shape, rows: int, name: str) -> None:
        self.shape = shape
        self.rows = rows
        self.queries = rows * shape.group
        self.code = Code(module, name, 4)

    def write(self) -> ir.Function:
        code = self.code
        job_address, item_address, head, scratch = code.arguments
        job, item = read_words(code, job_address, JOB), read_words(code, item_address, ITEM)
        rows = self._rows(item)
        table = job["tables"] + item["table"] * job["table_width"] * 4
        memory, first_split = self._divide_scratch(scratch), item["first_split"]
        if self.shape.windowed:
            seen_from = first_seen(code, job, lowest_position(code, job, item))
            first_split = code.maximum(first_split, seen_from.unsigned_divide(KV_SPLIT))
        tile = Tile(job, item, head, table, rows, rows * self.shape.group, memory, first_split)
        self._begin(tile)
        with code.loop(first_split, item["end_split"]) as split:
            self._split(tile, self._limits(tile, split * KV_SPLIT))
            self._finish_split(tile, split)
        self._end(tile)
        return code.finish()

    def _begin(self, tile: Tile) -> None:
        size = 4 * self.shape.head_dim
        with self._each_query(tile) as (_, place):
            for at in range(0, size, 64):
                self.code.prefetch(tile.job["q"] + place * size + at)
        with self._each_query(tile) as (query, place):
            self._load_query(tile, query, tile.job["q"] + place * size)
            clear(self.code, self.shape, tile.memory["state"] + query * (4 * self.shape.part_floats))

    def _end(self, tile: Tile) -> None:
        """Finish the rows, or put the state where the merge will find it."""
        with self.code.when(tile.item["kind"].equals(STATE)), self.code.loop(0, tile.rows) as r:
            self._put(tile, r, tile.item["end_split"] - 1, "state")
        with self.code.when(tile.item["kind"].equals(AT_ONCE)), self._each_query(tile) as (query, place):
            state = tile.memory["state"] + query * (4 * self.shape.part_floats)
            head = tile.head * self.shape.group + query.unsigned_modulo(self.shape.group)
            divide(self.code, self.shape, tile.job, head, state, tile.job["out"] + place * (4 * self.shape.value_width))

    @contextmanager
    def _each_query(self, tile: Tile) -> Iterator[tuple[Value, Value]]:
        """A query's number in the tile, and among the queries of all rows and heads."""
        code, shape = self.code, self.shape
        with code.loop(0, tile.rows) as r, code.loop(0, shape.group) as g:
            row = self._row(tile, r) * shape.num_heads + tile.head * shape.group
            yield r * shape.group + g, row + g

    def _rows(self, item: Mapping[str, Value]) -> Value:
        """How many rows are computed; those beyond the item's are its last row once more."""
        return self.code.constant(I64, self.rows)

    def _row(self, tile: Tile, r: Value) -> Value:
        return self.code.minimum(tile.item["first_row"] + r, tile.item["first_row"] + tile.item["rows"] - 1)

    def _sizes(self) -> dict[str, int]:
        """Bytes of each area of the scratch memory."""
        part = 4 * self.shape.part_floats
        queries = self._padded_queries
        lows = {"lows": 8 * queries} if self.shape.windowed else {}
        return {"limits": 8 * queries, "parts": part * queries, "state": part * queries} | lows

    @property
    def _padded_queries(self) -> int:
        return self.queries

    def _divide_scratch(self, base: Value) -> dict[str, Value]:
        areas, at = {}, 0
        for name, size in self._sizes().items():
            areas[name] = base + at
            at += -(-size // 64) * 64
        assert at <= ITEM_AT, f"a tile of {self.shape} takes {at} bytes"
        return areas

    def _limits(self, tile: Tile, start: Value) -> Span:
        """Write which tokens of the split from `start` each query may see: from `lows`, if there is a window, to
        `limits`, 0 for none. Returns what all of them see."""
        code, group = self.code, self.shape.group
        end, begin = code.variable(0), code.variable(KV_SPLIT)
        with code.loop(0, tile.rows) as r:
            position = code.load(I32, tile.job["positions"] + self._row(tile, r) * 4).to(I64)
            seen = code.maximum(code.minimum(position + 1 - start, KV_SPLIT), 0)
            if self.shape.windowed:
                low = code.maximum(first_seen(code, tile.job, position) - start, 0)
                seen = code.select(low < KV_SPLIT, seen, code.constant(I64, 0))
                begin.value = code.minimum(begin.value, low)
                with code.loop(0, group) as g:
                    code.store(low, tile.memory["lows"] + 8 * (r * group + g), 8)
            end.value = code.maximum(end.value, seen)
            with code.loop(0, group) as g:
                code.store(seen, tile.memory["limits"] + 8 * (r * group + g), 8)
        if not self.shape.windowed:
            return Span(start, 0, 0, end.value)
        return Span(start, begin.value.unsigned_divide(CHUNK) * CHUNK, begin.value, end.value)

    def _each_piece(self, most: int, write: Callable[[Value | int, int], None]) -> None:
        """Write code for the tile's queries, some at once: write(first, how many)."""
        if self.queries <= MOST_UNROLLED:
            for piece in pieces(self.queries, most):
                write(piece.start, len(piece))
            return
        whole = self.queries // most * most
        with self.code.loop(0, whole, most) as first:
            write(first, most)
        if whole < self.queries:
            write(whole, self.queries - whole)

    def _bounds(self, tile: Tile, query: Value, lanes: int) -> Bounds:
        code, memory, ints = self.code, tile.memory, vector(I32, lanes)

        def of(name: str) -> Value:
            return code.splat(code.load_int(memory[name] + query * 8).to(I32), lanes)

        return Bounds(
            code.constant(ints, list(range(lanes))), of("lows") if self.shape.windowed else None, of("limits")
        )

    @abstractmethod
    def _load_query(self, tile: Tile, query: Value, source: Value) -> None:
        """Bring the floats of one query, at `source`, into the form that `_scores` reads."""

    @abstractmethod
    def _split(self, tile: Tile, span: Span) -> None:
        """All queries with the tokens of the span: weighted values, maximum and sum to the parts."""

    def _place(self, tile: Tile, token: Value) -> tuple[Value, Value]:
        """Physical block of a token, and where in the block it stands."""
        size = self.shape.block_size
        block = self.code.load(I32, tile.table + token.unsigned_divide(size) * 4).to(I64)
        return block, token.unsigned_modulo(size)

    def _region(self, tile: Tile, pool: str, block: Value) -> Value:
        """Keys, or values, of this tile's head in a block."""
        return tile.job[pool] + block * tile.job["block_stride"] + tile.head * self.shape.region_bytes

    def _finish_split(self, tile: Tile, split: Value) -> None:
        """Merge the split into the state, or put it where the merge will find it."""
        code, shape = self.code, self.shape
        size = 4 * shape.part_floats
        with code.loop(0, tile.rows) as r:
            visible = code.load_int(tile.memory["limits"] + 8 * shape.group * r) > 0
            with code.when(visible), code.either(tile.item["kind"].equals(PARTS)) as (later, now):
                with later:
                    self._put(tile, r, split, "parts")
                with now, code.loop(r * shape.group, (r + 1) * shape.group) as query:
                    merge(code, shape, tile.memory["state"] + query * size, tile.memory["parts"] + query * size)

    def _put(self, tile: Tile, r: Value, split: Value, area: str) -> None:
        """Partial results of a row's queries to their place among the parts."""
        code, shape = self.code, self.shape
        size, floats = 4 * shape.part_floats, vector(FLOAT, 16)
        slot = code.load_int(tile.job["part_starts"] + self._row(tile, r) * 8) + split
        with code.loop(0, shape.group) as g:
            part = tile.memory[area] + (g + r * shape.group) * size
            target = tile.job["parts"] + (slot * shape.num_heads + tile.head * shape.group + g) * size
            with code.loop(0, shape.part_floats, 16) as i:
                code.store(code.load(floats, part + i * 4), target + i * 4)


def pieces(count: int, largest: int) -> list[range]:
    """0 .. count in pieces as equal as can be, none larger than `largest`."""
    number = -(-count // largest)
    bounds = [count * i // number for i in range(number + 1)]
    return [range(a, b) for a, b in pairwise(bounds)]


def clear(code: Code, shape: Shape, state: Value) -> None:
    """The state before the first split."""
    zero = code.constant(vector(FLOAT, 16), 0.0)
    with code.loop(0, shape.part_floats, 16) as i:
        code.store(zero, state + i * 4)
    code.store(code.constant(FLOAT, float("-inf")), state + shape.padded_value * 4)


def merge(code: Code, shape: Shape, state: Value, part: Value) -> None:
    """Log-sum-exp merge of a split into the state (Dao et al. 2022, FlashAttention, section 3.1)."""
    at = shape.padded_value * 4
    old, new = code.load(FLOAT, state + at), code.load(FLOAT, part + at)
    top = code.maximum(old, new)
    keep, take = exp2(code, old - top), exp2(code, new - top)
    total = code.load(FLOAT, state + (at + 4)) * keep + code.load(FLOAT, part + (at + 4)) * take
    code.store(top, state + at)
    code.store(total, state + (at + 4))
    type_ = vector(FLOAT, shape.value_lanes)
    keeps, takes = code.splat(keep, shape.value_lanes), code.splat(take, shape.value_lanes)
    for d in range(0, shape.value_width, shape.value_lanes):
        both = code.load(type_, state + d * 4) * keeps + code.load(type_, part + d * 4) * takes
        code.store(both, state + d * 4)


def divide(code: Code, shape: Shape, job: Mapping[str, Value], head: Value, state: Value, target: Value) -> None:
    """The state's weighted values over their sum, in which the head's sink takes part."""
    type_, at = vector(FLOAT, shape.value_lanes), shape.padded_value * 4
    total, kept = code.variable(code.load(FLOAT, state + (at + 4))), code.variable(code.constant(FLOAT, 1.0))
    with code.when(job["sinks"].differs(0)):
        maximum, sink = code.load(FLOAT, state + at), code.load(FLOAT, job["sinks"] + head * 4)
        top = code.maximum(maximum, sink)
        kept.value = exp2(code, maximum - top)
        total.value = total.value * kept.value + exp2(code, sink - top)
    keeps, totals = code.splat(kept.value, shape.value_lanes), code.splat(total.value, shape.value_lanes)
    for d in range(0, shape.value_width, shape.value_lanes):
        code.store(code.load(type_, state + d * 4) * keeps / totals, target + d * 4)


def first_seen(code: Code, job: Mapping[str, Value], position: Value) -> Value:
    """The first position in the window of a query."""
    return code.maximum(position + 1 - job["window"], 0)


def lowest_position(code: Code, job: Mapping[str, Value], item: Mapping[str, Value]) -> Value:
    """Of an item's rows."""
    first = item["first_row"]
    lowest = code.variable(code.load(I32, job["positions"] + first * 4).to(I64))
    with code.loop(first + 1, first + item["rows"]) as row:
        lowest.value = code.minimum(lowest.value, code.load(I32, job["positions"] + row * 4).to(I64))
    return lowest.value
