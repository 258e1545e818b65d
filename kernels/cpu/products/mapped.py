"""Q8_0 read as a file has it, from its memory map: nothing is packed, so a model of it is ready as soon as the file is
mapped, and takes no memory of its own.

    a row       2 bytes of scale, 32 codes | 2 bytes of scale, 32 codes | ...
    a strip     16 rows, one behind the other; their codes are turned into vectors of 16 outputs as they are read

A scale becomes the integer nearest to it in units of its output, as packed ones are, by one multiplication. A strip is
some ten pages of memory that are read in sixteen places at once, so the lines of the next strip are asked for
meanwhile, from its first to its last (`linear.py`: those of a piece's first strip before it begins).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOATS16, HALF, I16, I32, INTS16, Code, Value, vector
from stemma.kernels.cpu.machine.target import VECTOR_BYTES
from stemma.kernels.cpu.products.tiles import MAPPED, tile_of
from stemma.kernels.weights import StoredWeight

STRIP, STEPS = 16, 32_767
BLOCK_BYTES = tile_of(MAPPED).file_bytes
TURN_FROM = 17
"""Rows from which two strips at once are turned into memory, for all rows."""
QUARTER = vector(I32, 4)
PIECE = 1 << 21
"""Weights whose scales a thread looks at together."""


class Rows(NamedTuple):
    """A block of 16 rows in the generated program. step: bytes from one row to the next."""

    first: Value
    step: Value


class Mapped(NamedTuple):
    """What products read. starts: addresses of the strips, the last one three times. inverses, units: of outputs."""

    starts: npt.NDArray[np.int64]
    inverses: npt.NDArray[np.float32]
    units: npt.NDArray[np.float32]


def can_stay(weight: StoredWeight) -> bool:
    """Whether products can read it where it is."""
    return weight.type == "Q8_0" and weight.shape[0] % STRIP == 0 and weight.data.flags.c_contiguous


def map_rows(parts: Sequence[StoredWeight], pool: ThreadPoolExecutor) -> Mapped:
    """Matrices of one input, as they lie."""
    starts: list[int] = []
    for part in parts:
        bytes_of_strip = part.data.strides[0] * STRIP
        starts += [part.data.ctypes.data + number * bytes_of_strip for number in range(part.shape[0] // STRIP)]
    step = max(1, PIECE // parts[0].shape[1])
    pieces = [part.data[start : start + step] for part in parts for start in range(0, part.shape[0], step)]
    largest = np.concatenate(list(pool.map(_largest_scales, pieces)))
    units = (largest / STEPS).astype(np.float32)
    units[units == 0] = 1
    return Mapped(np.array([*starts, starts[-1], starts[-1]], dtype=np.int64), np.float32(1) / units, units)


def _largest_scales(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Of each row, without signs: bits of floats without a sign are in the order of the floats."""
    shape, strides = (len(rows), rows.shape[1] // BLOCK_BYTES), (rows.strides[0], BLOCK_BYTES)
    bits = np.ndarray(shape, np.uint16, rows, 0, strides) & np.uint16(0x7FFF)
    largest: npt.NDArray[np.float64] = bits.max(axis=1).view(np.float16).astype(np.float64)
    return largest


def rows_of(strip: Value, blocks: Value, block: Value) -> Rows:
    return Rows(strip + block * BLOCK_BYTES, blocks * BLOCK_BYTES)


def rows_asked_for(code: Code, ahead: Value, strip: Value, blocks: Value, block: Value) -> Rows:
    """A block of a strip, while as many bytes of another strip are asked for, from its first to its last."""
    start = ahead + block * (BLOCK_BYTES * STRIP)
    for row in range(STRIP):
        code.prefetch(start + BLOCK_BYTES * row, nearness=2)
    return rows_of(strip, blocks, block)


def codes_of_rows(code: Code, rows: Rows) -> list[Value]:
    """The codes of 32 inputs: 8 vectors of four inputs of 16 outputs, with 128 added."""
    return [codes for half in (0, 1) for codes in _turned(code, rows, 2 + 16 * half)]


def _turned(code: Code, rows: Rows, at: int) -> list[Value]:
    """16 bytes of each row -> four vectors of four bytes of every row: 4 x 4 in each quarter of a vector."""
    low, high = ([4 * quarter + lane for quarter in range(4) for lane in pair] for pair in ((0, 1), (2, 3)))
    loaded = [code.load(QUARTER, rows.first + (rows.step * row + at)) for row in range(STRIP)]
    quads = [_joined(code, loaded[row::4]) for row in range(4)]
    pairs = []
    for one, two in (quads[:2], quads[2:]):
        for lanes in (low, high):
            order = [lane + 16 * which for lane in lanes for which in (0, 1)]
            pairs.append(code.shuffle(one, two, order))
    turned = []
    for one, two in ((pairs[0], pairs[2]), (pairs[1], pairs[3])):
        for lanes in (low, high):
            halves = [lanes[at : at + 2] for at in range(0, 8, 2)]
            order = [lane + 16 * which for half in halves for which in (0, 1) for lane in half]
            turned.append(code.shuffle(one, two, order))
    return [each.bits(VECTOR_BYTES) ^ -128 for each in turned]


def _joined(code: Code, quarters: list[Value]) -> Value:
    halves = [code.shuffle(quarters[i], quarters[i + 1], range(8)) for i in (0, 2)]
    return code.shuffle(halves[0], halves[1], range(16))


def scales_of_rows(code: Code, rows: Rows, inverses: Value) -> Value:
    """The scales of 16 outputs as integers of 16 bits."""
    halves = ir.Constant(vector(I16, STRIP), ir.Undefined)
    for row in range(STRIP):
        scale = code.load(I16, rows.first + rows.step * row, 2)
        halves = code.builder.insert_element(halves, scale.ir, ir.Constant(I32, row))
    scales = Value(code, halves).bits(vector(HALF, STRIP)).to(FLOATS16)
    return code.round(scales * code.load(FLOATS16, inverses)).to(INTS16).to(vector(I16, STRIP))
