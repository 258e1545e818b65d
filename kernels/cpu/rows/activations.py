"""Kernels that work on one row at a time: the quantisation of activations, behind a norm if asked, and the rotation
of heads.

A quantised row is integers of 16 bits and one scale: value = scale * (256 * high + low), two signed bytes. Rows lie in
groups of one, or of 16 for the matrix unit, as long as that many rows:

    for each 64 inputs: 64 high digits of every row, 64 low digits of every row
    16 scales; in a group of one, for each 32 inputs their sum, a double, then for each 16 theirs, in 32 bits

For products of many rows on vectors (`products/many.py`) a row stands alone and is words, the numbers themselves:

    for each 4 inputs: the first and the third, the second and the fourth
    16 scales; then sums of inputs as two words, sum = 2,048 * high + low, low signed: for each 64 inputs the low
    words of both halves and the high ones; then for each 32 the same
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
    I16,
    I32,
    I64,
    INTS16,
    Code,
    Value,
    vector,
)
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.cpu.rows.norms import copy_normed

BLOCK = 32
GROUP, PAIR = 16, 64
WORDS, DIGITS = 0, 1
"""Rows that stand alone; what the word `group` of a job says, or GROUP."""
LARGEST = 127.0 * 256
DIGIT_BITS = 11
PREPARE = ("x", "x_stride", "norm", "row_ids", "first", "last", "features", "prepared", "prepared_stride",
           "rows_per_piece", "group")  # fmt: skip
"""Names of the first words of a linear job's arguments; see `linear.py` for the rest. It is about the rows from first
to last, which lie as `group` says: WORDS, DIGITS, or in groups of GROUP."""


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
    return -(-features // PAIR) * (2 * PAIR + 48) // 64 * 64 + 128


def add_prepare(module: ir.Module, target: Target) -> None:
    """prepare_float and prepare_quantized: rows of x, normed if asked, as the matrix products read them."""
    for quantized in (False, True):
        code = Code(module, "prepare_quantized" if quantized else "prepare_float", 3)
        address, piece, scratch = code.arguments
        job = read_words(code, address, PREPARE)
        first = job["first"] + piece * job["rows_per_piece"]
        with code.loop(first, code.minimum(first + job["rows_per_piece"], job["last"])) as row:
            index = row - job["first"]
            source = code.variable(row)
            with code.when(job["row_ids"].differs(0)):
                source.value = code.load(I32, job["row_ids"] + row * 4).to(I64)
            x = job["x"] + source.value * job["x_stride"]
            to = job["prepared"] + index * job["prepared_stride"]
            with code.loop(to, to + job["prepared_stride"], 64) as line:
                code.prefetch_to_write(line)
            if quantized:
                _quantize_row(code, _normed_or_itself(code, x, scratch, job), job, index, target)
            else:
                copy_normed(code, x, to, job["norm"], job["features"], BLOCK)
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


def _quantize_row(code: Code, x: Value, job: dict[str, Value], row: Value, target: Target) -> None:
    """row: its number among the prepared ones."""
    pairs, size = pairs_of(job["features"]), code.maximum(job["group"], 1)
    within = row % size
    group = job["prepared"] + (row - within) * job["prepared_stride"]
    digits, facts = group + within * PAIR, group + pairs * (2 * PAIR) * size
    scale = _scale_of(code, x, pairs)
    code.store(scale, facts + within * 4)
    inverse = code.select(scale > 0.0, 1.0 / scale, code.constant(FLOAT, 0.0))
    # Numbers so small that 1 / scale overflows count as zero.
    inverses = code.splat(code.select(inverse < 1e38, inverse, code.constant(FLOAT, 0.0)), 16)

    def numbers_at(pair: Value, half: int) -> list[Value]:
        """32 of the row's integers."""
        place = x + (pair * (PAIR * 4) + 128 * half)
        found = [code.round(code.load(FLOATS16, place + 64 * i) * inverses).to(INTS16) for i in (0, 1)]
        return [code.maximum(code.minimum(number, int(LARGEST)), -int(LARGEST)) for number in found]

    with code.either(job["group"].equals(WORDS)) as (words, bytes_):
        with words, code.loop(0, pairs) as pair:
            _put_words(code, numbers_at(pair, 0) + numbers_at(pair, 1), pair, pairs, digits, target)
        with bytes_, code.loop(0, pairs) as pair:
            place = digits + pair * (2 * PAIR) * size
            for half in (0, 1):
                numbers = numbers_at(pair, half)
                _put_digits(code, numbers, place + 32 * half, size * PAIR)
                with code.when(size.equals(1)):
                    halves = [code.sum(number) for number in numbers]
                    sums = facts + (pair * 16 + (64 + 8 * half))
                    code.store((halves[0] + halves[1]).to(DOUBLE), sums)
                    for nth, total in enumerate(halves):
                        code.store(total, sums + (pairs * 16 + 4 * nth))


def _scale_of(code: Code, x: Value, pairs: Value) -> Value:
    """What one step is worth."""
    peaks = [code.variable(code.constant(FLOATS16, 0.0)) for _ in range(PAIR // 16)]
    with code.loop(0, pairs) as pair:
        for part, peak in enumerate(peaks):
            values = code.load(FLOATS16, x + (pair * (PAIR * 4) + 64 * part))
            peak.value = code.maximum(peak.value, code.absolute(values))
    both = [code.maximum(peaks[i].value, peaks[i + 1].value) for i in (0, 2)]
    return code.reduce(code.maximum(*both), code.maximum) * (1.0 / LARGEST)


def _put_digits(code: Code, numbers: list[Value], place: Value, low: Value) -> None:
    """The high digits at a place, the low ones `low` bytes behind them."""
    for part, number in enumerate(numbers):
        high = (number + 128) >> 8
        code.store(high.to(BYTES16), place + 16 * part)
        code.store((number - (high << 8)).to(BYTES16), place + low + 16 * part)


def is_paired(vector: int) -> bool:
    """Whether inputs that stand in the words of this vector, and of the other one of the same four inputs, are
    multiplied in pairs (`products/many.py`): half of them are."""
    return vector // 2 % 2 == 1


def _put_words(code: Code, numbers: list[Value], pair: Value, pairs: Value, row: Value, target: Target) -> None:
    """64 numbers, the digits of their sums, and what their dot products start with."""
    order = [at + step for at in range(0, 16, 4) for step in (0, 2, 1, 3)]
    words = []
    for part, number in enumerate(numbers):
        short = number.to(vector(I16, 16))
        words.append(code.shuffle(short, short, order))
        code.store(words[-1], row + (pair * (2 * PAIR) + 32 * part))
    sums = row + pairs * (2 * PAIR) + 64
    of_16 = _four_sums(code, numbers)
    of_32 = code.shuffle(of_16, of_16, (0, 2)) + code.shuffle(of_16, of_16, (1, 3))
    for totals, lanes, place in (
        (of_32, (0, 1, 2, 3), pair * 8),
        (of_16, (0, 1, 4, 5, 2, 3, 6, 7), pairs * 8 + pair * 16),
    ):
        high = (totals + (1 << DIGIT_BITS - 1)) >> DIGIT_BITS
        low, high = (digit.to(vector(I16, digit.type.count)) for digit in (totals - (high << DIGIT_BITS), high))
        code.store(code.shuffle(low, high, lanes), sums + place)
    if target.adds_beside:
        dots = _paired_dots(code, words, target)
        half = code.constant(dots.type, 1 << 15)
        code.store(half - dots, sums + pairs * 32 + pair * 16)
        both = code.shuffle(dots, dots, (0, 2)) + code.shuffle(dots, dots, (1, 3))
        code.store(code.constant(both.type, 1 << 15) - both, sums + pairs * 24 + pair * 8)


def _four_sums(code: Code, numbers: list[Value]) -> Value:
    """Of 16 integers each: halves of two are added at once, so that one vector is left."""
    size = 8
    while len(numbers) > 1:
        lower = [i for i in range(32) if i // size % 2 == 0]
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        upper = [i + size for i in lower]
        numbers = [code.shuffle(a, b, lower) + code.shuffle(a, b, upper) for a, b in pairs]
        size //= 2
    quarters = numbers[0]
    halves = [code.shuffle(quarters, quarters, [i for i in range(16) if i % 4 // 2 == which]) for which in (0, 1)]
    both = halves[0] + halves[1]
    return code.shuffle(both, both, range(0, 8, 2)) + code.shuffle(both, both, range(1, 8, 2))


def _paired_dots(code: Code, words: list[Value], target: Target) -> Value:
    """The products of each 16 numbers with each other, of those that are multiplied in pairs."""
    products = []
    for low, high in (words[:2], words[2:]):
        pairs = code.shuffle(low, high, range(32)).bits(INTS16)
        turned = code.shuffle(pairs, pairs, [i ^ 1 for i in range(16)])
        products.append(target.dot_words(code, code.constant(INTS16, 0), pairs, turned))
    lanes = [lane for lane in range(0, 8, 2) if is_paired(lane)]
    first, second = products
    parts = [code.shuffle(first, second, [8 * part + lane for part in range(4)]) for lane in lanes]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


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
