"""The KV dtype int16: integers of 16 bits with a scale for each token and head, as two planes of bytes.

A number is `scale * n`, |n| <= 32767. Sixteen tokens of one head make a *cell*, for keys in the order in which the dot
product of bytes sums dimensions, for values in the order in which it sums tokens:

    keys     high bytes [head_dim / 4][16 tokens][4 dimensions], low bytes the same, 16 scales
    values   high bytes [4][head_dim][4 tokens],                 low bytes the same, 16 scales

A plane of keys for a head_dim of 64 is one tile of the matrix unit. Where the machine multiplies unsigned by signed
bytes (x86), a byte of the high plane has 128 added; where it multiplies signed ones (NEON), a byte of the low plane has
128 taken off. Blocks that are no multiple of 16 tokens hold *records* (high bytes, low bytes and scale of one token),
which attention puts together to cells before it reads them: the same numbers, at some cost.
"""

from __future__ import annotations

import math

from stemma.kernels.cpu.machine.dialect import FLOAT, I8, I32, Code, Value, vector

TOKENS = 16
LARGEST = 32767
LARGEST_SIGNED = 127 * 256
"""Numbers on the other side of a product are two *signed* bytes: n = 256 * high + low, |high| <= 127."""


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


def quantize(
    code: Code, source: Value, head_dim: int, largest: int, high_at: Value, low_at: Value, stored_offset: int | None
) -> tuple[Value, Value]:
    """Two bytes for each float at `source`; returns the scale and sums of the integers.

    stored_offset: of the KV, the target's `byte_offset`; None: two signed bytes.
    """
    lanes = math.gcd(head_dim, 16)
    floats, ints, bytes_ = vector(FLOAT, lanes), vector(I32, lanes), vector(I8, lanes)
    values = [code.load(floats, source + d * 4) for d in range(0, head_dim, lanes)]
    peak = code.constant(floats, 0.0)
    for value in values:
        peak = code.maximum(code.absolute(value), peak)
    scale = code.reduce(peak, code.maximum) * (1.0 / largest)
    inverse = code.splat(code.select(scale > 1e-37, 1.0 / scale, code.constant(FLOAT, 0.0)), lanes)
    total = code.constant(ints, 0)
    for index, value in enumerate(values):
        number = code.maximum(code.minimum(code.round(value * inverse).to(ints), largest), -largest)
        total = total + number
        high, low = (number + 128) >> 8, number
        if stored_offset is not None:
            high = (number >> 8) ^ (128 if stored_offset else 0)
            low = number ^ (0 if stored_offset else 128)
        code.store(high.to(bytes_), high_at + index * lanes)
        code.store(low.to(bytes_), low_at + index * lanes)
    return scale, total


def write_record(code: Code, source: Value, head_dim: int, record: Value, stored_offset: int) -> None:
    """One token's keys, or values, at `source` as floats, to a record. What pads it is zeros, nobody's bytes."""
    width = padded(head_dim)
    scale, _ = quantize(code, source, head_dim, LARGEST, record, record + width, stored_offset)
    for place in range(head_dim, width):
        for plane in (record, record + width):
            code.store(code.constant(I8, 0), plane + place)
    code.store(scale, record + 2 * width)


def put_key(code: Code, record: Value, head_dim: int, cell: Value, lane: Value) -> None:
    """A record's keys to a token's place in a cell."""
    width = padded(head_dim)
    for plane in range(2):
        source, target = record + plane * width, cell + plane * plane_bytes(head_dim) + lane * 4
        for d in range(0, width, 4):
            code.store(code.load(I32, source + d), target + d * TOKENS)
    _put_scale(code, record, head_dim, cell, lane)


def put_value(code: Code, record: Value, head_dim: int, cell: Value, lane: Value) -> None:
    """A record's values to a token's place in a cell."""
    width = padded(head_dim)
    inside = lane.unsigned_divide(4) * (4 * width) + lane.unsigned_modulo(4)
    with code.loop(0, 2 * plane_bytes(head_dim), plane_bytes(head_dim)) as plane:
        source, target = record + plane.unsigned_divide(TOKENS), cell + plane + inside
        for d in range(head_dim):
            code.store(code.load(I8, source + d), target + 4 * d)
    _put_scale(code, record, head_dim, cell, lane)


def _put_scale(code: Code, record: Value, head_dim: int, cell: Value, lane: Value) -> None:
    scale = code.load(FLOAT, record + 2 * padded(head_dim))
    code.store(scale, cell + 2 * plane_bytes(head_dim) + lane * 4)


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
