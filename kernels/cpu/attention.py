"""Paged attention, written once for decode, extend and shared prefixes.

The KV of a layer lies block by block and head by head: keys (head_dim, block_size), so that the lanes of a vector are
tokens; values (block_size, head_dim), so that the lanes are the head's dimensions; behind them, for int8, a scale for
each token (`store.py`). No vector is ever summed across but for the softmax.

One unit of work is a *tile*: up to TILE_ROWS query rows with all query heads of one KV head, over some splits of
KV_SPLIT tokens of one block table. Each query's scores, softmax and weighted values of a split are the same operations
in the same order whoever shares the tile, and splits are merged in order of position by one formula, whether at once
or from memory: so chunking, batching, caching and shared prefixes never change a bit of a result.

    tile (in `items`, 64-bit words): first row, rows, row of the block table, first split, end split, 1 if merged later
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from llvmlite import ir

from stemma.kernels.cpu.dialect import FLOAT, I32, I64, Code, Value, vector
from stemma.kernels.cpu.linear import set_words
from stemma.kernels.cpu.pool import ARGUMENTS, add_parallel
from stemma.kernels.cpu.rows import _words
from stemma.kernels.cpu.store import load_kv, region_bytes
from stemma.kernels.ops import KV_SPLIT

ITEM = ("first_row", "rows", "table", "first_split", "end_split", "later")
PLAN = ("items", "num_items", "positions", "tables", "table_width", "part_starts", "parts", "merged_rows", "num_merged")
JOB = ("q", "out", "keys", "values", *PLAN)
TILE_ROWS = 4
"""Query rows of a tile, so that a key is read once for 4 rows times the heads that share it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the kernels are compiled for."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    accumulators: int
    kv_dtype: str = "float32"

    @property
    def region_bytes(self) -> int:
        """Keys, or values, of one block and head."""
        return region_bytes(self.head_dim, self.block_size, self.kv_dtype)

    @property
    def group(self) -> int:
        return self.num_heads // self.num_kv_heads

    @property
    def token_lanes(self) -> int:
        return math.gcd(self.block_size, 16)

    @property
    def dim_lanes(self) -> int:
        return math.gcd(self.head_dim, 16)

    @property
    def part_floats(self) -> int:
        """A partial result of one query: weighted values, maximum, sum."""
        return self.head_dim + 16

    @property
    def scratch_bytes(self) -> int:
        queries = TILE_ROWS * self.group
        return 4 * queries * (3 * self.head_dim + KV_SPLIT + 64) + 4096


@dataclass(frozen=True, slots=True)
class Scratch:
    """A thread's memory for one tile of `queries` queries; addresses."""

    queries: Value  # (head_dim, queries)
    scores: Value  # (queries, KV_SPLIT), then probabilities
    parts: Value  # (queries, part_floats): this split
    state: Value  # (queries, part_floats): all splits so far
    limits: Value  # (queries,) int64: tokens of this split that the query may see


class Tiles:
    """Writes the function that computes one tile with `rows` rows."""

    def __init__(self, module: ir.Module, shape: Shape, rows: int) -> None:
        self.shape = shape
        self.rows = rows
        self.queries = rows * shape.group
        self.code = Code(module, f"tile_{rows}", 4)

    def write(self) -> ir.Function:
        code, shape = self.code, self.shape
        job_address, item_address, head, scratch = code.arguments
        job, item = _words(code, job_address, JOB), _words(code, item_address, ITEM)
        last_row = item["first_row"] + item["rows"] - 1
        rows = [code.minimum(item["first_row"] + r, last_row) for r in range(self.rows)]
        limits = [code.load(I32, job["positions"] + row * 4).to(I64) + 1 for row in rows]
        memory = self._scratch(scratch)
        self._load_queries(job, rows, head, memory)
        self._clear(memory.state)
        table = job["tables"] + item["table"] * job["table_width"] * 4
        with code.loop(item["first_split"], item["end_split"]) as split:
            start = split * KV_SPLIT
            count = code.variable(0)
            for r, limit in enumerate(limits):
                seen = code.maximum(code.minimum(limit - start, KV_SPLIT), 0)
                count.value = code.maximum(count.value, seen)
                for g in range(shape.group):
                    code.store(seen, memory.limits + 8 * (r * shape.group + g), 8)
            self._scores(job, table, head, start, count.value, memory)
            self._softmax(job, table, head, start, count.value, memory)
            self._weigh(job, table, head, start, count.value, memory)
            self._finish_split(job, item, rows, head, split, memory)
        with code.when(item["later"].equals(0)):
            for r, row in enumerate(rows):
                for g in range(shape.group):
                    target = job["out"] + ((row * shape.num_heads) + head * shape.group + g) * shape.head_dim * 4
                    state = memory.state + (r * shape.group + g) * shape.part_floats * 4
                    divide(code, shape, state, target)
        return code.finish()

    def _scratch(self, base: Value) -> Scratch:
        shape, n = self.shape, self.queries
        sizes = [n * shape.head_dim, n * KV_SPLIT, n * shape.part_floats, n * shape.part_floats]
        starts = [base]
        for size in sizes:
            starts.append(starts[-1] + (4 * size + 63) // 64 * 64)
        return Scratch(*starts)

    def _load_queries(self, job: dict[str, Value], rows: list[Value], head: Value, memory: Scratch) -> None:
        code, shape = self.code, self.shape
        for r, row in enumerate(rows):
            for g in range(shape.group):
                source = job["q"] + (row * shape.num_heads + head * shape.group + g) * shape.head_dim * 4
                with code.loop(0, shape.head_dim) as d:
                    place = memory.queries + (d * self.queries + (r * shape.group + g)) * 4
                    code.store(code.load(FLOAT, source + d * 4), place)

    def _clear(self, parts: Value) -> None:
        code, shape = self.code, self.shape
        with code.loop(0, self.queries) as query:
            part = parts + query * shape.part_floats * 4
            with code.loop(0, shape.part_floats) as i:
                code.store(code.constant(FLOAT, 0.0), part + i * 4)
            code.store(code.constant(FLOAT, float("-inf")), part + shape.head_dim * 4)

    def _place(self, table: Value, token: Value) -> tuple[Value, Value]:
        """Physical block of a token, and where in the block it stands."""
        size = self.shape.block_size
        block = self.code.load(I32, table + token.unsigned_divide(size) * 4).to(I64)
        return block, token.unsigned_modulo(size)

    def _scores(
        self, job: dict[str, Value], table: Value, head: Value, start: Value, count: Value, memory: Scratch
    ) -> None:
        """scores[query, token] = q . k / sqrt(head_dim), `token_lanes` tokens at a time, in order of dimension."""
        code, shape = self.code, self.shape
        lanes = shape.token_lanes
        groups = (count + (lanes - 1)) // lanes
        for chosen in _pieces(self.queries, max(1, min(6, shape.accumulators // 2))):
            at_once = max(1, shape.accumulators // len(chosen))
            done = code.constant(I64, 0)
            for width in dict.fromkeys((at_once, 1)):
                until = groups // width * width
                with code.loop(done, until, width) as first:
                    keys = []
                    for i in range(width):
                        block, offset = self._place(table, start + (first + i) * lanes)
                        region = job["keys"] + (block * shape.num_kv_heads + head) * shape.region_bytes
                        keys.append((region, offset))
                    self._score_piece(chosen, keys, first * lanes, memory)
                done = until

    def _score_piece(self, chosen: range, keys: list[tuple[Value, Value]], token: Value, memory: Scratch) -> None:
        code, shape = self.code, self.shape
        lanes = shape.token_lanes
        type_ = vector(FLOAT, lanes)
        sums = [[code.variable(code.constant(type_, 0.0)) for _ in keys] for _ in chosen]
        step = math.gcd(shape.head_dim, 4)
        with code.loop(0, shape.head_dim, step) as first:
            for i in range(step):
                columns = [
                    load_kv(code, shape.kv_dtype, lanes, region, (first + i) * shape.block_size + offset)
                    for region, offset in keys
                ]
                for query, row in zip(chosen, sums, strict=True):
                    q = code.broadcast(FLOAT, memory.queries + ((first + i) * self.queries + query) * 4, lanes)
                    for total, column in zip(row, columns, strict=True):
                        total.value = code.fma(column, q, total.value)
        for query, row in zip(chosen, sums, strict=True):
            for i, total in enumerate(row):
                place = memory.scores + (token + (query * KV_SPLIT + i * lanes)) * 4
                score = total.value * shape.head_dim**-0.5
                code.store(self._scaled(score, *keys[i]), place)

    def _scaled(self, values: Value, region: Value, token: Value) -> Value:
        """Values of neighbouring tokens times the tokens' scales, if the KV has scales."""
        if self.shape.kv_dtype != "int8":
            return values
        scales = region + (self.shape.head_dim * self.shape.block_size + token * 4)
        return values * self.code.load(values.type, scales)

    def _softmax(
        self, job: dict[str, Value], table: Value, head: Value, start: Value, count: Value, memory: Scratch
    ) -> None:
        """scores -> exp(score - maximum), 0 beyond a query's limit; maximum and sum to the parts.

        What is kept for the weighing is scaled as the values are.
        """
        code, shape = self.code, self.shape
        lanes = shape.token_lanes
        type_ = vector(FLOAT, lanes)
        numbers = code.constant(vector(I32, lanes), list(range(lanes)))
        lowest = code.constant(type_, float("-inf"))
        groups = (count + (lanes - 1)) // lanes
        with code.loop(0, self.queries) as query:
            limit = code.splat(code.load_int(memory.limits + query * 8).to(I32), lanes)
            row = memory.scores + query * (KV_SPLIT * 4)
            top = code.variable(lowest)
            with code.loop(0, groups) as group:
                token = code.splat((group * lanes).to(I32), lanes) + numbers
                score = code.select(token < limit, code.load(type_, row + group * (lanes * 4)), lowest)
                code.store(score, row + group * (lanes * 4))
                top.value = code.maximum(top.value, score)
            maximum = code.reduce(top.value, code.maximum)
            zero = code.constant(FLOAT, 0.0)
            base = code.splat(code.select(maximum > float("-inf"), maximum, zero), lanes)
            total = code.variable(code.constant(type_, 0.0))
            with code.loop(0, groups) as group:
                weight = code.exp(code.load(type_, row + group * (lanes * 4)) - base)
                total.value = total.value + weight
                block, offset = self._place(table, start + group * lanes)
                region = job["values"] + (block * shape.num_kv_heads + head) * shape.region_bytes
                code.store(self._scaled(weight, region, offset), row + group * (lanes * 4))
            part = memory.parts + (query * shape.part_floats + shape.head_dim) * 4
            code.store(maximum, part)
            code.store(code.sum(total.value), part + 4)

    def _weigh(
        self, job: dict[str, Value], table: Value, head: Value, start: Value, count: Value, memory: Scratch
    ) -> None:
        """parts[query] = sum of probability * value, in order of position."""
        code, shape = self.code, self.shape
        lanes = shape.dim_lanes
        type_ = vector(FLOAT, lanes)
        vectors = shape.head_dim // lanes
        for dims in _pieces(vectors, min(4, shape.accumulators)):
            for chosen in _pieces(self.queries, max(1, shape.accumulators // len(dims))):
                sums = [[code.variable(code.constant(type_, 0.0)) for _ in dims] for _ in chosen]
                with self._tokens(table, start, count) as (block, offset, token, tokens):
                    region = job["values"] + (block * shape.num_kv_heads + head) * shape.region_bytes
                    weights = memory.scores + token * 4
                    with code.loop(0, tokens) as t:
                        row_start = (offset + t) * shape.head_dim
                        columns = [
                            load_kv(code, shape.kv_dtype, lanes, region, row_start + dim * lanes) for dim in dims
                        ]
                        for query, row in zip(chosen, sums, strict=True):
                            p = code.broadcast(FLOAT, weights + (t + query * KV_SPLIT) * 4, lanes)
                            for total, column in zip(row, columns, strict=True):
                                total.value = code.fma(column, p, total.value)
                for query, row in zip(chosen, sums, strict=True):
                    for dim, total in zip(dims, row, strict=True):
                        place = memory.parts + (query * shape.part_floats + dim * lanes) * 4
                        code.store(total.value, place)

    @contextmanager
    def _tokens(self, table: Value, start: Value, count: Value) -> Iterator[tuple[Value, Value, Value, Value]]:
        """Runs of tokens that lie in one block: block, place in it, first token of the run, how many."""
        code = self.code
        token = code.variable(0)
        with code.repeat(lambda: token.value < count):
            block, offset = self._place(table, start + token.value)
            tokens = code.minimum(self.shape.block_size - offset, count - token.value)
            yield block, offset, token.value, tokens
            token.value = token.value + tokens

    def _finish_split(
        self, job: dict[str, Value], item: dict[str, Value], rows: list[Value], head: Value, split: Value,
        memory: Scratch,
    ) -> None:  # fmt: skip
        """Merge the split into the state, or put it where the merge will find it."""
        code, shape = self.code, self.shape
        for r, row in enumerate(rows):
            with code.when(code.load_int(memory.limits + 8 * r * shape.group) > 0), code.loop(0, shape.group) as g:
                query = g + r * shape.group
                part = memory.parts + query * shape.part_floats * 4
                with code.either(item["later"].equals(0)) as (now, later):
                    with now:
                        merge(code, shape, memory.state + query * shape.part_floats * 4, part)
                    with later:
                        slot = code.load_int(job["part_starts"] + row * 8) + split
                        target = (slot * shape.num_heads + head * shape.group + g) * (shape.part_floats * 4)
                        with code.loop(0, shape.head_dim + 2) as i:
                            code.store(code.load(FLOAT, part + i * 4), job["parts"] + target + i * 4)


def _pieces(count: int, largest: int) -> list[range]:
    """0 .. count in pieces as equal as can be, none larger than `largest`."""
    number = -(-count // largest)
    bounds = [count * i // number for i in range(number + 1)]
    return [range(a, b) for a, b in pairwise(bounds)]


def merge(code: Code, shape: Shape, state: Value, part: Value) -> None:
    """Log-sum-exp merge of a split into the state (Dao et al. 2022, FlashAttention, section 3.1)."""
    at = shape.head_dim * 4
    old, new = code.load(FLOAT, state + at), code.load(FLOAT, part + at)
    top = code.maximum(old, new)
    keep, take = code.exp(old - top), code.exp(new - top)
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
    total = code.splat(code.load(FLOAT, state + (shape.head_dim + 1) * 4), shape.dim_lanes)
    for d in range(0, shape.head_dim, shape.dim_lanes):
        code.store(code.load(type_, state + d * 4) / total, target + d * 4)


def add_attention(module: ir.Module, shape: Shape) -> None:
    """attend(control, q, out, keys, values, plan): the tiles of a plan, then the merge of what was put in memory."""
    parallel = module.globals.get("parallel") or add_parallel(module)
    single = Tiles(module, shape, 1).write()
    several = Tiles(module, shape, TILE_ROWS).write()
    tile = _add_tile(module, single, several)
    merged = _add_merge(module, shape)
    code = Code(module, "attend", 6)
    control, q, out, keys, values, plan = code.arguments
    planned = _words(code, plan, PLAN)
    set_words(code, control + 8 * ARGUMENTS, JOB, {"q": q, "out": out, "keys": keys, "values": values, **planned})
    code.call(parallel, control, code.address_of(tile), planned["num_items"] * shape.num_kv_heads)
    with code.when(planned["num_merged"] > 0):
        code.call(parallel, control, code.address_of(merged), planned["num_merged"])
    code.finish()


def _add_tile(module: ir.Module, single: ir.Function, several: ir.Function) -> ir.Function:
    """One piece of the job: all tiles of a KV head stand together, so that its KV stays in the cache."""
    code = Code(module, "attend_tile", 3)
    address, piece, scratch = code.arguments
    job = _words(code, address, JOB)
    head, index = piece // job["num_items"], piece % job["num_items"]
    item = job["items"] + index * (8 * len(ITEM))
    with code.either(code.load_int(item, 1).equals(1)) as (one, more):
        with one:
            code.call(single, address, item, head, scratch)
        with more:
            code.call(several, address, item, head, scratch)
    return code.finish()


def _add_merge(module: ir.Module, shape: Shape) -> ir.Function:
    """Merge a row's parts in order of position."""
    code = Code(module, "attend_merge", 3)
    address, piece, scratch = code.arguments
    job = _words(code, address, JOB)
    row = code.load_int(job["merged_rows"] + piece * 8)
    first = code.load_int(job["part_starts"] + row * 8)
    splits = (code.load(I32, job["positions"] + row * 4).to(I64) + KV_SPLIT) // KV_SPLIT
    with code.loop(0, shape.num_heads) as head:
        with code.loop(0, shape.part_floats) as i:
            code.store(code.constant(FLOAT, 0.0), scratch + i * 4)
        code.store(code.constant(FLOAT, float("-inf")), scratch + shape.head_dim * 4)
        with code.loop(first, first + splits) as slot:
            merge(code, shape, scratch, job["parts"] + (slot * shape.num_heads + head) * (shape.part_floats * 4))
        divide(code, shape, scratch, job["out"] + (row * shape.num_heads + head) * (shape.head_dim * 4))
    return code.finish()
