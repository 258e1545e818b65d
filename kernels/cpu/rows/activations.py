"""Kernels that work on one row at a time: the quantisation of activations, behind a norm if asked, and the rotation
of heads.

A quantised row is integers of 16 bits and one scale: value = scale * (256 * high + low), two signed bytes. Rows lie in
groups of one, or of 16 for the matrix unit, as long as that many rows:

    for each 64 inputs: 64 high digits of every row, 64 low digits of every row
    16 scales; in a group of one, for each 32 inputs their sum, a double, then for each 16 theirs, in 32 bits
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import (
    BYTES16,
    DOUBLE,
    FLOAT,
    FLOATS16,
    I32,
    I64,
    INTS16,
    Code,
    Value,
    vector,
)
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.cpu.rows.norms import copy_normed

BLOCK = 32
GROUP, PAIR = 16, 64
PREPARE = ("x", "x_stride", "norm", "row_ids", "first", "last", "features", "prepared", "prepared_stride",
           "rows_per_piece", "group")  # fmt: skip
"""Names of the first words of a linear job's arguments; see `linear.py` for the rest. It is about the rows from first
to last, which lie in groups of 1 or GROUP."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuRope:
    """Tables of angles, and where they are."""

    cos: npt.NDArray[np.float32]
    sin: npt.NDArray[np.float32]
    cos_address: int
    sin_address: int


def make_rope(cos: npt.NDArray[np.float32], sin: npt.NDArray[np.float32]) -> CpuRope:
    cos, sin = (np.ascontiguousarray(table, dtype=np.float32) for table in (cos, sin))
    return CpuRope(cos, sin, cos.ctypes.data, sin.ctypes.data)


def prepared_stride(features: int, quantized: bool) -> int:
    """Bytes of one prepared row, whole cache lines."""
    if not quantized:
        return -(-features // BLOCK) * BLOCK * 4
    return -(-features // PAIR) * (2 * PAIR + 32) // 64 * 64 + 128


def add_prepare(module: ir.Module) -> None:
    """prepare_float and prepare_quantized: rows of x, normed if asked, as the matrix products read them."""
    for quantized in (False, True):
        code = Code(module, "prepare_quantized" if quantized else "prepare_float", 3)
        address, piece, scratch = code.arguments
        job = read_words(code, address, PREPARE)
        first = job["first"] + piece * job["rows_per_piece"]
        with code.loop(first, code.minimum(first + job["rows_per_piece"], job["last"])) as row:
            index = row - job["first"]
            target = job["prepared"] + index * job["prepared_stride"]
            source = code.variable(row)
            with code.when(job["row_ids"].differs(0)):
                source.value = code.load(I32, job["row_ids"] + row * 4).to(I64)
            x = job["x"] + source.value * job["x_stride"]
            if quantized:
                _quantize_row(code, _normed_or_itself(code, x, scratch, job), job, index)
            else:
                copy_normed(code, x, target, job["norm"], job["features"], BLOCK)
        code.finish()


def _normed_or_itself(code: Code, x: Value, scratch: Value, job: dict[str, Value]) -> Value:
    """The address of what is to be quantised: the row where it lies, if nothing has to be done to it."""
    source = code.variable(x)
    with code.when(job["norm"].differs(0) | (job["features"] % PAIR).differs(0)):
        copy_normed(code, x, scratch, job["norm"], job["features"], PAIR)
        source.value = scratch
    return source.value


def pairs_of(features: Value) -> Value:
    """How many times 64 inputs a quantised row has."""
    return (features + (PAIR - 1)) // PAIR


def _quantize_row(code: Code, x: Value, job: dict[str, Value], row: Value) -> None:
    """row: its number among the prepared ones."""
    pairs, size, within = pairs_of(job["features"]), job["group"], row % job["group"]
    group = job["prepared"] + (row - within) * job["prepared_stride"]
    digits, facts = group + within * PAIR, group + pairs * (2 * PAIR) * size
    largest = 127.0 * 256
    peaks = [code.variable(code.constant(FLOATS16, 0.0)) for _ in range(PAIR // 16)]
    with code.loop(0, pairs) as pair:
        for part, peak in enumerate(peaks):
            values = code.load(FLOATS16, x + (pair * (PAIR * 4) + 64 * part))
            peak.value = code.maximum(peak.value, code.absolute(values))
    both = [code.maximum(peaks[i].value, peaks[i + 1].value) for i in (0, 2)]
    scale = code.reduce(code.maximum(*both), code.maximum) * (1.0 / largest)
    code.store(scale, facts + within * 4)
    inverse = code.select(scale > 0.0, 1.0 / scale, code.constant(FLOAT, 0.0))
    # Numbers so small that 1 / scale overflows count as zero.
    inverses = code.splat(code.select(inverse < 1e38, inverse, code.constant(FLOAT, 0.0)), 16)
    sums = facts + 64
    sums_of_16 = sums + pairs * 16
    with code.loop(0, pairs) as pair:
        for half in range(2):
            numbers: list[Value] = []
            for part in (2 * half, 2 * half + 1):
                number = code.round(code.load(FLOATS16, x + (pair * (PAIR * 4) + 64 * part)) * inverses).to(INTS16)
                number = code.maximum(code.minimum(number, int(largest)), -int(largest))
                numbers.append(number)
                high = (number + 128) >> 8
                place = digits + (pair * (2 * PAIR) * size + 16 * part)
                code.store(high.to(BYTES16), place)
                code.store((number - (high << 8)).to(BYTES16), place + size * PAIR)
            with code.when(size.equals(1)):
                halves = [code.sum(number) for number in numbers]
                code.store((halves[0] + halves[1]).to(DOUBLE), sums + (pair * 16 + 8 * half))
                for nth, total in enumerate(halves):
                    code.store(total, sums_of_16 + (pair * 16 + 8 * half + 4 * nth))


def rotate(code: Code, x: Value, out: Value, cos: Value, sin: Value, head_dim: int) -> None:
    """Rotate the pairs (i, i + head_dim / 2) of one head."""
    half = head_dim // 2
    lanes = math.gcd(half, 16)
    type_ = vector(FLOAT, lanes)
    for i in range(0, half, lanes):
        first, second = code.load(type_, x + i * 4), code.load(type_, x + (half + i) * 4)
        c, s = code.load(type_, cos + i * 4), code.load(type_, sin + i * 4)
        code.store(first * c - second * s, out + i * 4)
        code.store(second * c + first * s, out + (half + i) * 4)
