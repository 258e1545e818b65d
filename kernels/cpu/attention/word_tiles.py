"""Attention on KV of 16-bit integers with the product of words of 16 bits: two multiplications an instruction and lane,
32 or 16 lanes. Products of a run of eight fit 32 bits, since both sides are bounded (`cells.py`, `softmax.py`).

A longer sum is exact as well: behind a run, all but the last 16 bits are carried to `high`, and the rest stays where
the next run adds up, for which the bounds leave room. What is carried in one burst halts the products; so of two
vectors the second is half a run late, in a circle:

    first     | carry, steps 0 1 2 3 of run 0        | carry, steps 0 1 2 3 of run 1        | ...
    second    | steps 2 3 of the last | carry, 0 1 of run 0 | 2 3 of run 0 | carry, 0 1 of run 1 | ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stemma.kernels.cpu.attention.cells import RUN_SIXTEENS, TOKENS, put_words
from stemma.kernels.cpu.attention.integer_tiles import WEIGHT_BYTES, IntegerTiles
from stemma.kernels.cpu.attention.softmax import RUN_TOKENS, SCORE_BYTES
from stemma.kernels.cpu.attention.tiles import Span, Tile
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I16, I32, INTS16, Code, Value, Variable, vector
from stemma.kernels.cpu.machine.target import Target

WORDS32 = vector(I16, 32)
RUNS = TOKENS // RUN_TOKENS
"""Of tokens, in a cell."""


class WordTiles(IntegerTiles):
    """digits: (queries, query_bytes) words. weights: (queries, KV_SPLIT) words."""

    @property
    def _at_once(self) -> int:
        return max(1, self.shape.accumulators // 2)

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
        sixteens, bases = self.shape.padded_dim // 16, (first, code.opaque(first))
        for start in range(0, sixteens, RUN_SIXTEENS):
            steps = range(start, min(start + RUN_SIXTEENS, sixteens))
            lag = sums.lag(len(steps))
            sums.carry(late=True)
            with code.loop(0, 8) as pair:
                for step in steps:
                    late = ((pair + 7) & 7, step + lag) if step + lag in steps else (pair, step + lag - len(steps))
                    at = [number + 8 * sixteen for number, sixteen in ((pair, step), late)]
                    for values in ahead:
                        self._prefetch(values, at[0] * (4 * TOKENS), 4 * TOKENS)
                    stored = [key + at[sums.is_late(j)] * (4 * TOKENS) for j, key in enumerate(keys)]
                    words = [base + place * 4 for base, place in zip(bases, at, strict=True)]
                    sums.add(stored, words, size, (step == start, late[1] == start))
        for j, key in enumerate(keys):
            scales = code.load(FLOATS16, key + 2 * self.plane)
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
        bases, pairs = (first, code.opaque(first)), RUN_TOKENS // 2
        lag = sums.lag(pairs)
        begin, end = (cell * RUNS for cell in span.groups(TOKENS))
        with code.loop(begin, end) as run:
            before = code.select(run.equals(begin), end - 1, run - 1)
            values = [
                code.load_int(memory["values"] + at.unsigned_divide(RUNS) * 8) + (at & (RUNS - 1)) * (pairs * line)
                for at in (run, before)
            ]
            beside = ahead(run.unsigned_divide(RUNS))
            if beside is not None:
                beside = beside + (run & (RUNS - 1)) * self.plane
            for pair in range(pairs):
                self._prefetch(beside, pair * (self.plane // pairs), self.plane // pairs)
                is_before, late = lag > 0 and pair + lag < pairs, (pair + lag) % pairs
                at = [values[0] + pair * line, values[is_before] + late * line]
                stored = [at[sums.is_late(j)] + dim * 64 for j, dim in enumerate(dims)]
                words = [
                    base + place * (2 * RUN_TOKENS) + 4 * two
                    for base, place, two in zip(bases, (run, before if is_before else run), (pair, late), strict=True)
                ]
                sums.add(stored, words, WEIGHT_BYTES, (pair == 0, late == 0))
        for i in range(count):
            scale = code.broadcast(FLOAT, memory["weight_scale"] + (query + i) * 4, 16)
            for j, dim in enumerate(dims):
                place = memory["parts"] + ((query + i) * shape.part_floats + dim * 16) * 4
                code.store(sums.of(i, j).to(FLOATS16) * scale, place)

    def _put_weights(self, tile: Tile, query: Value, token: Value, rounded: list[Value]) -> None:
        code, place = self.code, tile.memory["weights"] + query * WEIGHT_BYTES + token * 2
        if len(rounded) == 1:
            code.store(rounded[0].bits(INTS16).to(vector(I16, TOKENS)), place)
        for i in range(0, len(rounded) - 1, 2):
            one, two = (value.bits(WORDS32) for value in rounded[i : i + 2])
            code.store(code.shuffle(one, two, range(0, 64, 2)), place + i * (2 * TOKENS))

    def _end_weights(self, tile: Tile, query: Value, total: Value) -> None:
        """Words have no offset that the sum would undo."""


class _Sums:
    """Exact sums of products of words, for some rows and some vectors of 16: 65,536 * high + low."""

    def __init__(self, code: Code, target: Target, rows: int, vectors: int) -> None:
        self._code, self._target = code, target
        zero = code.constant(INTS16, 0)
        self._sums = [[[code.variable(zero) for _ in range(2)] for _ in range(vectors)] for _ in range(rows)]

    def lag(self, steps: int) -> int:
        """Steps by which the second of two vectors is late in a run of so many."""
        return steps // 2 if len(self._sums[0]) == 2 else 0

    def is_late(self, vector_: int) -> bool:
        return len(self._sums[0]) == 2 and vector_ == 1

    def carry(self, *, late: bool) -> None:
        """Behind a run of the vectors that are late, or are not."""
        for row in self._sums:
            for index, sums in enumerate(row):
                if self.is_late(index) == late:
                    self._carry(*sums)

    def _carry(self, high: Variable, low: Variable) -> None:
        high.value = high.value + (low.value >> 16)
        low.value = low.value & 0xFFFF

    def add(self, places: list[Value], words: list[Value], row_bytes: int, carried: tuple[bool, bool]) -> None:
        """32 stored words at every place, times two words of each row. words: of vectors that are not late, and that
        are; carried: whether a run ends before, for each."""
        code = self._code
        stored = [code.load(INTS16, place) for place in places]
        for index, row in enumerate(self._sums):
            both = [code.broadcast(I32, word + index * row_bytes, 16) for word in words]
            for j, (numbers, (high, low)) in enumerate(zip(stored, row, strict=True)):
                late = self.is_late(j)
                if carried[late]:
                    self._carry(high, low)
                low.value = self._target.dot_words(code, low.value, numbers, both[late])

    def of(self, row: int, vector_: int) -> Value:
        """The sum's quotient by 256, rounded down."""
        high, low = (total.value for total in self._sums[row][vector_])
        return (high << 8) + (low >> 8)
