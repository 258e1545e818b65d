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
from stemma.kernels.cpu.attention.softmax import SoftmaxTiles
from stemma.kernels.cpu.attention.tiles import Shape, Span, Tile, pieces
from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I8, I32, I64, Value, vector
from stemma.kernels.ops import KV_SPLIT

CELLS = KV_SPLIT // TOKENS
WEIGHT_BYTES = 2 * KV_SPLIT + 64
"""Between the rows of two queries, as `SCORE_BYTES`."""
MOST_VECTORS = 16
"""Of a head's values, whose products are written out one after the other; of more, in a loop."""


class IntegerTiles(SoftmaxTiles):
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
            "digits": 2 * self._query_bytes * queries, "weights": WEIGHT_BYTES * queries,
            "keys": 8 * CELLS, "values": 8 * CELLS,
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

    @property
    @abstractmethod
    def _at_once(self) -> int:
        """Sums of products, of 16 lanes, that stay in the registers."""

    @property
    def _queries_at_once(self) -> int:
        """Of those sums: so many queries with some vectors, or cells, read both sides least often."""
        return self._at_once if self._at_once < 8 else self._at_once // 2

    @property
    def _vectors_at_once(self) -> int:
        """Vectors, or cells, with so many queries; two, unless that leaves products to wait for each other."""
        queries = max(map(len, pieces(self.queries, self._queries_at_once)))
        return max(1, min(self._at_once // queries, max(2, 8 // queries)))

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
        self._weights(tile, span)
        self._weigh(tile, span)

    def _scores(self, tile: Tile, span: Span) -> None:
        code = self.code
        done, end = span.groups(TOKENS)
        most = self._queries_at_once
        for width in dict.fromkeys((self._vectors_at_once, 1)):
            until = end - (end - done) % width
            with code.loop(done, until, width) as cell:

                def write(query: Value | int, count: int, width: int = width, cell: Value = cell) -> None:
                    ahead = [self._values_ahead(tile, query, cell + i) for i in range(width)]
                    self._multiply_keys_of(tile, (query, count), cell, ahead)
                    for values in ahead:
                        self._prefetch(values, 2 * self.plane, 4 * TOKENS)

                self._each_piece(most, write)
            done = until

    def _values_ahead(self, tile: Tile, query: Value | int, cell: Value) -> Value | None:
        values = tile.memory["values"] + cell * 8
        return self._ahead(query, lambda: self.code.load_int(values), not self.shape.value_dim)

    def _weigh(self, tile: Tile, span: Span) -> None:
        code, shape = self.code, self.shape
        last_row = tile.item["first_row"] + tile.item["rows"] - 1
        last_token = code.load(I32, tile.job["positions"] + last_row * 4).to(I64)
        last_token = code.minimum(last_token, tile.item["end_split"] * KV_SPLIT - 1)

        def following(cell: Value) -> Value:
            return self._cell(tile, "keys", code.minimum(span.start + KV_SPLIT + cell * TOKENS, last_token))

        def weigh(dims: Sequence[Value | int], *, first: bool) -> None:
            def write(query: Value | int, count: int) -> None:
                def ahead(cell: Value) -> Value | None:
                    return self._ahead(query, lambda: following(cell), in_cells(shape.block_size))

                self._multiply_values_of(tile, span, (query, count), dims, ahead if first else _nothing)

            self._each_piece(self._queries_at_once, write)

        number, width = shape.padded_value // 16, self._vectors_at_once
        if number <= MOST_VECTORS or number % width:
            for dims in pieces(number, width):
                weigh(list(dims), first=dims[0] == 0)
            return
        with code.loop(0, number, width) as dim:
            weigh([dim + i for i in range(width)], first=False)

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


def _nothing(_: Value) -> None:
    return None
