"""Products of many rows on the matrix unit of Intel CPUs (AMX): tiles of 16 rows x 16 outputs x 64 inputs.

A weight is an integer too (`linear.py`), and is cut into digits of a byte like an activation: the product of a pair of
digits is summed over all inputs of a row before a vector touches it. The sums are exact, so they are the vectors' sums.

    C (rows x 16 outputs, 32-bit)  +=  A (rows x 64 digits, signed)  x  B (16 x 16 outputs x 4 digits)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOATS16, I8, I64, INTS16, Code, Value, Variable
from stemma.kernels.cpu.machine.matrix_unit import TILE_BYTES, WHOLE, call, configure, move, release
from stemma.kernels.cpu.products.strips import DOUBLES16, Part, Strip, finish, scaled, weight_digits
from stemma.kernels.cpu.products.tiles import tile_of
from stemma.kernels.cpu.rows.activations import GROUP, PAIR, pairs_of

FROM = 5
"""Rows from which the matrix unit is faster than the vectors."""
MAX_FEATURES = 32_768
"""Inputs whose digits' products fit a sum of 32 bits."""
DIGITS, WEIGHTS = (4, 5), WHOLE
"""Tile registers; 0 to 3 are sums."""
CONFIG, SUMS_AT, RESULTS_AT, STRIP_AT = 0, 64, 8192, 1 << 17
"""Where in a thread's scratch the tiles' shapes, the sums, finished sums and the digits of one strip stand."""
SCRATCH_BYTES = STRIP_AT + MAX_FEATURES // PAIR * 3 * TILE_BYTES
AHEAD, RING = 2, 4
"""With one group of rows, vectors unpack the weights so many tiles ahead of the matrix unit, in a ring of so many."""


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
        call(code, "tilezero", ir.Constant(I8, tile))
    with code.loop(0, pairs) as pair:
        for digit in (0, 1):  # the high one lies first
            move(code, "tileloadd64", DIGITS[digit], group + (pair * (2 * PAIR * GROUP) + PAIR * GROUP * (1 - digit)))
        for weight_digit in range(weight_digits):
            register = WEIGHTS[weight_digit % 2]
            move(code, "tileloadd64", register, tiles_of(pair) + TILE_BYTES * weight_digit)
            signed = weight_digit == weight_digits - 1
            for digit in (0, 1):
                tiles = (_sum_of(weight_digit, digit, weight_digits), DIGITS[digit], register)
                call(code, "tdpbssd" if signed else "tdpbsud", *(ir.Constant(I8, tile) for tile in tiles))
            if weight_digit < 2:
                beside(pair, weight_digit)


def store_sums(code: Code, scratch: Value) -> None:
    """Put the sums where `row_sums` reads them."""
    for tile in range(4):
        move(code, "tilestored64", tile, scratch + (SUMS_AT + TILE_BYTES * tile))


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


def sweep_groups(code: Code, part: Part, scratch: Value) -> None:
    """Groups of rows against all strips of the part, on the matrix unit."""
    count = part.rows[1] - part.rows[0]
    configure(code, scratch + CONFIG, code.minimum(count, GROUP))
    with code.either(count <= GROUP) as (one, many):
        with one:
            _sweep_one_group(code, part, scratch)
        with many:
            _sweep_many_groups(code, part, scratch)
    release(code)


def _sweep_many_groups(code: Code, part: Part, scratch: Value) -> None:
    """A strip is unpacked once for all groups. Vectors finish one group while the matrix unit multiplies the next."""
    digits, tiles = tile_of(part.kind).num_digits, scratch + STRIP_AT
    size, pairs = TILE_BYTES * digits, pairs_of(part.job["features"])
    formed = _Formed(code.variable(part.rows[0]), code.variable(part.strips[0]), code.variable(0))

    def finish_before(pair: Value, half: int) -> None:
        row = pair * 2 + half
        with code.when(row < formed.count.value):
            _finish_row(code, part, scratch, formed, row)

    with code.loop(*part.strips) as index:
        strip = part.strip(code, index)
        with code.loop(0, strip.blocks) as block:
            unpacked = weight_digits(code, part, strip, block)
            store_digits(code, tiles + (block >> 1) * size, block & 1, unpacked)
        with code.loop(*part.rows, GROUP) as row:
            group = part.job["prepared"] + (row - part.rows[0]) * part.job["prepared_stride"]
            multiply(code, pairs, group, scratch, digits, lambda pair: tiles + pair * size, finish_before)
            with code.loop(pairs * 2, formed.count.value) as rest:
                _finish_row(code, part, scratch, formed, rest)
            store_sums(code, scratch)
            formed.first.value, formed.strip.value = row, index
            formed.count.value = code.minimum(part.rows[1] - row, GROUP)
    with code.loop(0, formed.count.value) as row:
        _finish_row(code, part, scratch, formed, row)


def _sweep_one_group(code: Code, part: Part, scratch: Value) -> None:
    """Weights are used once: vectors unpack them a little ahead of the matrix unit, also across the end of a strip."""
    digits, ring = tile_of(part.kind).num_digits, scratch + STRIP_AT
    (first, last), pairs = part.strips, pairs_of(part.job["features"])

    def tiles_of(pair: Value) -> Value:
        return ring + (pair & (RING - 1)) * (TILE_BYTES * digits)

    def unpack(strip: Strip, block: Value, to: Value, half: Value) -> None:
        unpacked = weight_digits(code, part, strip, code.minimum(block, strip.blocks - 1))
        store_digits(code, tiles_of(to), half, unpacked)

    with code.loop(0, AHEAD * 2) as block:
        unpack(part.strip(code, first), block, block >> 1, block & 1)
    with code.loop(first, last) as index:
        before = (index - first) * pairs

        def unpack_ahead(pair: Value, half: int, index: Value = index, before: Value = before) -> None:
            ahead = pair + AHEAD
            beyond = (ahead >= pairs).widen_unsigned(I64)
            strip = part.strip(code, code.minimum(index + beyond, last - 1))
            block = (ahead - beyond * pairs) * 2 + half
            unpack(strip, block, before + ahead, code.constant(I64, half))

        multiply(
            code, pairs, part.job["prepared"], scratch, digits,
            lambda pair, before=before: tiles_of(before + pair), unpack_ahead,  # type: ignore[misc]
        )  # fmt: skip
        store_sums(code, scratch)
        formed = _Formed(code.variable(part.rows[0]), code.variable(index), code.variable(part.rows[1] - part.rows[0]))
        with code.loop(0, formed.count.value) as row:
            _finish_row(code, part, scratch, formed, row)


@dataclass(frozen=True, slots=True)
class _Formed:
    """Sums of a group that stand in the scratch: its first row, the strip as it is counted, its rows."""

    first: Variable
    strip: Variable
    count: Variable


def _finish_row(code: Code, part: Part, scratch: Value, formed: _Formed, row: Value) -> None:
    before, index = formed.first.value - part.rows[0], formed.strip.value
    scales = (
        part.job["prepared"]
        + before * part.job["prepared_stride"]
        + pairs_of(part.job["features"]) * (2 * PAIR * GROUP)
    )
    units = code.load(FLOATS16, part.strip(code, index).units)
    total = row_sums(code, scratch, row, tile_of(part.kind).num_digits)
    waiting = part.results + ((before + row) * 128 + (index & 1) * 64)
    finish(code, part, formed.first.value + row, index, scaled(code, total, scales + row * 4, units), waiting)
