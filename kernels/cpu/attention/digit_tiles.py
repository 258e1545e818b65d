"""Paged attention on KV of 16-bit integers (`cells.py`), with the dot product of bytes on the vectors.

Queries and weights become two signed digits, keys and values are two bytes: four products, whose sums are exact in 32
bits, so that the order of a sum, the tile and the machine never change a bit. Floats enter after the sums, one
operation at a time:

    score  = float(q . k / 256) * scale of k                     and per query: scale of q * score scale * log2(e)
    p      = 2**(score * query scale - maximum)
    weight = p * scale of v, then 16 bits relative to the largest weight of the query in the split
    value  = float(weight . v / 256) * scale of the weights
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from stemma.kernels.cpu.attention.cells import (
    LARGEST_SIGNED,
    TOKENS,
    cell_bytes,
    correction,
    in_cells,
    plane_bytes,
    put_key,
    put_value,
    quantize,
    record_bytes,
    whole_product,
)  # fmt: skip
from stemma.kernels.cpu.attention.tiles import Shape, Span, Tile, Tiles, pieces
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I8, I32, I64, INTS16, ROUNDING, Code, Value, vector
from stemma.kernels.cpu.machine.target import VECTOR_BYTES, Target
from stemma.kernels.cpu.rows.gates import tanh
from stemma.kernels.ops import KV_SPLIT

CELLS = KV_SPLIT // TOKENS
SCORE_BYTES, WEIGHT_BYTES = 4 * (KV_SPLIT + 16), 2 * KV_SPLIT + 64
"""Between the rows of two queries: not a power of 2, which would put them into the same lines of the cache."""
MOST_VECTORS = 16
"""Of a head's values, whose products are written out one after the other; of more, in a loop."""
ROUNDING_BITS = 0x4B400000
"""`ROUNDING` as an integer; an integer n that was rounded by it stands in a float as ROUNDING_BITS + n."""


class DigitTiles(Tiles):
    """digits: (queries, 2, query_bytes) signed bytes, high then low. scores: (queries, KV_SPLIT), then weights.
    weights: (queries, 2, KV_SPLIT) signed bytes. *_scale, *_correction: of each query's digits.
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
            "digits": 2 * self._query_bytes * queries, "query_scale": 4 * queries, "query_correction": 4 * queries,
            "scores": SCORE_BYTES * queries, "weights": WEIGHT_BYTES * queries,
            "weight_scale": 4 * queries, "weight_correction": 4 * queries,
            "keys": 8 * CELLS, "values": 8 * CELLS, "value_scales": 4 * KV_SPLIT,
        }  # fmt: skip
        if not in_cells(self.shape.block_size) or self.shape.value_dim:
            sizes["cells"] = 2 * CELLS * cell_bytes(self.shape.head_dim)
        return super()._sizes() | sizes

    def _load_query(self, tile: Tile, query: Value, source: Value) -> None:
        code, shape, memory = self.code, self.shape, tile.memory
        high = memory["digits"] + query * (2 * self._query_bytes)
        zero = code.constant(vector(I8, 16), 0)
        for i in range(0, 2 * self._query_bytes, 16):
            code.store(zero, high + i)
        scale, total = quantize(code, source, shape.head_dim, LARGEST_SIGNED, high, high + self._query_bytes, None)
        factor = tile.job["score_scale"].to(I32).bits(FLOAT) * 256.0
        code.store(scale * factor, memory["query_scale"] + query * 4)
        self._correct(total, memory["query_correction"] + query * 4)

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
                self._prefetch(keys)

    def _cell(self, tile: Tile, pool: str, token: Value) -> Value:
        block, offset = self._place(tile, token)
        inside = offset.unsigned_divide(TOKENS) * cell_bytes(self.shape.head_dim)
        return self._region(tile, pool, block) + inside

    def _gather(self, tile: Tile, span: Span) -> None:
        """Records of the split to cells."""
        code, head_dim = self.code, self.shape.head_dim
        with code.loop(span.begin, span.end) as token:
            block, offset = self._place(tile, span.start + token)
            cell = tile.memory["cells"] + token.unsigned_divide(TOKENS) * cell_bytes(head_dim)
            lane = token.unsigned_modulo(TOKENS)
            record = offset * record_bytes(head_dim)
            put_key(code, self._region(tile, "keys", block) + record, head_dim, cell, lane)
            if not self.shape.value_dim:
                values = cell + CELLS * cell_bytes(head_dim)
                put_value(code, self._region(tile, "values", block) + record, head_dim, values, lane)

    def _turn_keys(self, keys: Value, values: Value) -> None:
        """The first numbers of a cell of keys to a cell of values: by four tokens and four dimensions at a time."""
        code, shape = self.code, self.shape
        turned = [16 * quad + 4 * token + dim for quad in range(4) for dim in range(4) for token in range(4)]
        for plane in range(2):
            with code.loop(0, shape.padded_value, 4) as dim:
                stored = code.load(VECTOR_BYTES, keys + dim * TOKENS + plane * self.plane)
                stored = code.shuffle(stored, stored, turned)
                for quad in range(4):
                    part = code.shuffle(stored, stored, range(16 * quad, 16 * quad + 16))
                    code.store(part, values + dim * 4 + (plane * self.value_plane + quad * 4 * shape.padded_value))
        code.store(code.load(FLOATS16, keys + 2 * self.plane), values + 2 * self.value_plane)

    # Products --------------------------------------------------------------------------------------------------------
    def _split(self, tile: Tile, span: Span) -> None:
        self._find_cells(tile, span)
        self._scores(tile, span)
        with self.code.loop(0, tile.queries) as query:
            self._softmax(tile, query, span)
        self._weigh(tile, span)

    def _scores(self, tile: Tile, span: Span) -> None:
        code, memory = self.code, tile.memory

        def write(query: Value | int, count: int) -> None:
            with code.loop(*span.groups(TOKENS)) as cell:
                keys = code.load_int(memory["keys"] + cell * 8)
                if not self.shape.value_dim:
                    self._prefetch_once(query, code.load_int(memory["values"] + cell * 8))
                sums = _Sums(self.code, self.shape.target, count, 1)
                first = memory["digits"] + query * (2 * self._query_bytes)
                with code.loop(0, self.shape.padded_dim // 4, 4) as step:
                    for i in range(4):
                        place = keys + (step + i) * (4 * TOKENS)
                        sums.add([place], self.plane, first + (step + i) * 4, self._query_bytes, 2 * self._query_bytes)
                scales = code.load(FLOATS16, keys + 2 * self.plane)
                for i in range(count):
                    whole = self._whole(*sums.of(i, 0), memory["query_correction"] + (query + i) * 4)
                    code.store(whole * scales, memory["scores"] + cell * (4 * TOKENS) + (query + i) * SCORE_BYTES)

        self._each_piece(max(1, self.shape.accumulators // 4), write)

    def _weigh(self, tile: Tile, span: Span) -> None:
        code, shape = self.code, self.shape
        last_row = tile.item["first_row"] + tile.item["rows"] - 1
        last_token = code.load(I32, tile.job["positions"] + last_row * 4).to(I64)
        at_once = max(1, shape.accumulators // 4)

        def write(query: Value | int, count: int) -> None:
            number, width = shape.padded_value // 16, max(1, at_once // count)
            if number <= MOST_VECTORS or number % width:
                for dims in pieces(number, width):
                    self._weigh_piece(tile, span, (query, count), list(dims), last_token)
                return
            with code.loop(0, number, width) as dim:
                self._weigh_piece(tile, span, (query, count), [dim + i for i in range(width)], last_token)

        self._each_piece(at_once, write)

    def _weigh_piece(
        self, tile: Tile, span: Span, queries: tuple[Value | int, int], dims: Sequence[Value | int], last_token: Value
    ) -> None:
        code, shape, memory = self.code, self.shape, tile.memory
        query, count = queries
        first = memory["weights"] + query * WEIGHT_BYTES
        sums = _Sums(code, shape.target, count, len(dims))
        with code.loop(*span.groups(TOKENS)) as cell:
            values = code.load_int(memory["values"] + cell * 8)
            if isinstance(dims[0], int) and dims[0] == 0 and in_cells(shape.block_size):
                following = code.minimum(span.start + KV_SPLIT + cell * TOKENS, last_token)
                self._prefetch_once(query, self._cell(tile, "keys", following))
            for i in range(TOKENS // 4):
                places = [values + (i * 4 * shape.padded_value + dim * 64) for dim in dims]
                sums.add(places, self.value_plane, first + cell * TOKENS + 4 * i, KV_SPLIT, WEIGHT_BYTES)
        for i in range(count):
            scale = code.broadcast(FLOAT, memory["weight_scale"] + (query + i) * 4, 16)
            for j, dim in enumerate(dims):
                whole = self._whole(*sums.of(i, j), memory["weight_correction"] + (query + i) * 4)
                code.store(whole * scale, memory["parts"] + ((query + i) * shape.part_floats + dim * 16) * 4)

    def _prefetch_once(self, query: Value | int, cell: Value) -> None:
        """For the first queries of a tile."""
        if isinstance(query, Value):
            with self.code.when(query.equals(0)):
                self._prefetch(cell)
        elif query == 0:
            self._prefetch(cell)

    def _prefetch(self, cell: Value) -> None:
        for line in range(0, cell_bytes(self.shape.head_dim), 64):
            self.code.prefetch(cell + line)

    def _whole(self, high: Value, middle: Value, low: Value, correction_at: Value) -> Value:
        """The product as floats, from its parts and the address of the digits' correction."""
        corrections = self.code.broadcast(I32, correction_at, 16)
        return whole_product(high, middle, low, corrections, self.shape.target.byte_offset).to(FLOATS16)

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
        weights = []
        for i, score in enumerate(scores):
            p = code.exp2(code.fma(score, scale, base))
            total = total + p
            weights.append(p * code.load(FLOATS16, tile.memory["value_scales"] + i * 64))
            largest = code.maximum(weights[-1], largest)
        inverse = self._note_weights(tile, query, maximum, total, largest)
        whole = code.constant(INTS16, 0)
        for i, weight in enumerate(weights):
            whole = whole + self._put_weights(tile, query, code.constant(I64, i * TOKENS), weight, inverse)
        self._correct(whole, tile.memory["weight_correction"] + query * 4)

    def _weights_of_partial(self, tile: Tile, query: Value, span: Span) -> None:
        """The query sees some tokens of the split; the weights of others in the span and a bit more are zeros."""
        code, memory = self.code, tile.memory
        row = memory["scores"] + query * SCORE_BYTES
        limit = code.load_int(memory["limits"] + query * 8)
        lowest, zero = code.constant(FLOATS16, float("-inf")), code.constant(FLOATS16, 0.0)
        until = (limit + (TOKENS - 1)).unsigned_divide(TOKENS) * TOKENS
        top, total, largest = code.variable(lowest), code.variable(zero), code.variable(zero)
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
            code.store(weight, row + token * 4)
        inverse = self._note_weights(tile, query, maximum, total.value, largest.value)
        whole = code.variable(code.constant(INTS16, 0))
        with code.loop(span.begin, until, TOKENS) as token:
            weight = code.load(FLOATS16, row + token * 4)
            whole.value = whole.value + self._put_weights(tile, query, token, weight, inverse)
        self._correct(whole.value, memory["weight_correction"] + query * 4)
        nothing = code.constant(vector(I8, TOKENS), 0)
        with code.loop(code.maximum(until, span.begin), self._written(span.end), TOKENS) as token:
            for plane in range(2):
                code.store(nothing, memory["weights"] + query * WEIGHT_BYTES + token + plane * KV_SPLIT)

    def _correct(self, sums: Value, place: Value) -> None:
        """Note what undoes the 128 in the stored bytes, from sums of the integers on the other side."""
        code = self.code
        code.store(correction(code.sum(sums), self.shape.target.byte_offset), place)

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

    def _note_weights(self, tile: Tile, query: Value, maximum: Value, total: Value, largest: Value) -> Value:
        """Maximum and sum to the parts, the scale of the weights; returns its inverse."""
        code, memory, shape = self.code, tile.memory, self.shape
        part = memory["parts"] + (query * shape.part_floats + shape.padded_value) * 4
        code.store(maximum, part)
        code.store(code.sum(total), part + 4)
        peak = code.reduce(largest, code.maximum)
        code.store(peak * (256.0 / LARGEST_SIGNED), memory["weight_scale"] + query * 4)
        inverse = code.select(peak > 1e-33, float(LARGEST_SIGNED) / peak, code.constant(FLOAT, 0.0))
        return code.splat(inverse, 16)

    def _put_weights(self, tile: Tile, query: Value, token: Value, weights: Value, inverse: Value) -> Value:
        """Sixteen weights as two digits each; returns the integers."""
        code = self.code
        bytes_ = vector(I8, TOKENS)
        bits = code.fma(weights, inverse, code.constant(FLOATS16, ROUNDING)).bits(INTS16)
        place = tile.memory["weights"] + query * WEIGHT_BYTES + token
        code.store(((bits + 128) >> 8).to(bytes_), place)
        code.store(bits.to(bytes_), place + KV_SPLIT)
        return bits - ROUNDING_BITS


class _Sums:
    """Sums of products of bytes, for some rows of digits and some vectors of 16: high, middle (two), low."""

    def __init__(self, code: Code, target: Target, rows: int, vectors: int) -> None:
        self._code, self._target = code, target
        zero = code.constant(INTS16, 0)
        self._sums = [[[code.variable(zero) for _ in range(4)] for _ in range(vectors)] for _ in range(rows)]

    def add(self, places: list[Value], plane: int, digits: Value, digit_plane: int, row_bytes: int) -> None:
        """64 stored bytes of each plane at every place, times 4 digits of each row."""
        code = self._code
        stored = [[code.load(VECTOR_BYTES, place + plane * low) for low in range(2)] for place in places]
        for index, row in enumerate(self._sums):
            high, low = (code.broadcast(I32, digits + (index * row_bytes + digit_plane * i), 16) for i in range(2))
            for (stored_high, stored_low), totals in zip(stored, row, strict=True):
                pairs = ((stored_high, high), (stored_low, high), (stored_high, low), (stored_low, low))
                for total, (bytes_, four) in zip(totals, pairs, strict=True):
                    total.value = self._target.dot(code, total.value, bytes_, four, False)

    def of(self, row: int, vector_: int) -> tuple[Value, Value, Value]:
        high, one, other, low = (total.value for total in self._sums[row][vector_])
        return high, one + other, low
