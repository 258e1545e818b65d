"""Paged attention on KV that is multiplied as floats: float32, bfloat16, and int8 with a scale for each token.

Keys of a block lie as (head_dim, block_size), so that the lanes of a vector are tokens; values as (block_size,
head_dim), so that the lanes are the head's dimensions. No vector is ever summed across but for the softmax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stemma.kernels.cpu.attention.kv_dtypes import element_bytes, load_kv
from stemma.kernels.cpu.attention.tiles import Span, Tile, Tiles, pieces
from stemma.kernels.cpu.machine.dialect import FLOAT, I32, Value, vector
from stemma.kernels.cpu.machine.exponentials import exp2
from stemma.kernels.cpu.rows.gates import tanh
from stemma.kernels.ops import KV_SPLIT


class FloatTiles(Tiles):
    """queries: (head_dim, queries). scores: (queries, KV_SPLIT) in powers of 2, then probabilities."""

    def _sizes(self) -> dict[str, int]:
        areas = {"queries": 4 * self.queries * self.shape.head_dim, "scores": 4 * self.queries * KV_SPLIT}
        if self.shape.value_dim:
            areas["values"] = 4 * KV_SPLIT * self.shape.value_width
        return super()._sizes() | areas

    @property
    def _lanes(self) -> int:
        return math.gcd(self.shape.block_size, 16)

    def _load_query(self, tile: Tile, query: Value, source: Value) -> None:
        code = self.code
        with code.loop(0, self.shape.head_dim) as d:
            place = tile.memory["queries"] + (d * self.queries + query) * 4
            code.store(code.load(FLOAT, source + d * 4), place)

    def _split(self, tile: Tile, span: Span) -> None:
        self._scores(tile, span)
        self._softmax(tile, span)
        self._weigh(tile, span)

    def _scores(self, tile: Tile, span: Span) -> None:
        """Products of queries and keys, `_lanes` tokens at a time, in order of dimension."""
        code, lanes = self.code, self._lanes
        begin, end = span.groups(lanes)

        def write(query: Value | int, count: int) -> None:
            at_once = max(1, self.shape.accumulators // count)
            done = begin
            for width in dict.fromkeys((at_once, 1)):
                until = end - (end - done) % width
                with code.loop(done, until, width) as first:
                    keys = []
                    for i in range(width):
                        block, offset = self._place(tile, span.start + (first + i) * lanes)
                        keys.append((self._region(tile, "keys", block), offset))
                    self._score_piece(tile, query, count, keys, first * lanes)
                done = until

        self._each_piece(max(1, min(6, self.shape.accumulators // 2)), write)

    def _score_piece(
        self, tile: Tile, query: Value | int, count: int, keys: list[tuple[Value, Value]], token: Value
    ) -> None:
        code, shape = self.code, self.shape
        chosen = [query + i for i in range(count)]
        lanes = self._lanes
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
                    q = code.broadcast(FLOAT, tile.memory["queries"] + ((first + i) * self.queries + query) * 4, lanes)
                    for total, column in zip(row, columns, strict=True):
                        total.value = code.fma(column, q, total.value)
        scale = code.splat(tile.job["score_scale"].to(I32).bits(FLOAT), lanes)
        for query, row in zip(chosen, sums, strict=True):
            for i, total in enumerate(row):
                place = tile.memory["scores"] + (token + (query * KV_SPLIT + i * lanes)) * 4
                code.store(self._capped(tile, self._scaled(total.value * scale, *keys[i])), place)

    def _capped(self, tile: Tile, scores: Value) -> Value:
        if not self.shape.softcapped:
            return scores
        cap = self.code.splat(tile.job["softcap"].to(I32).bits(FLOAT), scores.type.count)
        return cap * tanh(self.code, scores / cap)

    def _scaled(self, values: Value, region: Value, token: Value) -> Value:
        """Values of neighbouring tokens times the tokens' scales, if the KV has scales."""
        if self.shape.kv_dtype != "int8":
            return values
        scales = region + (self.shape.head_dim * self.shape.block_size + token * 4)
        return values * self.code.load(values.type, scales)

    def _softmax(self, tile: Tile, span: Span) -> None:
        """scores -> 2**(score - maximum); what is kept for the weighing is scaled as the values are."""
        code, shape = self.code, self.shape
        lanes = self._lanes
        type_ = vector(FLOAT, lanes)
        lowest = code.constant(type_, float("-inf"))
        with code.loop(0, self.queries) as query:
            row = tile.memory["scores"] + query * (KV_SPLIT * 4)
            top = code.variable(lowest)
            bounds = self._bounds(tile, query, lanes)
            with code.loop(*span.groups(lanes)) as group:
                score = code.select(
                    bounds.hold(code, group * lanes), code.load(type_, row + group * (lanes * 4)), lowest
                )
                code.store(score, row + group * (lanes * 4))
                top.value = code.maximum(top.value, score)
            maximum = code.reduce(top.value, code.maximum)
            base = code.splat(maximum, lanes)
            total = code.variable(code.constant(type_, 0.0))
            with code.loop(*span.groups(lanes)) as group:
                weight = exp2(code, code.load(type_, row + group * (lanes * 4)) - base)
                total.value = total.value + weight
                block, offset = self._place(tile, span.start + group * lanes)
                scaled = self._scaled(weight, self._region(tile, "values", block), offset)
                code.store(scaled, row + group * (lanes * 4))
            part = tile.memory["parts"] + (query * shape.part_floats + shape.padded_value) * 4
            code.store(maximum, part)
            code.store(code.sum(total.value), part + 4)

    def _weigh(self, tile: Tile, span: Span) -> None:
        """parts[query] = sum of weight * value, in order of position, of what is seen: zero times NaN is NaN."""
        shape = self.shape
        if shape.value_dim:
            self._gather_values(tile, span)
        for dims in pieces(shape.value_width // shape.value_lanes, min(4, shape.accumulators)):

            def write(query: Value | int, count: int, dims: range = dims) -> None:
                self._weigh_piece(tile, span, [query + i for i in range(count)], dims)

            self._each_piece(max(1, shape.accumulators // len(dims)), write)

    def _weigh_piece(self, tile: Tile, span: Span, chosen: Sequence[Value | int], dims: range) -> None:
        code, shape = self.code, self.shape
        lanes = shape.value_lanes
        type_ = vector(FLOAT, lanes)
        sums = [[code.variable(code.constant(type_, 0.0)) for _ in dims] for _ in chosen]
        row_bytes = shape.head_dim * element_bytes(shape.kv_dtype)
        with self._tokens(tile, span) as (block, offset, token, tokens):
            if shape.value_dim:
                kind, region = "float32", tile.memory["values"] + token * (4 * shape.value_width)
            else:
                kind, region = shape.kv_dtype, self._region(tile, "values", block) + offset * (row_bytes)
            weights = tile.memory["scores"] + token * 4
            with code.loop(0, tokens) as t:
                places = [t * shape.value_width + dim * lanes for dim in dims]
                columns = [load_kv(code, kind, lanes, region, place) for place in places]
                for query, row in zip(chosen, sums, strict=True):
                    p = code.broadcast(FLOAT, weights + (t + query * KV_SPLIT) * 4, lanes)
                    for total, column in zip(row, columns, strict=True):
                        total.value = code.fma(column, p, total.value)
        for query, row in zip(chosen, sums, strict=True):
            for dim, total in zip(dims, row, strict=True):
                place = tile.memory["parts"] + (query * shape.part_floats + dim * lanes) * 4
                code.store(total.value, place)

    def _gather_values(self, tile: Tile, span: Span) -> None:
        """Values that are keys, which lie by dimension, to a row of floats for each token."""
        code, shape = self.code, self.shape
        with code.loop(span.seen, span.end) as token:
            block, offset = self._place(tile, span.start + token)
            region = self._region(tile, "keys", block)
            with code.loop(0, shape.value_width) as d:
                single = load_kv(code, shape.kv_dtype, 1, region, d * shape.block_size + offset)
                code.store(code.lane(single, 0), tile.memory["values"] + (token * shape.value_width + d) * 4)

    @contextmanager
    def _tokens(self, tile: Tile, span: Span) -> Iterator[tuple[Value, Value, Value, Value]]:
        """Runs of tokens that lie in one block: block, place in it, first token of the run, how many."""
        code = self.code
        token = code.variable(span.seen)
        with code.repeat(lambda: token.value < span.end):
            block, offset = self._place(tile, span.start + token.value)
            tokens = code.minimum(self.shape.block_size - offset, span.end - token.value)
            yield block, offset, token.value, tokens
            token.value = token.value + tokens
