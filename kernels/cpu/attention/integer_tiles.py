"""Paged attention on KV of 16-bit integers (`cells.py`): what does not depend on how the machine multiplies them.

Queries and softmax weights become integers of 16 bits when they are used, and their products with keys and values are
exact sums, so that the order of a sum, the tile and the machine never change a bit. Floats enter after the sums, one
operation at a time:

    score  = float(floor(q . k / 256)) * scale of k          and per query: scale of q * score scale * log2(e)
    p      = 2**(score * query scale - maximum)
    weight = p * scale of v, then 16 bits relative to the largest weight of the query in the split, or to the largest
             sum of a *run*, eight tokens that follow each other, where that is much larger
    value  = float(floor(weight . v / 256)) * scale of the weights

`word_tiles.py` multiplies words, `digit_tiles.py` bytes, `matrix_tiles.py` bytes on the matrix unit: the same bits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from llvmlite import ir

from stemma.kernels.cpu.attention.cells import (
    LARGEST_SIGNED,
    TOKENS,
    cell_bytes,
    in_cells,
    layout_of,
    plane_bytes,
    quantize,
    record_bytes,
)
from stemma.kernels.cpu.attention.tiles import Shape, Span, Tile, Tiles, pieces
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I8, I32, I64, INTS16, ROUNDING, Value, vector
from stemma.kernels.cpu.rows.gates import tanh
from stemma.kernels.ops import KV_SPLIT

CELLS = KV_SPLIT // TOKENS
SCORE_BYTES, WEIGHT_BYTES = 4 * (KV_SPLIT + 16), 2 * KV_SPLIT + 64
"""Between the rows of two queries: not a power of 2, which would put them into the same lines of the cache."""
MOST_VECTORS = 16
"""Of a head's values, whose products are written out one after the other; of more, in a loop."""
ROUNDING_BITS = 0x4B400000
"""`ROUNDING` as an integer; an integer n that was rounded by it stands in a float as ROUNDING_BITS + n."""
RUN_TOKENS, LARGEST_RUN = 8, 65528
"""Eight weights, whose sum is at most 65535 when they are integers: times 32767 it stays below 2^31."""


class IntegerTiles(Tiles):
    """digits: (queries, 2 * query_bytes), the queries' integers. scores: (queries, KV_SPLIT), then weights.
    weights: (queries, WEIGHT_BYTES), as integers. *_scale: of each query's integers.
    keys, values: addresses of the split's cells. value_scales: of the split.
    cells: the split's cells where the blocks hold records.
    """

    def __init__(self, module: ir.Module, shape: Shape, rows: int, name: str) -> None:
        super().__init__(module, shape, rows, name)
        self.plane, self.value_plane = plane_bytes(shape.head_dim), plane_bytes(shape.value_width)

    @property
    def _query_bytes(self) -> int:
        """One plane of a query."""
        return self.shape.padded_dim

    def _sizes(self) -> dict[str, int]:
        queries = self._padded_queries
        sizes = {
            "digits": 2 * self._query_bytes * queries, "query_scale": 4 * queries,
            "scores": SCORE_BYTES * queries, "weights": WEIGHT_BYTES * queries,
            "weight_scale": 4 * queries,
            "keys": 8 * CELLS, "values": 8 * CELLS, "value_scales": 4 * KV_SPLIT,
        }  # fmt: skip
        if not in_cells(self.shape.block_size) or self.shape.value_dim:
            sizes["cells"] = 2 * CELLS * cell_bytes(self.shape.head_dim)
        return super()._sizes() | sizes

    def _load_query(self, tile: Tile, query: Value, source: Value) -> None:
        code, shape, memory = self.code, self.shape, tile.memory
        place = memory["digits"] + query * (2 * self._query_bytes)
        zero = code.constant(vector(I8, 16), 0)
        for i in range(0, 2 * self._query_bytes, 16):
            code.store(zero, place + i)
        scale, numbers = quantize(code, source, shape.head_dim, LARGEST_SIGNED, multiplied=True)
        factor = tile.job["score_scale"].to(I32).bits(FLOAT) * 256.0
        code.store(scale * factor, memory["query_scale"] + query * 4)
        self._put_query(tile, query, numbers, place)

    @abstractmethod
    def _put_query(self, tile: Tile, query: Value, numbers: list[Value], place: Value) -> None:
        """The integers of a query, some to a vector, to its place, which holds zeros."""

    @abstractmethod
    def _turn_keys(self, keys: Value, values: Value) -> None:
        """The first numbers of a cell of keys to a cell of values."""

    @abstractmethod
    def _multiply_keys_of(
        self, tile: Tile, queries: tuple[Value | int, int], cell: Value, ahead: Sequence[Value | None]
    ) -> None:
        """Scores of some queries with as many cells of keys, from `cell`, as cells are asked for meanwhile."""

    @abstractmethod
    def _multiply_values_of(
        self, tile: Tile, span: Span, queries: tuple[Value | int, int], dims: Sequence[Value | int],
        ahead: Callable[[Value], Value | None],
    ) -> None:  # fmt: skip
        """Weighted values of some queries, vectors `dims`, to the parts. ahead: what is asked for beside each cell."""

    @abstractmethod
    def _put_weights(self, tile: Tile, query: Value, token: Value, rounded: Value) -> None:
        """Sixteen weights, as `ROUNDING` left them, to their places."""

    @abstractmethod
    def _end_weights(self, tile: Tile, query: Value, total: Value) -> None:
        """Behind the last weights of a query; total: their sum, in lanes."""

    @property
    @abstractmethod
    def _at_once(self) -> int:
        """Sums of products, of 16 lanes, that stay in the registers."""

    @property
    def _queries_at_once(self) -> int:
        """Of those sums: so many queries with some vectors, or cells, read both sides least often."""
        return self._at_once if self._at_once < 8 else self._at_once // 2

    # Where the split's cells are -------------------------------------------------------------------------------------
    def _find_cells(self, tile: Tile, span: Span) -> None:
        code, shape, memory = self.code, self.shape, tile.memory
        if not in_cells(shape.block_size):
            self._gather(tile, span)
        with code.loop(*span.groups(TOKENS)) as cell:
            if in_cells(shape.block_size):
                keys, values = (self._cell(tile, pool, span.start + cell * TOKENS) for pool in ("keys", "values"))
            else:
                keys = memory["cells"] + cell * cell_bytes(shape.head_dim)
                values = keys + CELLS * cell_bytes(shape.head_dim)
            if shape.value_dim:
                values = memory["cells"] + (cell + CELLS) * cell_bytes(shape.head_dim)
                self._turn_keys(keys, values)
            code.store(keys, memory["keys"] + cell * 8, 8)
            code.store(values, memory["values"] + cell * 8, 8)
            scales = code.load(FLOATS16, values + 2 * self.value_plane)
            code.store(scales, memory["value_scales"] + cell * (4 * TOKENS))
            with code.when(span.start.equals(tile.first_split * KV_SPLIT)):
                self._prefetch(keys, 0, cell_bytes(shape.head_dim))

    def _cell(self, tile: Tile, pool: str, token: Value) -> Value:
        block, offset = self._place(tile, token)
        inside = offset.unsigned_divide(TOKENS) * cell_bytes(self.shape.head_dim)
        return self._region(tile, pool, block) + inside

    def _gather(self, tile: Tile, span: Span) -> None:
        """Records of the split to cells."""
        code, head_dim, layout = self.code, self.shape.head_dim, layout_of(self.shape.target)
        with code.loop(span.begin, span.end) as token:
            block, offset = self._place(tile, span.start + token)
            cell = tile.memory["cells"] + token.unsigned_divide(TOKENS) * cell_bytes(head_dim)
            lane = token.unsigned_modulo(TOKENS)
            record = offset * record_bytes(head_dim)
            layout.put_key(code, self._region(tile, "keys", block) + record, head_dim, cell, lane)
            if not self.shape.value_dim:
                values = cell + CELLS * cell_bytes(head_dim)
                layout.put_value(code, self._region(tile, "values", block) + record, head_dim, values, lane)

    # Products --------------------------------------------------------------------------------------------------------
    def _split(self, tile: Tile, span: Span) -> None:
        self._find_cells(tile, span)
        self._scores(tile, span)
        with self.code.loop(0, tile.queries) as query:
            self._softmax(tile, query, span)
        self._weigh(tile, span)

    def _scores(self, tile: Tile, span: Span) -> None:
        code = self.code

        def write(query: Value | int, count: int) -> None:
            done, end = span.groups(TOKENS)
            for width in dict.fromkeys((max(1, self._at_once // count), 1)):
                until = end - (end - done) % width
                with code.loop(done, until, width) as cell:
                    ahead = [self._values_ahead(tile, query, cell + i) for i in range(width)]
                    self._multiply_keys_of(tile, (query, count), cell, ahead)
                    for values in ahead:
                        self._prefetch(values, 2 * self.plane, 4 * TOKENS)
                done = until

        self._each_piece(self._queries_at_once, write)

    def _values_ahead(self, tile: Tile, query: Value | int, cell: Value) -> Value | None:
        values = tile.memory["values"] + cell * 8
        return self._ahead(query, lambda: self.code.load_int(values), not self.shape.value_dim)

    def _weigh(self, tile: Tile, span: Span) -> None:
        code, shape = self.code, self.shape
        last_row = tile.item["first_row"] + tile.item["rows"] - 1
        last_token = code.load(I32, tile.job["positions"] + last_row * 4).to(I64)
        last_token = code.minimum(last_token, tile.item["end_split"] * KV_SPLIT - 1)

        def write(query: Value | int, count: int) -> None:
            def following(cell: Value) -> Value:
                return self._cell(tile, "keys", code.minimum(span.start + KV_SPLIT + cell * TOKENS, last_token))

            def ahead(cell: Value) -> Value | None:
                return self._ahead(query, lambda: following(cell), in_cells(shape.block_size))

            number, width = shape.padded_value // 16, max(1, self._at_once // count)
            if number <= MOST_VECTORS or number % width:
                for dims in pieces(number, width):
                    asked = ahead if dims[0] == 0 else _nothing
                    self._multiply_values_of(tile, span, (query, count), list(dims), asked)
                return
            with code.loop(0, number, width) as dim:
                self._multiply_values_of(tile, span, (query, count), [dim + i for i in range(width)], _nothing)

        self._each_piece(self._queries_at_once, write)

    def _ahead(self, query: Value | int, cell: Callable[[], Value], wanted: bool) -> Value | None:
        """The cell that is asked for piece by piece while the first queries of a tile are multiplied, if they are."""
        if wanted and isinstance(query, Value):
            with self.code.when(query.equals(0)):
                self._prefetch(cell(), 0, cell_bytes(self.shape.head_dim))
        return cell() if wanted and isinstance(query, int) and query == 0 else None

    def _prefetch(self, cell: Value | None, first: Value | int, count: int) -> None:
        """So many bytes of a cell. Bursts of more lines than a machine waits for at a time halt the products."""
        if cell is not None:
            for line in range(0, count, 64):
                self.code.prefetch(cell + first + line, nearness=2)

    # Softmax ---------------------------------------------------------------------------------------------------------
    def _softmax(self, tile: Tile, query: Value, span: Span) -> None:
        """From a query's scores to its weights."""
        code = self.code
        if self.shape.softcapped:
            self._cap(tile, query, span)
        whole_split = code.load_int(tile.memory["limits"] + query * 8).equals(KV_SPLIT)
        if self.shape.windowed:
            whole_split = whole_split & code.load_int(tile.memory["lows"] + query * 8).equals(0)
        with code.either(whole_split) as (whole, partial):
            with whole:
                self._weights_of_whole(tile, query)
            with partial:
                self._weights_of_partial(tile, query, span)

    def _cap(self, tile: Tile, query: Value, span: Span) -> None:
        """Scores become tanh(score / cap): from here on the cap is their scale."""
        code = self.code
        row = tile.memory["scores"] + query * SCORE_BYTES
        scale = code.load(FLOAT, tile.memory["query_scale"] + query * 4)
        factor = code.splat(scale / tile.job["softcap"].to(I32).bits(FLOAT), TOKENS)
        with code.loop(*span.groups(TOKENS)) as cell:
            place = row + cell * (4 * TOKENS)
            code.store(tanh(code, code.load(FLOATS16, place) * factor), place)

    def _weights_of_whole(self, tile: Tile, query: Value) -> None:
        """The query sees all tokens of the split."""
        code = self.code
        row = tile.memory["scores"] + query * SCORE_BYTES
        scores = [code.load(FLOATS16, row + i * 64) for i in range(CELLS)]
        top = scores[0]
        for score in scores[1:]:
            top = code.maximum(top, score)
        scale, base, maximum = self._base(tile, query, top)
        total, largest = code.constant(FLOATS16, 0.0), code.constant(FLOATS16, 0.0)
        weights: list[Value] = []
        for i, score in enumerate(scores):
            p = code.exp2(code.fma(score, scale, base))
            total = total + p
            weights.append(p * code.load(FLOATS16, tile.memory["value_scales"] + i * 64))
            largest = code.maximum(weights[-1], largest)
        runs = self._runs(weights)
        for more in runs[1:]:
            runs[0] = code.maximum(more, runs[0])
        inverse = self._note_weights(tile, query, maximum, total, (largest, runs[0]))
        whole = code.constant(INTS16, 0)
        for i, weight in enumerate(weights):
            rounded = self._rounded(weight, inverse)
            self._put_weights(tile, query, code.constant(I64, i * TOKENS), rounded)
            whole = whole + (rounded.bits(INTS16) - ROUNDING_BITS)
        self._end_weights(tile, query, whole)

    def _weights_of_partial(self, tile: Tile, query: Value, span: Span) -> None:
        """The query sees some tokens of the split; the weights of others in the span and a bit more are zeros."""
        code, memory = self.code, tile.memory
        row = memory["scores"] + query * SCORE_BYTES
        limit = code.load_int(memory["limits"] + query * 8)
        lowest, zero = code.constant(FLOATS16, float("-inf")), code.constant(FLOATS16, 0.0)
        until = (limit + (TOKENS - 1)).unsigned_divide(TOKENS) * TOKENS
        top, total, largest, run = code.variable(lowest), *(code.variable(zero) for _ in range(3))
        bounds = self._bounds(tile, query, TOKENS)
        with code.loop(span.begin, until, TOKENS) as token:
            seen = bounds.hold(code, token)
            score = code.select(seen, code.load(FLOATS16, row + token * 4), lowest)
            code.store(score, row + token * 4)
            top.value = code.maximum(top.value, score)
        scale, base, maximum = self._base(tile, query, top.value)
        with code.loop(span.begin, until, TOKENS) as token:
            seen = bounds.hold(code, token)
            p = code.exp2(code.fma(code.load(FLOATS16, row + token * 4), scale, base))
            total.value = total.value + p
            weight = code.select(seen, p * code.load(FLOATS16, memory["value_scales"] + token * 4), zero)
            largest.value = code.maximum(weight, largest.value)
            run.value = code.maximum(self._runs([weight])[0], run.value)
            code.store(weight, row + token * 4)
        inverse = self._note_weights(tile, query, maximum, total.value, (largest.value, run.value))
        whole = code.variable(code.constant(INTS16, 0))
        with code.loop(span.begin, until, TOKENS) as token:
            rounded = self._rounded(code.load(FLOATS16, row + token * 4), inverse)
            self._put_weights(tile, query, token, rounded)
            whole.value = whole.value + (rounded.bits(INTS16) - ROUNDING_BITS)
        self._end_weights(tile, query, whole.value)
        nothing = code.constant(FLOATS16, ROUNDING)
        with code.loop(code.maximum(until, span.begin), self._written(span.end), TOKENS) as token:
            self._put_weights(tile, query, token, nothing)

    def _runs(self, weights: list[Value]) -> list[Value]:
        """Sums of weights of eight tokens that follow each other, of two vectors together while there are two."""
        left = weights
        for _ in range(3):
            left = [self._pairs(left[i], left[min(i + 1, len(left) - 1)]) for i in range(0, len(left), 2)]
        return left

    def _pairs(self, a: Value, b: Value) -> Value:
        """Sums of neighbours, those of `a` first."""
        return self.code.shuffle(a, b, range(0, 32, 2)) + self.code.shuffle(a, b, range(1, 32, 2))

    def _rounded(self, weights: Value, inverse: Value) -> Value:
        """Integers in the lowest bits of floats."""
        return self.code.fma(weights, inverse, self.code.constant(FLOATS16, ROUNDING))

    def _written(self, count: Value) -> Value:
        """Weights that `_weigh` reads."""
        return (count + (TOKENS - 1)).unsigned_divide(TOKENS) * TOKENS

    def _base(self, tile: Tile, query: Value, top: Value) -> tuple[Value, Value, Value]:
        """Scale and summand that turn scores into exponents, and the maximum (scaled)."""
        code = self.code
        scale = code.load(FLOAT, tile.memory["query_scale"] + query * 4)
        if self.shape.softcapped:
            scale = tile.job["softcap"].to(I32).bits(FLOAT)
        maximum = code.reduce(top, code.maximum) * scale
        return code.splat(scale, 16), code.splat(0.0 - maximum, 16), maximum

    def _note_weights(
        self, tile: Tile, query: Value, maximum: Value, total: Value, largest: tuple[Value, Value]
    ) -> Value:
        """Maximum and sum to the parts, the scale of the weights; returns its inverse. largest: weight, and run."""
        code, memory, shape = self.code, tile.memory, self.shape
        part = memory["parts"] + (query * shape.part_floats + shape.padded_value) * 4
        code.store(maximum, part)
        code.store(code.sum(total), part + 4)
        peak, run = (code.reduce(values, code.maximum) for values in largest)
        scale = code.maximum(peak * (1.0 / LARGEST_SIGNED), run * (1.0 / LARGEST_RUN))
        code.store(scale * 256.0, memory["weight_scale"] + query * 4)
        inverse = code.select(scale > 1e-37, 1.0 / scale, code.constant(FLOAT, 0.0))
        return code.splat(inverse, 16)


def _nothing(_: Value) -> None:
    return None
