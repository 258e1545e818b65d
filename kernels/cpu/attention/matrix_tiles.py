"""Paged attention on the matrix unit of Intel CPUs (AMX), for tiles of several rows: the sums of `digit_tiles.py`, 16
queries at a time. The sums are exact and what follows them is the same, so a row's result is the same bits.

    scores   C (16 queries x 16 tokens)  +=  A (16 queries x 64 dimensions)  x  B (a plane of a cell of keys)
    values   C (16 queries x 16 dimensions)  +=  A (16 queries x 64 weights)  x  B (64 values of 16 dimensions)

A tile that is stored can be read only long after: so the sums of one product are turned into floats while the next
product runs. The values of a split are copied together first, since a cell has 16 tokens and a product takes 64.
"""

from __future__ import annotations

from collections.abc import Mapping

from llvmlite import ir

from stemma.kernels.cpu.attention.cells import TOKENS
from stemma.kernels.cpu.attention.digit_tiles import DigitTiles
from stemma.kernels.cpu.attention.integer_tiles import WEIGHT_BYTES
from stemma.kernels.cpu.attention.softmax import SCORE_BYTES
from stemma.kernels.cpu.attention.tiles import CHUNK, Span, Tile
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I8, I64, INTS16, Value
from stemma.kernels.cpu.machine.matrix_unit import TILE_BYTES, call, configure, move, release
from stemma.kernels.ops import KV_SPLIT

ROWS = 16
SUMS, DIGITS, STORED = (0, 1, 2), (3, 4), (5, 6)
"""Tile registers: sums (high, middle, low), then high and low bytes of both sides."""


class MatrixTiles(DigitTiles):
    """panel: the split's values (padded_value / 16, 2 planes, KV_SPLIT / 4, 16, 4). sums: (3, 16, 16), of 16 rows."""

    @property
    def _padded_queries(self) -> int:
        return -(-self.queries // ROWS) * ROWS

    @property
    def _query_bytes(self) -> int:
        """Filled up with zeros, so that what a tile of keys holds beyond the last dimension does not count."""
        return -(-self.shape.head_dim // CHUNK) * CHUNK

    def _sizes(self) -> dict[str, int]:
        panel = 2 * KV_SPLIT * self.shape.padded_value
        return super()._sizes() | {"panel": panel, "sums": len(SUMS) * TILE_BYTES, "config": 64}

    def _rows(self, item: Mapping[str, Value]) -> Value:
        return item["rows"]

    def _begin(self, tile: Tile) -> None:
        configure(self.code, tile.memory["config"], self.code.constant(I64, ROWS))
        super()._begin(tile)

    def _end(self, tile: Tile) -> None:
        release(self.code)
        super()._end(tile)

    # A split ---------------------------------------------------------------------------------------------------------
    def _split(self, tile: Tile, span: Span) -> None:
        """Sixteen queries at a time, so that their scores and weights stay in the first-level cache."""
        code = self.code
        self._find_cells(tile, span)
        self._copy_values(tile, span)
        scores = _Turns(self, tile, "query_correction", SCORE_BYTES, rows_have_scales=False)
        values = _Turns(self, tile, "weight_correction", 4 * self.shape.part_floats, rows_have_scales=True)
        with code.loop(0, tile.queries, ROWS) as first:
            with code.loop(*span.groups(TOKENS)) as cell:
                self._multiply_keys(tile, first, cell, scores)
            scores.finish()
            self._weights_of(tile, first, code.minimum(tile.queries - first, ROWS), span)
            with code.loop(0, self.shape.padded_value // 16) as dim:
                self._multiply_values(tile, first, dim, span, values)
            values.finish()

    def _multiply_keys(self, tile: Tile, query: Value, cell: Value, turns: _Turns) -> None:
        """Of 16 queries with 16 keys."""
        code, memory = self.code, tile.memory
        self._clear()
        keys, digits = code.load_int(memory["keys"] + cell * 8), memory["digits"] + query * (2 * self._query_bytes)
        for chunk in range(self._query_bytes // CHUNK):
            stored = keys + chunk * (CHUNK * TOKENS)
            self._multiply(digits + chunk * CHUNK, self._query_bytes, 2 * self._query_bytes, stored, self.plane)
        turns.take(query, memory["scores"] + query * SCORE_BYTES + cell * (4 * TOKENS), keys + 2 * self.plane)

    def _multiply_values(self, tile: Tile, query: Value, dim: Value, span: Span, turns: _Turns) -> None:
        """Of 16 queries' weights with 16 dimensions."""
        code, shape, memory = self.code, self.shape, tile.memory
        self._clear()
        with code.loop(span.begin, self._written(span.end), CHUNK) as token:
            weights = memory["weights"] + query * WEIGHT_BYTES + token
            values = memory["panel"] + dim * (8 * TILE_BYTES) + token * (TILE_BYTES // CHUNK)
            self._multiply(weights, KV_SPLIT, WEIGHT_BYTES, values, 4 * TILE_BYTES)
        out = memory["parts"] + (query * shape.part_floats + dim * 16) * 4
        turns.take(query, out, memory["weight_scale"] + query * 4)

    def _written(self, count: Value) -> Value:
        return (count + (CHUNK - 1)).unsigned_divide(CHUNK) * CHUNK

    def _copy_values(self, tile: Tile, span: Span) -> None:
        """The planes of all cells to tiles of 64 tokens x 16 dimensions."""
        code, memory = self.code, tile.memory
        with code.loop(*span.groups(TOKENS)) as cell:
            values = code.load_int(memory["values"] + cell * 8)
            for plane in range(2):
                target = memory["panel"] + cell * (TILE_BYTES // 4) + plane * (4 * TILE_BYTES)
                for quad in range(4):
                    for dim in range(self.shape.padded_value // 16):
                        source = values + (plane * self.value_plane + quad * 4 * self.shape.padded_value + dim * 64)
                        code.store(code.load(INTS16, source), target + (dim * (8 * TILE_BYTES) + quad * 64))

    def _clear(self) -> None:
        for register in SUMS:
            call(self.code, "tilezero", ir.Constant(I8, register))

    def _multiply(self, digits: Value, digit_plane: int, digit_row: int, stored: Value, stored_plane: int) -> None:
        """Add the four products of high and low bytes to the sums."""
        code = self.code
        for low in range(2):
            move(code, "tileloadd64", DIGITS[low], digits + low * digit_plane, digit_row)
            move(code, "tileloadd64", STORED[low], stored + low * stored_plane, 64)
        for total, of_digits, of_stored in ((0, 0, 0), (1, 0, 1), (2, 1, 1), (1, 1, 0)):
            registers = SUMS[total], DIGITS[of_digits], STORED[of_stored]
            call(code, "tdpbsud", *(ir.Constant(I8, register) for register in registers))


class _Turns:
    """Sums that the matrix unit leaves and that become floats in the next turn, while it is busy again.

    rows_have_scales: scales of the 16 rows, else of the 16 lanes.
    """

    def __init__(
        self, tiles: MatrixTiles, tile: Tile, corrections: str, row_bytes: int, *, rows_have_scales: bool
    ) -> None:
        self._tiles, self._code, self._row_bytes = tiles, tiles.code, row_bytes
        self._rows_have_scales = rows_have_scales
        self._corrections, self._sums = tile.memory[corrections], tile.memory["sums"]
        self._waiting = {name: self._code.variable(0) for name in ("query", "out", "scales")}

    def take(self, query: Value, out: Value, scales: Value) -> None:
        """The sums of 16 queries from `query` are on their way; their floats will stand at `out`.

        They are stored after those of the turn before have been read: a load would wait for a store before it, if the
        addresses look alike.
        """
        self.finish()
        for index, register in enumerate(SUMS):
            move(self._code, "tilestored64", register, self._sums + index * TILE_BYTES, 64)
        for name, value in (("query", query), ("out", out), ("scales", scales)):
            self._waiting[name].value = value

    def finish(self) -> None:
        """Turn what was stored in the turn before, if anything, into floats."""
        code = self._code
        query, out, scales = (self._waiting[name].value for name in ("query", "out", "scales"))
        with code.when(out.differs(0)):
            for row in range(ROWS):
                parts = [code.load(INTS16, self._sums + (index * TILE_BYTES + row * 64), 64) for index in range(3)]
                whole = self._tiles._whole(parts[0], parts[1], parts[2], self._corrections + (query + row) * 4)
                if self._rows_have_scales:
                    scale = code.broadcast(FLOAT, scales + row * 4, 16)
                else:
                    scale = code.load(FLOATS16, scales)
                code.store(whole * scale, out + row * self._row_bytes)
        self._waiting["out"].value = code.constant(I64, 0)
