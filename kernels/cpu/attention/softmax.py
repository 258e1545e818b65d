"""Softmax of tiles over KV of 16-bit integers: from scores to weights of 16 bits, of up to 16 queries together.

A query's passes over its tokens have no sum across a vector in them: what is left of each pass is one vector a query,
and the vectors of 16 queries are reduced together, to one lane each. The operations and their order are the same for
every query, whoever shares the tile.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from stemma.kernels.cpu.attention.cells import LARGEST_SIGNED, TOKENS
from stemma.kernels.cpu.attention.tiles import CHUNK, Bounds, Span, Tile, Tiles
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, I64, INTS16, Code, Value
from stemma.kernels.cpu.machine.exponentials import ROUNDING
from stemma.kernels.cpu.rows.gates import tanh
from stemma.kernels.ops import KV_SPLIT

SCORE_BYTES = 4 * (KV_SPLIT + 16)
"""Between the rows of two queries: not a power of 2, which would put them into the same lines of the cache."""
TOGETHER = 16
"""Queries whose vectors are reduced together."""
LEFT_BYTES = 4 * 64
"""What the passes leave of a query: largest score, sum, largest weight, largest run."""
RUN_TOKENS, LARGEST_RUN = 8, 65528
"""Eight weights, whose sum is at most 65535 when they are integers: times 32767 it stays below 2^31."""
POWER_SERIES = (
    0.013534167781472206, -0.0021252110600471497, 0.1666133850812912, 0.3120160400867462, 0.5099642276763916,
)  # fmt: skip
"""2**(x - 1) for 1 <= x < 2 to a relative error of 2.7e-6, a fifth of what 16 bits of a weight leave (minimax)."""
FRACTION, UNIT, LOWEST = 0x7FFFFF, 0x3F800000, -126.0
"""Of a float: the bits of its fraction, the bits of 1; powers of 2 end there, in place of 0."""


class SoftmaxTiles(Tiles):
    """scores: (queries, SCORE_BYTES), then weights as floats. left: (16, LEFT_BYTES). factors: two floats for each of
    16 queries, which turn scores into exponents, then the inverse of their weights' scale."""

    def _sizes(self) -> dict[str, int]:
        queries = self._padded_queries
        sizes = {
            "scores": SCORE_BYTES * queries, "query_scale": 4 * queries, "weight_scale": 4 * queries,
            "value_scales": 4 * KV_SPLIT, "left": LEFT_BYTES * TOGETHER, "factors": 3 * 4 * TOGETHER,
        }  # fmt: skip
        return super()._sizes() | sizes

    @abstractmethod
    def _put_weights(self, tile: Tile, query: Value, token: Value, rounded: list[Value]) -> None:
        """Sixteen weights or more, as `ROUNDING` left them, to their places."""

    @abstractmethod
    def _end_weights(self, tile: Tile, query: Value, total: Value) -> None:
        """Behind the last weights of a query; total: their sum, in lanes."""

    def _written(self, count: Value) -> Value:
        """Weights that the product with the values reads."""
        return (count + (TOKENS - 1)).unsigned_divide(TOKENS) * TOKENS

    def _weights(self, tile: Tile, span: Span) -> None:
        """Of all queries."""
        if self.queries <= TOGETHER:
            self._weights_of(tile, self.code.constant(I64, 0), self.code.constant(I64, self.queries), span)
            return
        with self.code.loop(0, tile.queries, TOGETHER) as first:
            self._weights_of(tile, first, self.code.minimum(tile.queries - first, TOGETHER), span)

    def _weights_of(self, tile: Tile, first: Value, count: Value, span: Span) -> None:
        """From scores to weights, of so many queries."""
        code, memory = self.code, tile.memory
        with code.loop(0, count) as index:
            self._find_top(tile, first + index, memory["left"] + index * LEFT_BYTES, span)
        scale = code.load(FLOATS16, memory["query_scale"] + first * 4)
        if self.shape.softcapped:
            scale = code.splat(tile.job["softcap"].to(I32).bits(FLOAT), 16)
        maximum = self._left(tile, 0, code.maximum) * scale
        code.store(scale * float(1 << 23), memory["factors"])
        code.store((0.0 - maximum) * float(1 << 23), memory["factors"] + 64)
        with code.loop(0, count) as index:
            self._raise(tile, first + index, index, span)
        self._note(tile, first, count, maximum)
        with code.loop(0, count) as index:
            self._round(tile, first + index, index, span)

    def _left(self, tile: Tile, which: int, combine: Callable[[Value, Value], Value]) -> Value:
        """One of the vectors that each query's pass left, reduced: a lane for each query."""
        place, most = tile.memory["left"] + 64 * which, min(self.queries, TOGETHER)
        return across(self.code, [self.code.load(FLOATS16, place + i * LEFT_BYTES) for i in range(most)], combine)

    # Which tokens a query sees ---------------------------------------------------------------------------------------
    def _each_seen(
        self, tile: Tile, query: Value, span: Span, visit: Callable[[Value, int, Bounds | None], None]
    ) -> None:
        """visit(token, vectors, bounds) for the query's tokens in order: CHUNK of them where it sees all, else TOKENS
        with what tells which it sees."""
        code = self.code
        limit = code.load_int(tile.memory["limits"] + query * 8)
        until, whole = _up(limit, TOKENS), limit.unsigned_divide(CHUNK) * CHUNK
        bounds, begin = self._bounds(tile, query, TOKENS), span.begin
        if self.shape.windowed:
            low = code.load_int(tile.memory["lows"] + query * 8)
            low = code.minimum(_up(low, CHUNK), until)
            with code.loop(begin, low, TOKENS) as token:
                visit(token, 1, bounds)
            begin = code.maximum(low, begin)
        with code.loop(begin, whole, CHUNK) as token:
            visit(token, CHUNK // TOKENS, None)
        with code.loop(code.maximum(whole, begin), until, TOKENS) as token:
            visit(token, 1, bounds)

    def _find_top(self, tile: Tile, query: Value, left: Value, span: Span) -> None:
        """The largest scores, in lanes."""
        code = self.code
        if self.shape.softcapped:
            self._cap(tile, query, span)
        row = tile.memory["scores"] + query * SCORE_BYTES
        lowest = code.constant(FLOATS16, float("-inf"))
        top = code.variable(lowest)

        def visit(token: Value, vectors: int, bounds: Bounds | None) -> None:
            for i in range(vectors):
                score = code.load(FLOATS16, row + token * 4 + i * 64)
                if bounds:
                    score = code.select(bounds.hold(code, token), score, lowest)
                top.value = code.maximum(top.value, score)

        self._each_seen(tile, query, span, visit)
        code.store(top.value, left)

    def _cap(self, tile: Tile, query: Value, span: Span) -> None:
        """Scores become tanh(score / cap): from here on the cap is their scale."""
        code = self.code
        row = tile.memory["scores"] + query * SCORE_BYTES
        scale = code.load(FLOAT, tile.memory["query_scale"] + query * 4)
        factor = code.splat(scale / tile.job["softcap"].to(I32).bits(FLOAT), TOKENS)
        with code.loop(*span.groups(TOKENS)) as cell:
            place = row + cell * (4 * TOKENS)
            code.store(tanh(code, code.load(FLOATS16, place) * factor), place)

    # Powers ----------------------------------------------------------------------------------------------------------
    def _raise(self, tile: Tile, query: Value, index: Value, span: Span) -> None:
        """Scores become weights, as floats; their sum, the largest and the largest run are left, in lanes."""
        code, memory = self.code, tile.memory
        row, left = memory["scores"] + query * SCORE_BYTES, memory["left"] + index * LEFT_BYTES
        scale, base = (code.broadcast(FLOAT, memory["factors"] + (index * 4 + 64 * i), 16) for i in range(2))
        zero = code.constant(FLOATS16, 0.0)
        total, largest, run = code.variable(zero), *(code.variable(code.constant(INTS16, 0)) for _ in range(2))

        def visit(token: Value, vectors: int, bounds: Bounds | None) -> None:
            weights = []
            for i in range(vectors):
                at = token * 4 + i * 64
                power = _power(code, code.fma(code.load(FLOATS16, row + at), scale, base))
                weight = power * code.load(FLOATS16, memory["value_scales"] + at)
                if bounds:  # what stands behind the last token may be no number
                    seen = bounds.hold(code, token)
                    power, weight = code.select(seen, power, zero), code.select(seen, weight, zero)
                total.value = total.value + power
                weights.append(weight)
                code.store(weights[-1], row + at)
                largest.value = code.maximum(largest.value, weights[-1].bits(INTS16))
            run.value = code.maximum(run.value, _runs(code, weights).bits(INTS16))

        self._each_seen(tile, query, span, visit)
        for i, values in enumerate((total, largest, run), 1):
            code.store(values.value, left + 64 * i)

    def _note(self, tile: Tile, first: Value, count: Value, maximum: Value) -> None:
        """Maxima and sums to the parts, the scales of the weights and their inverse to their places."""
        code, memory, shape = self.code, tile.memory, self.shape
        total = self._left(tile, 1, lambda a, b: a + b)
        peak, run = (self._left(tile, which, code.maximum) for which in (2, 3))
        scale = code.maximum(peak * (1.0 / LARGEST_SIGNED), run * (1.0 / LARGEST_RUN))
        code.store(scale * 256.0, memory["weight_scale"] + first * 4)
        inverse = code.select(scale > 1e-37, 1.0 / scale, code.constant(FLOATS16, 0.0))
        code.store(inverse, memory["factors"] + 128)
        for i, values in enumerate((maximum, total)):
            code.store(values, memory["left"] + 64 * i)
        with code.loop(0, count) as index:
            part = memory["parts"] + ((first + index) * shape.part_floats + shape.padded_value) * 4
            for i in range(2):
                code.store(code.load(FLOAT, memory["left"] + index * 4 + 64 * i), part + 4 * i)

    def _round(self, tile: Tile, query: Value, index: Value, span: Span) -> None:
        """Weights become integers; those of tokens in the span that the query does not see, and a bit more, are 0."""
        code, memory = self.code, tile.memory
        row = memory["scores"] + query * SCORE_BYTES
        inverse = code.broadcast(FLOAT, memory["factors"] + (index * 4 + 128), 16)
        rounding = code.constant(FLOATS16, ROUNDING)
        whole = code.variable(code.constant(INTS16, 0))

        def put(token: Value, vectors: int) -> None:
            weights = [code.load(FLOATS16, row + token * 4 + i * 64) for i in range(vectors)]
            rounded = [code.fma(weight, inverse, rounding) for weight in weights]
            self._put_weights(tile, query, token, rounded)
            for value in rounded:
                whole.value = whole.value + (value.bits(INTS16) - rounding.bits(INTS16))

        until = _up(code.load_int(memory["limits"] + query * 8), TOKENS)
        chunks = code.maximum(until.unsigned_divide(CHUNK) * CHUNK, span.begin)
        with code.loop(span.begin, chunks, CHUNK) as token:
            put(token, CHUNK // TOKENS)
        with code.loop(chunks, until, TOKENS) as token:
            put(token, 1)
        self._end_weights(tile, query, whole.value)
        with code.loop(code.maximum(until, span.begin), self._written(span.end), TOKENS) as token:
            self._put_weights(tile, query, token, [rounding])


def across(code: Code, vectors: list[Value], combine: Callable[[Value, Value], Value]) -> Value:
    """Lane i: the lanes of vector i, halves of which are combined until one is left. Up to 16 vectors of 16 lanes."""
    width = 16
    while width > 1:
        half, pairs = (
            width // 2,
            [(vectors[i], vectors[min(i + 1, len(vectors) - 1)]) for i in range(0, len(vectors), 2)],
        )
        halves = [[lane for lane in range(32) if lane % width // half == which] for which in range(2)]
        vectors = [combine(*(code.shuffle(a, b, lanes) for lanes in halves)) for a, b in pairs]
        width = half
    return vectors[0]


def _power(code: Code, x: Value) -> Value:
    """2**(x / 2^23), for x up to a little above 0: a number's upper bits are the exponent, of the others is made the
    fraction. Below 2^-126 it is that; so it is where x is not a number."""
    x = code.maximum(x, LOWEST * (1 << 23)).to(INTS16)
    fraction = ((x & FRACTION) | UNIT).bits(FLOATS16)
    series = code.constant(FLOATS16, POWER_SERIES[0])
    for factor in POWER_SERIES[1:]:
        series = code.fma(series, fraction, code.constant(FLOATS16, factor))
    return (series.bits(INTS16) + (x & ~FRACTION)).bits(FLOATS16)


def _runs(code: Code, weights: list[Value]) -> Value:
    """Sums of weights of eight tokens that follow each other, of one vector or of four together."""
    for _ in range(2):
        weights = [_pairs(code, a, b) for a, b in zip(weights[::2], weights[1::2] or weights, strict=True)]
    fours = weights[0]
    return fours + code.shuffle(fours, fours, [lane ^ 4 for lane in range(16)])


def _pairs(code: Code, a: Value, b: Value) -> Value:
    """Sums of neighbours: of two of `a` and two of `b` in turn, so that every four lanes stay by themselves."""
    even = [lane + 16 * which for four in range(0, 16, 4) for which in range(2) for lane in (four, four + 2)]
    return code.shuffle(a, b, even) + code.shuffle(a, b, [lane + 1 for lane in even])


def _up(number: Value, multiple: int) -> Value:
    return (number + (multiple - 1)).unsigned_divide(multiple) * multiple
