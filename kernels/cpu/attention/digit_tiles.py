"""Attention on KV of 16-bit integers with the dot product of bytes: queries and weights become two signed digits, keys
and values are two bytes, so each product is four products of bytes, whose sums are exact in 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stemma.kernels.cpu.attention.cells import TOKENS, correction, put_bytes, whole_product
from stemma.kernels.cpu.attention.integer_tiles import WEIGHT_BYTES, IntegerTiles
from stemma.kernels.cpu.attention.softmax import SCORE_BYTES
from stemma.kernels.cpu.attention.tiles import Span, Tile
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I8, I32, INTS16, Code, Value, vector
from stemma.kernels.cpu.machine.target import VECTOR_BYTES, Target
from stemma.kernels.ops import KV_SPLIT


class DigitTiles(IntegerTiles):
    """digits: (queries, 2, query_bytes) signed bytes, high then low. weights: (queries, 2, KV_SPLIT), the same.
    *_correction: of each query's digits."""

    def _sizes(self) -> dict[str, int]:
        corrections = dict.fromkeys(("query_correction", "weight_correction"), 4 * self._padded_queries)
        return super()._sizes() | corrections

    @property
    def _at_once(self) -> int:
        return max(1, self.shape.accumulators // 4)

    def _put_query(self, tile: Tile, query: Value, numbers: list[Value], place: Value) -> None:
        put_bytes(self.code, [(number + 128) >> 8 for number in numbers], place)
        put_bytes(self.code, numbers, place + self._query_bytes)
        total = numbers[0]
        for number in numbers[1:]:
            total = total + number
        self._correct(total, tile.memory["query_correction"] + query * 4)

    def _turn_keys(self, keys: Value, values: Value) -> None:
        """By four tokens and four dimensions at a time."""
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

    def _multiply_keys_of(
        self, tile: Tile, queries: tuple[Value | int, int], cell: Value, ahead: Sequence[Value | None]
    ) -> None:
        code, memory, (query, count) = self.code, tile.memory, queries
        keys = [code.load_int(memory["keys"] + (cell + i) * 8) for i in range(len(ahead))]
        sums = _Sums(self.code, self.shape.target, count, len(keys))
        size = self._query_bytes
        first = memory["digits"] + query * (2 * size)
        with code.loop(0, self.shape.padded_dim // 4, 4) as step:
            for i in range(4):
                place = (step + i) * (4 * TOKENS)
                for values in ahead:
                    self._prefetch(values, (step + i) * (8 * TOKENS), 8 * TOKENS)
                sums.add([at + place for at in keys], self.plane, first + (step + i) * 4, size, 2 * size)
        for j, at in enumerate(keys):
            scales = code.load(FLOATS16, at + 2 * self.plane)
            for i in range(count):
                whole = self._whole(*sums.of(i, j), memory["query_correction"] + (query + i) * 4)
                code.store(whole * scales, memory["scores"] + (cell + j) * (4 * TOKENS) + (query + i) * SCORE_BYTES)

    def _multiply_values_of(
        self, tile: Tile, span: Span, queries: tuple[Value | int, int], dims: Sequence[Value | int],
        ahead: Callable[[Value], Value | None],
    ) -> None:  # fmt: skip
        code, shape, memory, (query, count) = self.code, self.shape, tile.memory, queries
        first = memory["weights"] + query * WEIGHT_BYTES
        sums = _Sums(code, shape.target, count, len(dims))
        with code.loop(*span.groups(TOKENS)) as cell:
            values, beside = code.load_int(memory["values"] + cell * 8), ahead(cell)
            self._prefetch(beside, 2 * self.plane, 4 * TOKENS)
            for i in range(TOKENS // 4):
                self._prefetch(beside, i * (self.plane // 2), self.plane // 2)
                places = [values + (i * 4 * shape.padded_value + dim * 64) for dim in dims]
                sums.add(places, self.value_plane, first + cell * TOKENS + 4 * i, KV_SPLIT, WEIGHT_BYTES)
        for i in range(count):
            scale = code.broadcast(FLOAT, memory["weight_scale"] + (query + i) * 4, 16)
            for j, dim in enumerate(dims):
                whole = self._whole(*sums.of(i, j), memory["weight_correction"] + (query + i) * 4)
                code.store(whole * scale, memory["parts"] + ((query + i) * shape.part_floats + dim * 16) * 4)

    def _whole(self, high: Value, middle: Value, low: Value, correction_at: Value) -> Value:
        """The product as floats, from its parts and the address of the digits' correction."""
        corrections = self.code.broadcast(I32, correction_at, 16)
        return whole_product(high, middle, low, corrections, self.shape.target.byte_offset).to(FLOATS16)

    def _correct(self, sums: Value, place: Value) -> None:
        """Note what undoes the 128 in the stored bytes, from sums of the integers on the other side."""
        code = self.code
        code.store(correction(code.sum(sums), self.shape.target.byte_offset), place)

    def _put_weights(self, tile: Tile, query: Value, token: Value, rounded: list[Value]) -> None:
        for i, weights in enumerate(rounded):
            bits, bytes_ = weights.bits(INTS16), vector(I8, TOKENS)
            place = tile.memory["weights"] + query * WEIGHT_BYTES + token + i * TOKENS
            self.code.store(((bits + 128) >> 8).to(bytes_), place)
            self.code.store(bits.to(bytes_), place + KV_SPLIT)

    def _end_weights(self, tile: Tile, query: Value, total: Value) -> None:
        self._correct(total, tile.memory["weight_correction"] + query * 4)


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
                    total.value = self._target.dot(code, total.value, bytes_, four)

    def of(self, row: int, vector_: int) -> tuple[Value, Value, Value]:
        high, one, other, low = (total.value for total in self._sums[row][vector_])
        return high, one + other, low
