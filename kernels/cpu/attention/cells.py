"""The KV dtype int16: integers of 16 bits with a scale for each token and head.

A number is `scale * n`, |n| <= 32767. Sixteen tokens of one head make a *cell*, for keys in the order in which dot
products sum dimensions, for values in the order in which they sum tokens. Where the machine multiplies words of 16 bits
(x86), a cell holds words; on the matrix unit, which multiplies bytes, and on NEON, two planes of bytes:

    words    keys     [head_dim / 2][16 tokens][2 dimensions], 16 scales
             values   [8][head_dim][2 tokens],                 16 scales
    bytes    keys     high bytes [head_dim / 4][16 tokens][4 dimensions], low bytes the same, 16 scales
             values   high bytes [4][head_dim][4 tokens],                 low bytes the same, 16 scales

A plane of keys for a head_dim of 64 is one tile of the matrix unit. Where the machine multiplies unsigned by signed
bytes (x86), a byte of the high plane has 128 added; where it multiplies signed ones (NEON), a byte of the low plane has
128 taken off. Blocks that are no multiple of 16 tokens hold *records* (numbers and scale of one token), which attention
puts together to cells before it reads them: the same numbers, at some cost.

Sums of products of words fit 32 bits for eight dimensions, a *run*, if the norms of both sides' runs are bounded
(Cauchy and Schwarz); so keys and queries are. That costs a tenth of a bit, and nothing where one dimension stands out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from stemma.kernels.cpu.machine.dialect import FLOAT, I8, I16, I32, Code, Value, vector
from stemma.kernels.cpu.machine.target import Target

TOKENS = 16
LARGEST = 32767
LARGEST_SIGNED = 127 * 256
"""Numbers on the other side of a product are two *signed* bytes: n = 256 * high + low, |high| <= 127."""
RUN_SIXTEENS = 4
"""A run is two neighbouring dimensions in each of so many sixteens that follow each other."""
LARGEST_NORM = 46320
"""Of a run: with what rounding adds to the norm of eight numbers, the square stays below 2^31."""


def padded(head_dim: int) -> int:
    return -(-head_dim // 16) * 16


def plane_bytes(head_dim: int) -> int:
    return TOKENS * padded(head_dim)


def cell_bytes(head_dim: int) -> int:
    return 2 * plane_bytes(head_dim) + 4 * TOKENS


def record_bytes(head_dim: int) -> int:
    return 2 * padded(head_dim) + 4


def in_cells(block_size: int) -> bool:
    """Whether a block of this size holds cells, not records."""
    return block_size % TOKENS == 0


def block_bytes(head_dim: int, block_size: int) -> int:
    """Keys, or values, of one block and head."""
    if in_cells(block_size):
        return block_size // TOKENS * cell_bytes(head_dim)
    return block_size * record_bytes(head_dim)


def layout_of(target: Target) -> Layout:
    return Layout(not target.is_arm and target.name != "amx", target.byte_offset)


class Layout(NamedTuple):
    """How a target's cells and records hold numbers: as words, or as planes of bytes with an offset."""

    words: bool
    byte_offset: int

    @property
    def name(self) -> str:
        """For snapshots."""
        return "words" if self.words else str(self.byte_offset)

    def write_record(self, code: Code, source: Value, head_dim: int, record: Value, *, keys: bool) -> None:
        """One token's keys, or values, at `source` as floats, to a record. What pads it is zeros, nobody's bytes."""
        width = padded(head_dim)
        scale, numbers = quantize(code, source, head_dim, LARGEST, multiplied=keys)
        if self.words:
            put_words(code, numbers, record)
        else:
            high_offset, low_offset = (128, 0) if self.byte_offset else (0, 128)
            put_bytes(code, [(number >> 8) ^ high_offset for number in numbers], record)
            put_bytes(code, [number ^ low_offset for number in numbers], record + width)
        for place in range(head_dim, width):
            for at in (2 * place, 2 * place + 1) if self.words else (place, place + width):
                code.store(code.constant(I8, 0), record + at)
        code.store(scale, record + 2 * width)

    def put_key(self, code: Code, record: Value, head_dim: int, cell: Value, lane: Value) -> None:
        """A record's keys to a token's place in a cell: four bytes by four."""
        for at in range(0, 2 * padded(head_dim), 4):
            code.store(code.load(I32, record + at), cell + at * TOKENS + lane * 4)
        _put_scale(code, record, head_dim, cell, lane)

    def put_value(self, code: Code, record: Value, head_dim: int, cell: Value, lane: Value) -> None:
        """A record's values to a token's place in a cell."""
        width = padded(head_dim)
        if self.words:
            inside = lane.unsigned_divide(2) * (4 * width) + lane.unsigned_modulo(2) * 2
            for d in range(head_dim):
                code.store(code.load(I16, record + 2 * d), cell + inside + 4 * d)
        else:
            inside = lane.unsigned_divide(4) * (4 * width) + lane.unsigned_modulo(4)
            with code.loop(0, 2 * plane_bytes(head_dim), plane_bytes(head_dim)) as plane:
                source, target = record + plane.unsigned_divide(TOKENS), cell + plane + inside
                for d in range(head_dim):
                    code.store(code.load(I8, source + d), target + 4 * d)
        _put_scale(code, record, head_dim, cell, lane)


def _put_scale(code: Code, record: Value, head_dim: int, cell: Value, lane: Value) -> None:
    scale = code.load(FLOAT, record + 2 * padded(head_dim))
    code.store(scale, cell + 2 * plane_bytes(head_dim) + lane * 4)


def quantize(code: Code, source: Value, head_dim: int, largest: int, *, multiplied: bool) -> tuple[Value, list[Value]]:
    """The scale and the integers, some to a vector, of one head's floats at `source`.

    multiplied: by another vector of such numbers: then the norm of every run is bounded too.
    """
    lanes = math.gcd(head_dim, 16)
    floats, ints = vector(FLOAT, lanes), vector(I32, lanes)
    values = [code.load(floats, source + d * 4) for d in range(0, head_dim, lanes)]
    peak = code.constant(floats, 0.0)
    for value in values:
        peak = code.maximum(code.absolute(value), peak)
    scale = code.reduce(peak, code.maximum) * (1.0 / largest)
    if multiplied:
        scale = code.maximum(code.sqrt(_largest_square(code, values)) * (1.0 / LARGEST_NORM), scale)
    inverse = code.splat(code.select(scale > 1e-37, 1.0 / scale, code.constant(FLOAT, 0.0)), lanes)
    numbers = [code.round(value * inverse).to(ints) for value in values]
    return scale, [code.maximum(code.minimum(number, largest), -largest) for number in numbers]


def _largest_square(code: Code, values: list[Value]) -> Value:
    """The largest sum of squares of a run: of two neighbours in each of four sixteens."""
    lanes = values[0].type.count
    sums: dict[tuple[int, int], Value] = {}
    for index, value in enumerate(values):
        sixteen, place = divmod(index * lanes, 16)
        key = sixteen // RUN_SIXTEENS, place // max(2, lanes)
        square = value * value
        sums[key] = sums[key] + square if key in sums else square
    largest = code.constant(values[0].type, 0.0)
    for total in sums.values():
        if lanes > 1:
            total = total + code.shuffle(total, total, [lane ^ 1 for lane in range(lanes)])
        largest = code.maximum(total, largest)
    return code.reduce(largest, code.maximum)


def put_words(code: Code, numbers: list[Value], target: Value) -> None:
    lanes = numbers[0].type.count
    for index, number in enumerate(numbers):
        code.store(number.to(vector(I16, lanes)), target + index * (2 * lanes))


def put_bytes(code: Code, numbers: list[Value], target: Value) -> None:
    lanes = numbers[0].type.count
    for index, number in enumerate(numbers):
        code.store(number.to(vector(I8, lanes)), target + index * lanes)


def correction(total: Value, stored_offset: int) -> Value:
    """What undoes the 128 in the stored bytes, from the sum of the integers on the other side."""
    return total * (-128 if stored_offset else 128)


def whole_product(high: Value, middle: Value, low: Value, correct: Value, stored_offset: int) -> Value:
    """floor(sum of n * m / 256) for 32-bit sums of products of bytes; exact for |result| < 2^31.

    n: KV; m: the other side; high, middle, low: sums of high * high, of high * low and low * high, of low * low bytes.
    correct: `correction` of m.
    """
    if stored_offset:
        return (high << 8) + middle + (low >> 8) + correct
    return (high << 8) + middle + ((low + correct) >> 8)
