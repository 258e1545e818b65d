"""The matrix unit of Intel CPUs (AMX): its eight tile registers, and instructions on them. What is multiplied is said
by those who use it (`products/amx.py`, `attention/matrix_tiles.py`)."""

from __future__ import annotations

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import I8, I16, I64, VOID, Code, Value

TILE_BYTES = 1024
MOST_ROWS = 16
WHOLE = (6, 7)
"""Registers that have all 16 rows, however many the others have."""


def configure(code: Code, config: Value, rows: Value) -> None:
    """Shapes of the tile registers, in 64 bytes at `config`: palette 1, bytes of a row from 16, rows from 48.

    rows: of the registers that are not `WHOLE`.
    """
    for at in range(0, 64, 8):
        code.store(code.constant(I64, 0), config + at)
    code.store(code.constant(I8, 1), config)
    for register in range(8):
        code.store(code.constant(I16, 64), config + (16 + 2 * register))
        code.store(code.constant(I8, MOST_ROWS) if register in WHOLE else rows.to(I8), config + (48 + register))
    call(code, "ldtilecfg", code.pointer(config))


def release(code: Code) -> None:
    call(code, "tilerelease")


def move(code: Code, name: str, register: int, address: Value, row_bytes: int = 64) -> None:
    """ "tileloadd64" or "tilestored64" of a register whose rows lie `row_bytes` apart."""
    call(code, name, ir.Constant(I8, register), code.pointer(address), ir.Constant(I64, row_bytes))


def call(code: Code, name: str, *arguments: ir.Value) -> None:
    """One instruction of the matrix unit."""
    full = f"llvm.x86.{name}"
    kinds = [argument.type for argument in arguments]
    function = code.module.globals.get(full) or ir.Function(code.module, ir.FunctionType(VOID, kinds), full)
    code.builder.call(function, arguments)
