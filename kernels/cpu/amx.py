"""Products of many rows on the matrix unit of Intel CPUs (AMX): tiles of 16 rows x 16 outputs x 64 inputs.

A weight is an integer too (`linear.py`), and is cut into digits of a byte like an activation: the product of a pair of
digits is summed over all inputs of a row before a vector touches it. The sums are exact, so they are the vectors' sums.

    C (rows x 16 outputs, 32-bit)  +=  A (rows x 64 digits, signed)  x  B (16 x 16 outputs x 4 digits)
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from stemma.kernels.cpu.dialect import DOUBLE, I8, I16, I64, VOID, Code, Value, vector
from stemma.kernels.cpu.rows import GROUP, INTS16, PAIR

FROM = 5
"""Rows from which the matrix unit is faster than the vectors."""
MAX_FEATURES = 32_768
"""Inputs whose digits' products fit a sum of 32 bits."""
DIGITS, WEIGHTS = (4, 5), (6, 7)
"""Tile registers; 0 to 3 are sums."""
TILE_BYTES = 1024
CONFIG, SUMS_AT, RESULTS_AT, STRIP_AT = 0, 64, 8192, 1 << 17
"""Where in a thread's scratch the tiles' shapes, the sums, finished sums and the digits of one strip stand."""
SCRATCH_BYTES = STRIP_AT + MAX_FEATURES // PAIR * 3 * TILE_BYTES
AHEAD, RING = 2, 4
"""With one group of rows, vectors unpack the weights so many tiles ahead of the matrix unit, in a ring of so many."""
DOUBLES16 = vector(DOUBLE, 16)


def configure(code: Code, scratch: Value, rows: Value) -> None:
    """Shapes of the tile registers: palette 1, bytes of a row from byte 16, rows from byte 48."""
    for at in range(0, 64, 8):
        code.store(code.constant(I64, 0), scratch + (CONFIG + at))
    code.store(code.constant(I8, 1), scratch + CONFIG)
    for tile in range(8):
        code.store(code.constant(I16, 64), scratch + (CONFIG + 16 + 2 * tile))
        code.store(code.constant(I8, GROUP) if tile in WEIGHTS else rows.to(I8), scratch + (CONFIG + 48 + tile))
    _call(code, "ldtilecfg", code.pointer(scratch + CONFIG))


def release(code: Code) -> None:
    _call(code, "tilerelease")


def store_digits(code: Code, pair: Value, half: Value, digits: list[list[Value]]) -> None:
    """Put 32 inputs' weights, vectors digit by digit, into the tiles of 64 inputs at `pair`."""
    for i, vectors in enumerate(digits):
        for j, part in enumerate(vectors):
            code.store(part, pair + half * (TILE_BYTES // 2) + (TILE_BYTES * i + 64 * j), 64)


def _sum_of(weight_digit: int, digit: int, weight_digits: int) -> int:
    """The tile that sums the products of two digits: one each while they suffice, else one for equal powers of 256."""
    return 2 * weight_digit + digit if weight_digits == 2 else weight_digit + digit


def multiply(
    code: Code, pairs: Value, group: Value, scratch: Value, weight_digits: int, tiles_of: Callable[[Value], Value],
    beside: Callable[[Value, int], None],
) -> None:  # fmt: skip
    """Form the sums of a group of prepared rows with a strip.

    tiles_of: where the digits of 64 inputs stand. beside: writes what vectors do meanwhile, for each of two halves.
    """
    for tile in range(4):
        _call(code, "tilezero", ir.Constant(I8, tile))
    with code.loop(0, pairs) as pair:
        for digit in (0, 1):  # the high one lies first
            _tile(code, "tileloadd64", DIGITS[digit], group + (pair * (2 * PAIR * GROUP) + PAIR * GROUP * (1 - digit)))
        for weight_digit in range(weight_digits):
            register = WEIGHTS[weight_digit % 2]
            _tile(code, "tileloadd64", register, tiles_of(pair) + TILE_BYTES * weight_digit)
            signed = weight_digit == weight_digits - 1
            for digit in (0, 1):
                tiles = (_sum_of(weight_digit, digit, weight_digits), DIGITS[digit], register)
                _call(code, "tdpbssd" if signed else "tdpbsud", *(ir.Constant(I8, tile) for tile in tiles))
            if weight_digit < 2:
                beside(pair, weight_digit)


def store_sums(code: Code, scratch: Value) -> None:
    """Put the sums where `row_sums` reads them."""
    for tile in range(4):
        _tile(code, "tilestored64", tile, scratch + (SUMS_AT + TILE_BYTES * tile))


def row_sums(code: Code, scratch: Value, row: Value, weight_digits: int) -> Value:
    """The whole sums of one row of the group, 16 doubles, exact."""
    levels: list[Value | None] = [None] * (weight_digits + 1)
    for weight_digit, digit in ((i, j) for i in range(weight_digits) for j in (0, 1)):
        tile, level = _sum_of(weight_digit, digit, weight_digits), weight_digit + digit
        found = levels[level]
        if found is None or weight_digits == 2:
            part = code.load(INTS16, scratch + row * 64 + (SUMS_AT + TILE_BYTES * tile), 64)
            levels[level] = part if found is None else found + part
    total: Value | None = None
    for part in reversed([level.to(DOUBLES16) for level in levels if level is not None]):
        total = part if total is None else code.fma(total, code.constant(DOUBLES16, 256.0), part)
    assert total is not None
    return total


def _tile(code: Code, name: str, tile: int, address: Value) -> None:
    _call(code, name, ir.Constant(I8, tile), code.pointer(address), ir.Constant(I64, 64))


def _call(code: Code, name: str, *arguments: ir.Value) -> None:
    full = f"llvm.x86.{name}"
    kinds = [argument.type for argument in arguments]
    function = code.module.globals.get(full) or ir.Function(code.module, ir.FunctionType(VOID, kinds), full)
    code.builder.call(function, arguments)
