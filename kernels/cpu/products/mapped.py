"""Q8_0 read as a file has it, from its memory map: nothing is packed, so a model of it is ready as soon as the file is
mapped, and takes no memory of its own.

    a row       2 bytes of scale, 32 codes | 2 bytes of scale, 32 codes | ...
    a strip     16 rows, one behind the other; their codes are turned into vectors of 16 outputs as they are read, or,
                for few rows of activations where bytes are not multiplied, widened to words as they lie

A scale becomes the integer nearest to it in units of its output, as packed ones are, by one multiplication. A strip is
some ten pages of memory that are read in sixteen places at once, so the lines of the next strip are asked for
meanwhile, from its first to its last (`linear.py`: those of a piece's first strip before it begins).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOATS16, HALF, I16, I32, Code, Value, vector
from stemma.kernels.cpu.machine.target import VECTOR_BYTES, Target
from stemma.kernels.cpu.products.tiles import MAPPED, tile_of
from stemma.kernels.weights import StoredWeight

STRIP, STEPS = 16, 32_767
BLOCK_BYTES = tile_of(MAPPED).file_bytes
TURN_FROM = 17
"""Rows from which two strips at once are turned into memory, for all rows."""
QUARTER, WORDS16 = vector(I32, 4), vector(I16, 16)
JOINS = (((0, 8, 1, 9, 4, 12, 5, 13), 2), ((0, 1, 8, 9, 4, 5, 12, 13), 2), ((0, 1, 2, 3, 8, 9, 10, 11), 4))
"""How sums of two rows, of two and two, of four and four become one vector: lanes of both that are added to those that
follow so many behind."""
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
    for line in range(0, BLOCK_BYTES * STRIP, 64):
        code.prefetch(start + line, nearness=2)
    return rows_of(strip, blocks, block)


def words_of_digits(code: Code, digits: Value, low: int) -> list[Value]:
    """32 activations as words, even inputs and odd ones. low: bytes from the high digits to the low ones."""
    highs, lows = (code.load(WORDS16, digits + at) for at in (0, low))
    return [(highs << 8) + ((lows << 8) >> 8), (highs & -256) + (lows >> 8)]


def dots_of_rows(code: Code, target: Target, rows: list[Value], activations: list[list[Value]]) -> list[Value]:
    """For each row of activations, the sum of 32 products of each of 16 outputs: codes are multiplied as they lie, and
    eight sums of each output added up side by side.

    activations: by row, what `words_of_digits` gives.
    """
    sums: list[list[Value]] = [[] for _ in activations]
    for number, place in enumerate(rows, start=1):
        codes = code.load(WORDS16, place + 2)
        even, odd = target.even_bytes(code, codes), codes >> 8
        for found, x in zip(sums, activations, strict=True):
            found.append(target.dot_words(code, target.multiply_words(code, even, x[0]), odd, x[1]))
            _add_up(code, found, number)
    return [code.shuffle(found[0], found[1], range(STRIP)) for found in sums]


def rows_of_strip(code: Code, strip: Value, blocks: Value) -> Callable[[Value], list[Value]]:
    """Where a block's rows begin, by its number: from two addresses by four steps in registers, which an instruction
    adds up."""
    step = blocks * BLOCK_BYTES
    starts = strip, strip + step * 8
    steps = {odd: code.opaque(step * odd) for odd in (1, 3, 5, 7)}
    parts = {2: (1, 2), 4: (1, 4), 6: (3, 2)} | {odd: (odd, 1) for odd in steps}

    def places(block: Value) -> list[Value]:
        firsts = [code.opaque(start + block * BLOCK_BYTES) for start in starts]
        return [first + steps[parts[row][0]] * parts[row][1] if row else first for first in firsts for row in range(8)]

    return places


def _add_up(code: Code, found: list[Value], count: int) -> None:
    """Behind 2, 4 and 8 rows their sums are put side by side in one vector, each half of them added to the other."""
    for nth, (lanes, step) in enumerate(JOINS, start=1):
        if count % (1 << nth) == 0:
            two = found.pop(-2), found.pop()
            found.append(code.shuffle(*two, lanes) + code.shuffle(*two, [lane + step for lane in lanes]))


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


def scales_of_rows(code: Code, rows: list[Value], inverses: Value) -> Value:
    """The scales of 16 outputs, whole numbers of 16 bits."""
    halves = ir.Constant(vector(I16, STRIP), ir.Undefined)
    for row, place in enumerate(rows):
        scale = code.load(I16, place, 2)
        halves = code.builder.insert_element(halves, scale.ir, ir.Constant(I32, row))
    return code.round(Value(code, halves).bits(vector(HALF, STRIP)).to(FLOATS16) * code.load(FLOATS16, inverses))
