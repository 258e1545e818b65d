"""What every kind of paged attention shares: the words of a plan, the memory of a tile, the walk over its splits.

One unit of work is a *tile*: some query rows with all query heads of one KV head, over some splits of KV_SPLIT tokens
of one block table. Each query's scores, softmax and weighted values of a split are the same operations in the same
order whoever shares the tile, and splits are merged in order of position by one formula, whether at once or from
memory: so chunking, batching, caching and shared prefixes never change a bit of a result.

    tile (in `items`, 64-bit words): first row, rows, row of the block table, first split, end split, 1 if merged later
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from llvmlite import ir

from stemma.kernels.cpu.attention.kv_dtypes import region_bytes
from stemma.kernels.cpu.machine.dialect import FLOAT, I32, I64, Code, Value, vector
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.ops import KV_SPLIT

ITEM = ("first_row", "rows", "table", "first_split", "end_split", "later")
PLAN = ("items", "num_items", "positions", "tables", "table_width", "part_starts", "parts", "merged_rows", "num_merged")
JOB = ("q", "out", "keys", "values", "block_stride", *PLAN)
SCRATCH_BYTES, ITEM_AT = 1 << 20, (1 << 20) - 64
"""A thread's memory for one tile; at its end room for the words of an item."""
LOG2_E = 1.4426950408889634
"""Scores are in powers of 2: exp(x) = 2**(x * LOG2_E)."""
MOST_QUERIES = 128
"""Rows of a tile times the heads that share a KV head, where that is more than one row."""


def matrix_unit(target: Target, kv_dtype: str) -> bool:
    """Whether the machine's matrix unit does the products of attention."""
    return target.name == "amx" and kv_dtype == "int16"


def planned_rows(target: Target, kv_dtype: str) -> int:
    """Query rows of a tile in a plan: a key is read once for all of them, times the heads that share it."""
    return 16 if matrix_unit(target, kv_dtype) else 4


@dataclass(frozen=True, slots=True)
class Shape:
    """What the kernels are compiled for."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    target: Target
    kv_dtype: str

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
        """A partial result of one query: weighted values, maximum (of scores in powers of 2), sum."""
        return self.padded_dim + 16


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
        tile = Tile(job, item, head, table, rows, rows * self.shape.group, self._divide_scratch(scratch))
        self._begin(tile)
        with code.loop(item["first_split"], item["end_split"]) as split:
            start = split * KV_SPLIT
            count = self._limits(tile, start)
            self._split(tile, start, count)
            self._finish_split(tile, split)
        self._end(tile)
        return code.finish()

    def _begin(self, tile: Tile) -> None:
        with self._each_query(tile) as (_, floats):
            for at in range(0, 4 * self.shape.head_dim, 64):
                self.code.prefetch(tile.job["q"] + floats + at)
        with self._each_query(tile) as (query, floats):
            self._load_query(tile, query, tile.job["q"] + floats)
            clear(self.code, self.shape, tile.memory["state"] + query * (4 * self.shape.part_floats))

    def _end(self, tile: Tile) -> None:
        with self.code.when(tile.item["later"].equals(0)), self._each_query(tile) as (query, floats):
            state = tile.memory["state"] + query * (4 * self.shape.part_floats)
            divide(self.code, self.shape, state, tile.job["out"] + floats)

    @contextmanager
    def _each_query(self, tile: Tile) -> Iterator[tuple[Value, Value]]:
        """A query's number in the tile, and where its floats stand among those of all rows, in bytes."""
        code, shape = self.code, self.shape
        with code.loop(0, tile.rows) as r, code.loop(0, shape.group) as g:
            row = self._row(tile, r) * shape.num_heads + tile.head * shape.group
            yield r * shape.group + g, (row + g) * (4 * shape.head_dim)

    def _rows(self, item: Mapping[str, Value]) -> Value:
        """How many rows are computed; those beyond the item's are its last row once more."""
        return self.code.constant(I64, self.rows)

    def _row(self, tile: Tile, r: Value) -> Value:
        return self.code.minimum(tile.item["first_row"] + r, tile.item["first_row"] + tile.item["rows"] - 1)

    def _sizes(self) -> dict[str, int]:
        """Bytes of each area of the scratch memory."""
        part = 4 * self.shape.part_floats
        queries = self._padded_queries
        return {"limits": 8 * queries, "parts": part * queries, "state": part * queries}

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

    def _limits(self, tile: Tile, start: Value) -> Value:
        """Write how many tokens of the split from `start` each query may see; returns the most of them."""
        code = self.code
        count = code.variable(0)
        with code.loop(0, tile.rows) as r:
            limit = code.load(I32, tile.job["positions"] + self._row(tile, r) * 4).to(I64) + 1
            seen = code.maximum(code.minimum(limit - start, KV_SPLIT), 0)
            count.value = code.maximum(count.value, seen)
            with code.loop(0, self.shape.group) as g:
                code.store(seen, tile.memory["limits"] + 8 * (r * self.shape.group + g), 8)
        return count.value

    @abstractmethod
    def _load_query(self, tile: Tile, query: Value, source: Value) -> None:
        """Bring the floats of one query, at `source`, into the form that `_scores` reads."""

    @abstractmethod
    def _split(self, tile: Tile, start: Value, count: Value) -> None:
        """All queries with the `count` tokens from position `start`: weighted values, maximum and sum to the parts."""

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
        group, size = shape.group, 4 * shape.part_floats
        with code.loop(0, tile.rows) as r:
            visible = code.load_int(tile.memory["limits"] + 8 * group * r) > 0
            slot = code.load_int(tile.job["part_starts"] + self._row(tile, r) * 8) + split
            with code.when(visible), code.loop(0, group) as g:
                query = g + r * group
                part = tile.memory["parts"] + query * size
                with code.either(tile.item["later"].equals(0)) as (now, later):
                    with now:
                        merge(code, shape, tile.memory["state"] + query * size, part)
                    with later:
                        target = tile.job["parts"] + (slot * shape.num_heads + tile.head * group + g) * size
                        floats = vector(FLOAT, 16)
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
    code.store(code.constant(FLOAT, float("-inf")), state + shape.padded_dim * 4)


def merge(code: Code, shape: Shape, state: Value, part: Value) -> None:
    """Log-sum-exp merge of a split into the state (Dao et al. 2022, FlashAttention, section 3.1)."""
    at = shape.padded_dim * 4
    old, new = code.load(FLOAT, state + at), code.load(FLOAT, part + at)
    top = code.maximum(old, new)
    keep, take = code.exp2(old - top), code.exp2(new - top)
    total = code.load(FLOAT, state + (at + 4)) * keep + code.load(FLOAT, part + (at + 4)) * take
    code.store(top, state + at)
    code.store(total, state + (at + 4))
    type_ = vector(FLOAT, shape.dim_lanes)
    keeps, takes = code.splat(keep, shape.dim_lanes), code.splat(take, shape.dim_lanes)
    for d in range(0, shape.head_dim, shape.dim_lanes):
        both = code.load(type_, state + d * 4) * keeps + code.load(type_, part + d * 4) * takes
        code.store(both, state + d * 4)


def divide(code: Code, shape: Shape, state: Value, target: Value) -> None:
    """The state's weighted values over their sum."""
    type_ = vector(FLOAT, shape.dim_lanes)
    total = code.splat(code.load(FLOAT, state + (shape.padded_dim + 1) * 4), shape.dim_lanes)
    for d in range(0, shape.head_dim, shape.dim_lanes):
        code.store(code.load(type_, state + d * 4) / total, target + d * 4)
