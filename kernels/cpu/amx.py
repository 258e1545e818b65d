"""Products of many rows on the matrix unit of Intel CPUs (AMX): integer sums of a tile of weights with up to 16 rows.

Integer sums are exact in any order, and what follows them is the arithmetic of `linear.py` in the same order: a row's
result is the same bits as on the vectors.

    C (16 rows x 16 outputs, 32-bit)  +=  A (16 rows x 32 digits, signed)  x  B (8 x 16 outputs x 4 weights, unsigned)

The way of a block of inputs, from tiles to totals, is longer than a core can look ahead. Three blocks are therefore
under way at once: while the vectors work on one, the sums of the next are stored and the products of the one after it
are formed. Operations of the two units alternate in the program, as they are meant to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llvmlite import ir

from stemma.kernels.cpu.dialect import FLOAT, HALF, I8, I16, I32, I64, VOID, Code, Value, vector
from stemma.kernels.cpu.rows import FLOATS16, GROUP, GROUP_HALF, INTS16

FROM = 5
"""Rows from which the matrix unit is faster than the vectors."""
SUMS, DIGITS, WEIGHTS = ((0, 1), (2, 3)), (4, 5), 6
"""Tile registers. Of SUMS, one for each digit, twice: neighbouring blocks take turns."""
TILE_BYTES = 1024
CONFIG, SUMS_AT, HELD_AT, STRIP_AT = 0, 64, 4096 + 64, 1 << 15
"""Where in a thread's scratch the tiles' shapes, the sums of two blocks, the results that wait for others, and the
unpacked strip stand."""
BYTES, FACTS = 512, 128
"""Of one unpacked block: its weights, its scales and minima as floats."""


def configure(code: Code, scratch: Value, rows: int) -> None:
    """Shapes of the tile registers: palette 1, bytes of a row from byte 16, rows from byte 48."""
    with code.loop(0, 64, 8) as i:
        code.store(code.constant(I64, 0), scratch + CONFIG + i)
    code.store(code.constant(I8, 1), scratch + CONFIG)
    shapes = {**dict.fromkeys(SUMS[0] + SUMS[1], (64, rows)), **dict.fromkeys(DIGITS, (32, rows)), WEIGHTS: (64, 8)}
    for tile, (row_bytes, tile_rows) in shapes.items():
        code.store(code.constant(I16, row_bytes), scratch + (CONFIG + 16 + 2 * tile))
        code.store(code.constant(I8, tile_rows), scratch + (CONFIG + 48 + tile))
    _call(code, "ldtilecfg", code.pointer(scratch + CONFIG))


def release(code: Code) -> None:
    _call(code, "tilerelease")


def unpack_strip(
    code: Code, scales: Value, has_minima: bool, blocks: Value, scratch: Value,
    unpack: Callable[[Value], list[Value]],
) -> None:  # fmt: skip
    """Write the bytes of a strip's weights and its scales as floats where `multiply` reads them."""
    facts = scratch + STRIP_AT + blocks * BYTES
    with code.loop(0, blocks) as block:
        for j, part in enumerate(unpack(block)):
            code.store(part, scratch + STRIP_AT + (block * BYTES + 64 * j), 64)
        for j in range(1 + has_minima):
            stored = scales + (block * (64 if has_minima else 32) + 32 * j)
            code.store(code.load(vector(HALF, 16), stored).to(FLOATS16), facts + (block * FACTS + 64 * j), 64)


class Product:
    """Sums of a group of prepared rows, of which `rows` count, with the unpacked strip."""

    def __init__(
        self, code: Code, rows: int, has_minima: bool, byte_offset: int, blocks: Value, group: Value, scratch: Value,
        digits: int,
    ) -> None:  # fmt: skip
        self.code, self.rows, self.has_minima = code, rows, has_minima
        self.byte_offset, self.digits = byte_offset, digits
        self.blocks, self.scratch, self.group = blocks, scratch, group
        self.strip = scratch + STRIP_AT
        self.facts = self.strip + blocks * BYTES
        self.row_facts = group + blocks * (64 * GROUP)
        self.totals = [code.variable(code.constant(FLOATS16, 0.0)) for _ in range(rows)]

    def sums(self) -> list[Value]:
        """What is formed beyond the last block is not used; it reads what follows the strip and the group."""
        code = self.code
        for operation in (*self._multiply(code.constant(I64, 0), 0), *self._multiply(code.constant(I64, 1), 1)):
            operation()
        for operation in self._store(0):
            operation()
        with code.loop(0, self.blocks, 2) as block:
            self._step(block, 0)
            with code.when((block + 1) < self.blocks):
                self._step(block + 1, 1)
        return [total.value for total in self.totals]

    def _step(self, block: Value, turn: int) -> None:
        tiles = iter((*self._store(1 - turn), *self._multiply(block + 2, turn)))
        facts = self.facts + block * FACTS
        scale = self.code.load(FLOATS16, facts, 64)
        minimum = self.code.load(FLOATS16, facts + 64, 64) if self.has_minima else None
        for row in range(self.rows):
            _next(tiles)
            self._add_row(row, block, turn, scale, minimum)
        for operation in tiles:
            operation()

    def _add_row(self, row: int, block: Value, turn: int, scale: Value, minimum: Value | None) -> None:
        code, total = self.code, self.totals[row]
        place = self.scratch + (SUMS_AT + TILE_BYTES * 2 * turn + 64 * row)
        about = self.row_facts + (block * (16 * GROUP) + fact_place(row))
        whole = code.load(INTS16, place, 64)
        if self.digits == 2:
            whole = (whole << 8) + code.load(INTS16, place + TILE_BYTES, 64)
        if self.byte_offset:
            whole = whole + code.broadcast(I32, about + 8 * GROUP_HALF, 16) * -self.byte_offset
        result = code.fma(whole.to(FLOATS16), scale * code.broadcast(FLOAT, about, 16), total.value)
        if minimum is not None:
            result = code.fma(minimum, code.broadcast(FLOAT, about + 4 * GROUP_HALF, 16), result)
        total.value = result

    def _multiply(self, block: Value, turn: int) -> list[Callable[[], None]]:
        """Read a block's tiles and multiply them."""
        code = self.code

        def read(digit: int) -> None:
            place = self.group + (block * (64 * GROUP) + 32 * GROUP * digit)
            _tile(code, "tileloadd64", DIGITS[digit], place, code.constant(I64, 32))

        def multiply(digit: int) -> None:
            _call(code, "tilezero", ir.Constant(I8, SUMS[turn][digit]))
            tiles = (SUMS[turn][digit], DIGITS[digit], WEIGHTS)
            _call(code, "tdpbsud", *(ir.Constant(I8, tile) for tile in tiles))

        def weights() -> None:
            _tile(code, "tileloadd64", WEIGHTS, self.strip + block * BYTES, code.constant(I64, 64))

        operations = [weights]
        for digit in range(self.digits):
            operations += [lambda digit=digit: read(digit), lambda digit=digit: multiply(digit)]  # type: ignore[misc]
        return operations

    def _store(self, turn: int) -> list[Callable[[], None]]:
        place = self.scratch + (SUMS_AT + TILE_BYTES * 2 * turn)

        def store(digit: int) -> None:
            target = place + TILE_BYTES * digit
            _tile(self.code, "tilestored64", SUMS[turn][digit], target, self.code.constant(I64, 64))

        return [lambda digit=digit: store(digit) for digit in range(self.digits)]  # type: ignore[misc]


def fact_place(row: int) -> int:
    """Where the first fact of a row stands in the facts of a group's block."""
    return row // GROUP_HALF * (16 * GROUP_HALF) + row % GROUP_HALF * 4


def _next(operations: Iterator[Callable[[], None]]) -> None:
    operation = next(operations, None)
    if operation:
        operation()


def _tile(code: Code, name: str, tile: int, address: Value, stride: Value) -> None:
    _call(code, name, ir.Constant(I8, tile), code.pointer(address), stride.ir)


def _call(code: Code, name: str, *arguments: ir.Value) -> None:
    full = f"llvm.x86.{name}"
    kinds = [argument.type for argument in arguments]
    function = code.module.globals.get(full) or ir.Function(code.module, ir.FunctionType(VOID, kinds), full)
    code.builder.call(function, arguments)
