"""Attention on KV of 16-bit integers with the product of words of 16 bits: two multiplications an instruction and lane,
32 or 16 lanes. Products of a run of eight fit 32 bits, since both sides are bounded (`cells.py`, `integer_tiles.py`).

A longer sum is exact as well: `low` is its last 32 bits, `high` the sum of the runs' quotients by 256, each rounded
down, so that it is at most some units below the sum's quotient, whose last 24 bits `low` has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stemma.kernels.cpu.attention.cells import RUN_SIXTEENS, TOKENS, put_words
from stemma.kernels.cpu.attention.integer_tiles import RUN_TOKENS, SCORE_BYTES, WEIGHT_BYTES, IntegerTiles
from stemma.kernels.cpu.attention.tiles import Span, Tile
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I16, I32, INTS16, Code, Value, vector
from stemma.kernels.cpu.machine.target import Target

WORDS32 = vector(I16, 32)


class WordTiles(IntegerTiles):
    """digits: (queries, query_bytes) words. weights: (queries, KV_SPLIT) words."""

    @property
    def _at_once(self) -> int:
        return max(1, self.shape.accumulators // 3)

    def _put_query(self, tile: Tile, query: Value, numbers: list[Value], place: Value) -> None:
        put_words(self.code, numbers, place)

    def _turn_keys(self, keys: Value, values: Value) -> None:
        """By two tokens and four dimensions at a time."""
        code, shape = self.code, self.shape
        with code.loop(0, shape.padded_value, 4) as dim:
            one, two = (code.load(WORDS32, keys + dim * (2 * TOKENS) + at) for at in (0, 4 * TOKENS))
            for pair in range(TOKENS // 2):
                turned = [32 * (d // 2) + 4 * pair + 2 * token + d % 2 for d in range(4) for token in range(2)]
                code.store(code.shuffle(one, two, turned), values + dim * 4 + pair * (4 * shape.padded_value))
        code.store(code.load(FLOATS16, keys + 2 * self.plane), values + 2 * self.value_plane)

    def _multiply_keys_of(
        self, tile: Tile, queries: tuple[Value | int, int], cell: Value, ahead: Sequence[Value | None]
    ) -> None:
        code, memory, (query, count) = self.code, tile.memory, queries
        keys = [code.load_int(memory["keys"] + (cell + i) * 8) for i in range(len(ahead))]
        sums = _Sums(self.code, self.shape.target, count, len(keys))
        first, size = memory["digits"] + query * (2 * self._query_bytes), 2 * self._query_bytes
        sixteens = self.shape.padded_dim // 16
        for start in range(0, sixteens, RUN_SIXTEENS):
            with code.loop(0, 8) as pair, sums.run():
                for sixteen in range(start, min(start + RUN_SIXTEENS, sixteens)):
                    place = (pair + 8 * sixteen) * (4 * TOKENS)
                    for values in ahead:
                        self._prefetch(values, place, 4 * TOKENS)
                    sums.add([at + place for at in keys], first + (pair + 8 * sixteen) * 4, size)
        for j, at in enumerate(keys):
            scales = code.load(FLOATS16, at + 2 * self.plane)
            for i in range(count):
                place = memory["scores"] + (cell + j) * (4 * TOKENS) + (query + i) * SCORE_BYTES
                code.store(sums.of(i, j).to(FLOATS16) * scales, place)

    def _multiply_values_of(
        self, tile: Tile, span: Span, queries: tuple[Value | int, int], dims: Sequence[Value | int],
        ahead: Callable[[Value], Value | None],
    ) -> None:  # fmt: skip
        code, shape, memory, (query, count) = self.code, self.shape, tile.memory, queries
        first, line = memory["weights"] + query * WEIGHT_BYTES, 4 * shape.padded_value
        sums = _Sums(code, shape.target, count, len(dims))
        with code.loop(*span.groups(TOKENS)) as cell:
            values, beside = code.load_int(memory["values"] + cell * 8), ahead(cell)
            self._prefetch(beside, 2 * self.plane, 4 * TOKENS)
            for start in range(0, TOKENS // 2, RUN_TOKENS // 2):
                with sums.run():
                    for pair in range(start, start + RUN_TOKENS // 2):
                        self._prefetch(beside, pair * (self.plane // 4), self.plane // 4)
                        places = [values + (pair * line + dim * 64) for dim in dims]
                        sums.add(places, first + cell * (2 * TOKENS) + 4 * pair, WEIGHT_BYTES)
        for i in range(count):
            scale = code.broadcast(FLOAT, memory["weight_scale"] + (query + i) * 4, 16)
            for j, dim in enumerate(dims):
                place = memory["parts"] + ((query + i) * shape.part_floats + dim * 16) * 4
                code.store(sums.of(i, j).to(FLOATS16) * scale, place)

    def _put_weights(self, tile: Tile, query: Value, token: Value, rounded: Value) -> None:
        words = rounded.bits(INTS16).to(vector(I16, TOKENS))
        self.code.store(words, tile.memory["weights"] + query * WEIGHT_BYTES + token * 2)

    def _end_weights(self, tile: Tile, query: Value, total: Value) -> None:
        """Words have no offset that the sum would undo."""


class _Sums:
    """Exact sums of products of words, for some rows and some vectors of 16."""

    def __init__(self, code: Code, target: Target, rows: int, vectors: int) -> None:
        self._code, self._target = code, target
        self._zero = code.constant(INTS16, 0)
        self._sums = [[[code.variable(self._zero) for _ in range(2)] for _ in range(vectors)] for _ in range(rows)]
        self._runs: list[list[Value]] = []

    @contextmanager
    def run(self) -> Iterator[None]:
        """What is added in between is a run."""
        self._runs = [[self._zero for _ in row] for row in self._sums]
        yield
        for row, runs in zip(self._sums, self._runs, strict=True):
            for (high, low), products in zip(row, runs, strict=True):
                high.value = high.value + (products >> 8)
                low.value = low.value + products

    def add(self, places: list[Value], words: Value, row_bytes: int) -> None:
        """32 stored words at every place, times two words of each row."""
        code = self._code
        stored = [code.load(INTS16, place) for place in places]
        for index, row in enumerate(self._runs):
            two = code.broadcast(I32, words + index * row_bytes, 16)
            row[:] = [self._target.dot_words(code, total, s, two) for total, s in zip(row, stored, strict=True)]

    def of(self, row: int, vector_: int) -> Value:
        """The sum's quotient by 256, rounded down."""
        high, low = (total.value for total in self._sums[row][vector_])
        return high + ((low.unsigned_shift_right(8) - high) & 0xFFFFFF)
