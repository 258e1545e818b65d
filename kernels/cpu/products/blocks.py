"""Blocks as files store them, read by compiled code: the codes and facts that `kernels/codes.py` says they are, bit for
bit. Formats with a code book, and rare ones, have no reader here: numpy reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from stemma.kernels.cpu.machine.dialect import BYTES16, FLOAT, HALF, I8, I16, I32, I64, Code, Value, vector

BYTES32, EIGHT_BYTES = vector(I8, 32), vector(I8, 8)
SIX_BITS, FOUR_BITS, UPPER_TWO = (0x01010101 * mask for mask in (0x3F, 0x0F, 0x30))


class Block(NamedTuple):
    """A block in the generated program. codes: vectors of 32 bytes. scales, minima: vectors of floats, one a group."""

    codes: list[Value]
    scales: Value
    minima: Value | None = None


Read = Callable[[Code, Value], Block]
"""Writes what reads the block at an address."""


def _half(code: Code, place: Value, lanes: int = 1) -> Value:
    """A float16 in all lanes."""
    return code.splat(code.load(HALF, place).to(FLOAT), lanes)


def _integers(code: Code, place: Value, lanes: int) -> Value:
    """Unsigned bytes as integers."""
    return code.load(vector(I8, lanes), place).widen_unsigned(vector(I32, lanes))


def _floats(integers: Value) -> Value:
    return integers.to(vector(FLOAT, integers.type.count))


def _joined(code: Code, low: Value, high: Value) -> Value:
    return code.shuffle(low, high, range(2 * low.type.count))


def _nibbles(code: Code, place: Value) -> Value:
    """16 bytes -> 32 codes: low halves, then high halves."""
    packed = code.load(BYTES16, place)
    return _joined(code, packed & 15, packed.unsigned_shift_right(4))


def _halves(packed: Value) -> list[Value]:
    return [packed & 15, packed.unsigned_shift_right(4)]


def _shifted(code: Code, word: Value, steps: Sequence[int]) -> Value:
    """An integer, in each lane moved down by so many bits."""
    return code.splat(word, len(steps)).unsigned_shift_right(code.constant(vector(I32, len(steps)), list(steps)))


def _two_bits(code: Code, place: Value) -> list[Value]:
    """64 bytes -> 8 vectors of codes: the lowest two bits of 32 bytes first."""
    packed = [code.load(BYTES32, place + 32 * half) for half in (0, 1)]
    return [each.unsigned_shift_right(step) & 3 for each in packed for step in (0, 2, 4, 6)]


def _fifth_bits(code: Code, place: Value) -> Value:
    """4 bytes: bit i belongs to input i."""
    word = code.splat(code.load(I32, place), 1).bits(vector(I8, 4))
    spread = code.shuffle(word, word, [lane // 8 for lane in range(32)])
    absent = (spread & code.constant(BYTES32, [1 << lane % 8 for lane in range(32)])).equals(0)
    return code.select(absent, 0, code.constant(BYTES32, 16))


def _small(codes_at: int, fifths_at: int | None = None, offset: int | None = None) -> Read:
    """A scale, a minimum or an offset or neither, perhaps fifth bits, then nibbles."""

    def read(code: Code, start: Value) -> Block:
        codes, scale = _nibbles(code, start + codes_at), _half(code, start)
        if fifths_at is not None:
            codes = codes | _fifth_bits(code, start + fifths_at)
        return Block([codes], scale, _half(code, start + 2) if offset is None else scale * -float(offset))

    return read


def _q8_0(code: Code, start: Value) -> Block:
    return Block([code.load(BYTES32, start + 2) ^ -128], _half(code, start))


def _super_facts(code: Code, start: Value) -> tuple[Value, Value]:
    """Q4_K and Q5_K: 8 scales and minima of 6 bits."""
    low, high, last = (code.load(I32, start + place) for place in (4, 8, 12))
    late_scales = (last & FOUR_BITS) | (low.unsigned_shift_right(2) & UPPER_TWO)
    late_minima = (last.unsigned_shift_right(4) & FOUR_BITS) | (high.unsigned_shift_right(2) & UPPER_TWO)
    scales, minima = (
        ((late.widen_unsigned(I64) << 32) | (early & SIX_BITS).widen_unsigned(I64)).bits(EIGHT_BYTES)
        for early, late in ((low, late_scales), (high, late_minima))
    )
    wide = vector(I32, 8)
    return (
        _half(code, start, 8) * _floats(scales.widen_unsigned(wide)),
        _half(code, start + 2, 8) * -1.0 * _floats(minima.widen_unsigned(wide)),
    )


def _q4_k(code: Code, start: Value) -> Block:
    packed = [code.load(BYTES32, start + (16 + 32 * i)) for i in range(4)]
    return Block([half for each in packed for half in _halves(each)], *_super_facts(code, start))


def _q5_k(code: Code, start: Value) -> Block:
    packed, fifths = [code.load(BYTES32, start + (48 + 32 * i)) for i in range(4)], code.load(BYTES32, start + 16)
    low = [half for each in packed for half in _halves(each)]
    codes = [each | ((fifths.unsigned_shift_right(i) & 1) << 4) for i, each in enumerate(low)]
    return Block(codes, *_super_facts(code, start))


def _q6_k(code: Code, start: Value) -> Block:
    packed = [code.load(BYTES32, start + 32 * i) for i in range(4)]
    low = [_halves(packed[2 * half + i])[nibble] for half in (0, 1) for nibble in (0, 1) for i in (0, 1)]
    codes = [one | (two << 4) for one, two in zip(low, _two_bits(code, start + 128), strict=True)]
    scales = code.load(BYTES16, start + 192).to(vector(I32, 16))
    return Block(codes, _half(code, start + 208, 16) * _floats(scales))


def _q2_k(code: Code, start: Value) -> Block:
    facts = _integers(code, start, 16)
    scales, minima = _floats(facts & 15), _floats(facts >> 4)
    codes = _two_bits(code, start + 16)
    return Block(codes, _half(code, start + 80, 16) * scales, _half(code, start + 82, 16) * -1.0 * minima)


def _q3_k(code: Code, start: Value) -> Block:
    third = code.load(BYTES32, start)
    low = _two_bits(code, start + 32)
    codes = [each | ((third.unsigned_shift_right(i) & 1) << 2) for i, each in enumerate(low)]
    packed, pairs = _integers(code, start + 96, 8), _integers(code, start + 104, 4)
    nibbles = _joined(code, packed & 15, packed >> 4)
    steps = code.constant(vector(I32, 16), [2 * (lane // 4) for lane in range(16)])
    upper = code.shuffle(pairs, pairs, [lane % 4 for lane in range(16)]).unsigned_shift_right(steps) & 3
    return Block(codes, _half(code, start + 108, 16) * _floats((nibbles | (upper << 4)) - 32))


def _tq2_0(code: Code, start: Value) -> Block:
    scale = _half(code, start + 64, 8)
    return Block(_two_bits(code, start), scale, scale * -1.0)


def _iq4_nl(code: Code, start: Value) -> Block:
    return Block([_nibbles(code, start + 2)], _half(code, start))


def _iq4_xs(code: Code, start: Value) -> Block:
    high = _shifted(code, code.load(I16, start + 2).widen_unsigned(I32), range(0, 16, 2)) & 3
    low = _shifted(code, code.load(I32, start + 4), range(0, 32, 4)) & 15
    codes = [_nibbles(code, start + (8 + 16 * i)) for i in range(8)]
    return Block(codes, _half(code, start, 8) * _floats((low | (high << 4)) - 32))


def _mxfp4(code: Code, start: Value) -> Block:
    exponent = _integers(code, start, 1)
    tiny = code.constant(exponent.type, 0x0020_0000) << exponent
    scale = code.select(exponent < 2, tiny, (exponent - 1) << 23)
    return Block([_nibbles(code, start + 1)], scale.bits(vector(FLOAT, 1)))


def _nvfp4(code: Code, start: Value) -> Block:
    """Scales have 4 bits of exponent and 3 of fraction; the power of two of each is put together from its bits."""
    stored = _integers(code, start, 4)
    exponent, fraction = (stored >> 3) & 15, stored & 7
    is_tiny = exponent.equals(0)
    size = _floats(code.select(is_tiny, fraction, fraction + 8))
    power = code.select(is_tiny, 117, exponent + 116) << 23
    scales = code.select(stored.equals(0x7F), 0.0, size * power.bits(vector(FLOAT, 4)))
    packed = [code.load(EIGHT_BYTES, start + (4 + 8 * i)) for i in range(4)]
    groups = [_joined(code, *_halves(each)) for each in packed]
    return Block([_joined(code, groups[i], groups[i + 1]) for i in (0, 2)], scales)


def _int4(code: Code, start: Value) -> Block:
    facts = (code.broadcast(FLOAT, start + place, 1) for place in (0, 4))
    return Block([_nibbles(code, start + 8)], *facts)


def _int8(code: Code, start: Value) -> Block:
    return Block([code.load(BYTES32, start + 4) ^ -128], code.broadcast(FLOAT, start, 1))


BLOCKS: Mapping[str, Read] = MappingProxyType(
    {
        "Q4_0": _small(2, offset=8), "Q4_1": _small(4), "Q5_0": _small(6, 2, offset=16), "Q5_1": _small(8, 4),
        "Q8_0": _q8_0, "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "TQ2_0": _tq2_0,
        "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4, "NVFP4": _nvfp4, "INT4": _int4, "INT8": _int8,
    }
)  # fmt: skip
