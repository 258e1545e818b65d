"""Products of 16 rows and more on the matrix unit of Intel CPUs (AMX): integer sums of a tile of weights with 16 rows.

Integer sums are exact in any order, and what follows them is the arithmetic of `linear.py` in the same order: a row's
result is the same bits as on the vectors.

    C (16 rows x 16 outputs, 32-bit)  +=  A (16 rows x 32 digits, signed)  x  B (8 x 16 outputs x 4 weights, unsigned)
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from stemma.kernels.cpu.dialect import FLOAT, HALF, I8, I16, I32, I64, VOID, Code, Value, vector
from stemma.kernels.cpu.rows import FLOATS16, INTS16

ROWS = 16
SUMS, DIGITS, WEIGHTS = (0, 1), (2, 3), 4  # tile registers: one of SUMS and DIGITS for each digit
TILE_BYTES = 1024
CONFIG, SUMS_AT, STRIP_AT = 0, 64, 4096
"""Where in a thread's scratch the tiles' shapes, the sums and the bytes of one strip of weights stand."""


def configure(code: Code, scratch: Value) -> None:
    """Shapes of the tile registers: palette 1, bytes of a row from byte 16, rows from byte 48."""
    with code.loop(0, 64, 8) as i:
        code.store(code.constant(I64, 0), scratch + CONFIG + i)
    code.store(code.constant(I8, 1), scratch + CONFIG)
    shapes = {**dict.fromkeys(SUMS, (64, 16)), **dict.fromkeys(DIGITS, (32, 16)), WEIGHTS: (64, 8)}
    for tile, (row_bytes, rows) in shapes.items():
        code.store(code.constant(I16, row_bytes), scratch + (CONFIG + 16 + 2 * tile))
        code.store(code.constant(I8, rows), scratch + (CONFIG + 48 + tile))
    _call(code, "ldtilecfg", code.pointer(scratch + CONFIG))


def release(code: Code) -> None:
    _call(code, "tilerelease")


def unpack_strip(
    code: Code, weights: Value, blocks: Value, scratch: Value, unpack: Callable[[Value], list[Value]]
) -> None:
    """Write the bytes of a strip's weights where `multiply` reads them."""
    with code.loop(0, blocks) as block:
        for j, part in enumerate(unpack(weights + block * 256)):
            code.store(part, scratch + STRIP_AT + (block * 512 + 64 * j))


def multiply(
    code: Code, strip_bytes: Value, scales: Value, has_minima: bool, byte_offset: int, blocks: Value, first: Value,
    stride: Value, scratch: Value, digits: int,
) -> list[Value]:  # fmt: skip
    """Sums of 16 prepared rows from `first` with one strip whose weights stand as bytes at `strip_bytes`."""
    totals = [code.variable(code.constant(FLOATS16, 0.0)) for _ in range(ROWS)]
    with code.loop(0, blocks) as block:
        _tile(code, "tileloadd64", WEIGHTS, strip_bytes + block * 512, code.constant(I64, 64))
        for digit in range(digits):
            _call(code, "tilezero", ir.Constant(I8, SUMS[digit]))
            _tile(code, "tileloadd64", DIGITS[digit], first + (block * 64 + 32 * digit), stride)
            _call(code, "tdpbsud", *(ir.Constant(I8, tile) for tile in (SUMS[digit], DIGITS[digit], WEIGHTS)))
            place = scratch + (SUMS_AT + TILE_BYTES * digit)
            _tile(code, "tilestored64", SUMS[digit], place, code.constant(I64, 64))
        facts = scales + block * (64 if has_minima else 32)
        scale = code.load(vector(HALF, 16), facts).to(FLOATS16)
        minimum = code.load(vector(HALF, 16), facts + 32).to(FLOATS16) if has_minima else None
        for row, total in enumerate(totals):
            about = first + stride * row + (blocks * 64 + block * 16)
            whole = code.load(INTS16, scratch + (SUMS_AT + 64 * row), 64)
            if digits == 2:
                whole = (whole << 8) + code.load(INTS16, scratch + (SUMS_AT + TILE_BYTES + 64 * row), 64)
            if not has_minima and byte_offset:
                whole = whole + code.broadcast(I32, about + 8, 16) * -byte_offset
            result = code.fma(whole.to(FLOATS16), scale * code.broadcast(FLOAT, about, 16), total.value)
            if minimum is not None:
                result = code.fma(minimum, code.broadcast(FLOAT, about + 4, 16), result)
            total.value = result
    return [total.value for total in totals]


def _tile(code: Code, name: str, tile: int, address: Value, stride: Value) -> None:
    _call(code, name, ir.Constant(I8, tile), code.pointer(address), stride.ir)


def _call(code: Code, name: str, *arguments: ir.Value) -> None:
    full = f"llvm.x86.{name}"
    kinds = [argument.type for argument in arguments]
    function = code.module.globals.get(full) or ir.Function(code.module, ir.FunctionType(VOID, kinds), full)
    code.builder.call(function, arguments)
