"""The integers that quantised weights are, whatever the file calls their format: along a row, groups of 16 or 32 inputs
share a scale, and perhaps a minimum.

    weight = scale * (code - offset) + minimum      or, where a format has a table,      weight = scale * table[code]

Every block format but FP8 is one of these forms, exactly. A back end packs forms and knows no format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.kernels.weights import FORMATS, SMALLEST_FLOATS, StoredWeight, dequantize, iq1_m_scales

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Form:
    """How codes mean weights.

    bits: of a code. group: inputs that share a scale. has_minima, offset: as above. has_table: of 16 signed bytes.
    """

    name: str
    bits: int
    group: int
    has_minima: bool = False
    offset: int = 0
    has_table: bool = False


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        form.name: form
        for form in (
            Form("q2", 2, 32, has_minima=True),
            Form("q2x16", 2, 16, has_minima=True),
            Form("q3x16", 3, 16, offset=4),
            Form("q4", 4, 32, has_minima=True),
            Form("q5", 5, 32, has_minima=True),
            Form("q6x16", 6, 16, offset=32),
            Form("q8", 8, 32, offset=128),
            Form("t4", 4, 32, has_table=True),
            Form("t4x16", 4, 16, has_table=True),
        )
    }
)
FORM_OF: Mapping[str, Form] = MappingProxyType(
    {
        type_: FORMS[name]
        for name, types in {
            "q2": "Q1_0 TQ1_0 TQ2_0", "q2x16": "Q2_K", "q3x16": "Q3_K", "q4": "Q4_0 Q4_1 Q4_K INT4",
            "q5": "Q5_0 Q5_1 Q5_K",
            "q6x16": "Q6_K", "q8": "Q8_0 INT8", "t4": "IQ4_NL IQ4_XS MXFP4 IQ3_XXS IQ3_S IQ2_XXS IQ1_S",
            "t4x16": "NVFP4 FP4 IQ2_XS IQ2_S IQ1_M",
        }.items()
        for type_ in types.split()
    }
)  # fmt: skip
"""The form of each block format."""

LEVELS = tuple(int(2 * number) for number in SMALLEST_FLOATS)
NONLINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def _both_signs(*sizes: int) -> tuple[int, ...]:
    """The numbers in ascending order, filled up to 16."""
    return tuple(sorted({sign * size for size in sizes for sign in (-1, 1)})) + (0,) * (16 - 2 * len(sizes))


TABLES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "IQ4_NL": NONLINEAR, "IQ4_XS": NONLINEAR,
        "MXFP4": (*LEVELS, *(-level for level in LEVELS)), "NVFP4": (*LEVELS, *(-level for level in LEVELS)),
        "FP4": (*LEVELS, *(-level for level in LEVELS)),
        "IQ3_XXS": _both_signs(4, 12, 20, 28, 36, 44, 52, 62), "IQ3_S": _both_signs(1, 3, 5, 7, 9, 11, 13, 15),
        "IQ2_XXS": _both_signs(8, 25, 43), "IQ2_XS": _both_signs(8, 25, 43), "IQ2_S": _both_signs(8, 25, 43),
        "IQ1_S": _both_signs(1, 7, 9), "IQ1_M": _both_signs(1, 7, 9),
    }
)  # fmt: skip


class Codes(NamedTuple):
    """A matrix in its form. codes: (rows, width) uint8. scales, minima: (rows, width / group) float32."""

    codes: npt.NDArray[np.uint8]
    scales: Floats
    minima: Floats | None


def table_of(type_: str) -> npt.NDArray[np.int8] | None:
    """What the codes of this format stand for, where they are places in a table."""
    return np.array(TABLES[type_], dtype=np.int8) if type_ in TABLES else None


def codes_of(weight: StoredWeight) -> Codes:
    """The codes of a matrix in one of the block formats; values stay what they are."""
    rows, width = weight.shape
    size = FORMATS[weight.type].num_bytes
    blocks = np.ascontiguousarray(weight.data).view(np.uint8).reshape(-1, size)
    if weight.type in READERS:
        codes, scales, minima = READERS[weight.type](blocks)
    else:
        scales, minima = CODEBOOK_SCALES[weight.type](blocks), None
        codes = _places(weight, scales)
    group = FORM_OF[weight.type].group
    return Codes(
        codes.reshape(rows, width),
        np.ascontiguousarray(scales, dtype=np.float32).reshape(rows, width // group),
        None if minima is None else np.ascontiguousarray(minima, dtype=np.float32).reshape(rows, width // group),
    )


def _half(blocks: Array, place: int) -> Floats:
    """The float16 that stands at a place of each block: (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, place : place + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Array) -> Array:
    """(..., n) bytes -> (..., 2n): low halves, then high halves."""
    size = packed.shape[-1]
    halves = np.empty((*packed.shape[:-1], 2 * size), dtype=np.uint8)
    np.bitwise_and(packed, 15, out=halves[..., :size])
    np.right_shift(packed, 4, out=halves[..., size:])
    return halves


Read = tuple[Array, Array, Array | None]


def _q4_0(blocks: Array) -> Read:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 2:]), scale, scale * -8


def _q4_1(blocks: Array) -> Read:
    return _nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2)


def _fifth_bits(packed: Array) -> Array:
    """4 bytes a block: bit i belongs to input i."""
    return np.unpackbits(packed, axis=-1, bitorder="little") << 4


def _q5_0(blocks: Array) -> Read:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6]), scale, scale * -16


def _q5_1(blocks: Array) -> Read:
    return _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: Array) -> Read:
    return blocks[:, 2:] ^ 128, _half(blocks, 0), None


SIX_BITS, FOUR_BITS, UPPER_TWO = (np.uint32(0x01010101 * mask) for mask in (0x3F, 0x0F, 0x30))


def _super_facts(blocks: Array) -> tuple[Array, Array]:
    """Q4_K and Q5_K: 8 scales and minima of 6 bits (ggml-common.h, block_q4_K)."""
    low, high, last = np.ascontiguousarray(blocks[:, 4:16]).view("<u4").T  # four numbers of 8 bits in each
    facts = np.empty((len(blocks), 4), dtype="<u4")
    facts[:, 0], facts[:, 2] = low & SIX_BITS, high & SIX_BITS
    facts[:, 1] = (last & FOUR_BITS) | ((low >> 2) & UPPER_TWO)
    facts[:, 3] = ((last >> 4) & FOUR_BITS) | ((high >> 2) & UPPER_TWO)
    scales, minima = np.split(facts.view(np.uint8), 2, axis=-1)
    return _half(blocks, 0) * scales, -_half(blocks, 2) * minima


def _q4_k(blocks: Array) -> Read:
    return (_nibbles(blocks[:, 16:].reshape(len(blocks), 4, 32)), *_super_facts(blocks))


def _q5_k(blocks: Array) -> Read:
    low = _nibbles(blocks[:, 48:].reshape(len(blocks), 4, 32)).reshape(len(blocks), 8, 32)
    high = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    return (low | (high << 4), *_super_facts(blocks))


def _two_bits(packed: Array) -> Array:
    """(blocks, n, 32) bytes -> (blocks, n, 4, 32): the lowest two bits first."""
    return (packed[:, :, None, :] >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]) & 3


def _q6_k(blocks: Array) -> Read:
    low = _nibbles(blocks[:, :128].reshape(len(blocks), 2, 64)).reshape(len(blocks), 2, 4, 32)
    high = _two_bits(blocks[:, 128:192].reshape(len(blocks), 2, 32))
    return low | (high << 4), _half(blocks, 208) * blocks[:, 192:208].view(np.int8), None


def _q2_k(blocks: Array) -> Read:
    codes, facts = _two_bits(blocks[:, 16:80].reshape(len(blocks), 2, 32)), blocks[:, :16]
    return codes, _half(blocks, 80) * (facts & 15), -_half(blocks, 82) * (facts >> 4)


def _q3_k(blocks: Array) -> Read:
    low = _two_bits(blocks[:, 32:96].reshape(len(blocks), 2, 32)).reshape(len(blocks), 8, 32)
    high = (blocks[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    packed, pairs = blocks[:, 96:104], blocks[:, 104:108]
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    upper = ((pairs[:, None, :] >> shifts) & 3).reshape(len(blocks), 16)
    scales = (_nibbles(packed) | (upper << 4)).astype(np.int8) - np.int8(32)
    return low | (high << 2), _half(blocks, 108) * scales, None


def _tq1_0(blocks: Array) -> Read:
    """Five ternary digits a byte, the highest first, as a fraction of 256; 32 x 5, 16 x 5, then 4 x 4."""
    parts = []
    for first, last, digits in ((0, 32, 5), (32, 48, 5), (48, 52, 4)):
        powers = np.array([3**digit for digit in range(digits)], dtype=np.uint8)[:, None]
        parts.append((blocks[:, None, first:last] * powers).reshape(len(blocks), -1))
    codes = ((np.concatenate(parts, axis=-1).astype(np.uint16) * 3) >> 8).astype(np.uint8)
    return (codes, *_ternary_facts(_half(blocks, 52)))


def _tq2_0(blocks: Array) -> Read:
    return (_two_bits(blocks[:, :64].reshape(len(blocks), 2, 32)), *_ternary_facts(_half(blocks, 64)))


def _ternary_facts(scale: Array) -> tuple[Array, Array]:
    return np.repeat(scale, 8, axis=-1), np.repeat(-scale, 8, axis=-1)


def _q1_0(blocks: Array) -> Read:
    scale = np.repeat(_half(blocks, 0), 4, axis=-1)
    return np.unpackbits(blocks[:, 2:], axis=-1, bitorder="little"), 2 * scale, -scale


def _iq4_nl(blocks: Array) -> Read:
    return _nibbles(blocks[:, 2:]), _half(blocks, 0), None


def _iq4_xs(blocks: Array) -> Read:
    high = np.ascontiguousarray(blocks[:, 2:4]).view(np.uint16) >> np.arange(0, 16, 2, dtype=np.uint16)
    low = np.stack((blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4), axis=-1).reshape(len(blocks), 8)
    scales = (low | ((high & 3).astype(np.uint8) << 4)).astype(np.int8) - np.int8(32)
    return _nibbles(blocks[:, 8:].reshape(len(blocks), 8, 16)), _half(blocks, 0) * scales, None


def _mxfp4(blocks: Array) -> Read:
    """A scale is a power of two, halved because the table holds numbers doubled; the lowest are denormal floats."""
    exponents = blocks[:, :1].astype(np.uint32)
    bits = np.where(exponents < 2, np.uint32(0x0020_0000) << exponents, (exponents - 1) << 23)
    return _nibbles(blocks[:, 1:]), bits.astype(np.uint32).view(np.float32), None


def _nvfp4(blocks: Array) -> Read:
    stored = blocks[:, :4]
    exponent, fraction = (stored >> 3).astype(np.int32) & 15, (stored & 7).astype(np.float32)
    scales = np.where(exponent == 0, np.ldexp(fraction, -10), np.ldexp(8 + fraction, exponent - 11))
    return _nibbles(blocks[:, 4:].reshape(len(blocks), 4, 8)), np.where(stored == 0x7F, 0, scales), None


def _int4(blocks: Array) -> Read:
    facts = np.ascontiguousarray(blocks[:, :8]).view(np.float32)
    return _nibbles(blocks[:, 8:]), facts[:, :1], facts[:, 1:]


def _fp4(blocks: Array) -> Read:
    scales = np.ascontiguousarray(blocks[:, :8]).view(np.float32) * np.float32(0.5)
    return _nibbles(blocks[:, 8:].reshape(len(blocks), 2, 8)), scales, None


def _int8(blocks: Array) -> Read:
    return blocks[:, 4:] ^ 128, np.ascontiguousarray(blocks[:, :4]).view(np.float32), None


READERS: Mapping[str, Callable[[Array], Read]] = MappingProxyType(
    {
        "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0, "Q2_K": _q2_k, "Q3_K": _q3_k,
        "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "TQ1_0": _tq1_0, "TQ2_0": _tq2_0, "Q1_0": _q1_0,
        "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4, "NVFP4": _nvfp4, "INT4": _int4, "INT8": _int8,
        "FP4": _fp4,
    }
)  # fmt: skip


# Formats with a code book: their scales; the codes are found from the values, which are whole numbers of these.
def _words(blocks: Array, first: int, last: int, kind: Any) -> Array:
    return np.ascontiguousarray(blocks[:, first:last]).view(kind)


def _halves_of(packed: Array) -> Array:
    """(blocks, n) bytes -> (blocks, 2n) numbers of four bits, side by side."""
    return np.stack((packed & 15, packed >> 4), axis=-1).reshape(len(packed), -1)


def _iq1_m(blocks: Array) -> Array:
    scales = _words(blocks, 48, 56, np.uint16)[:, :, None] >> np.array([0, 3, 6, 9], dtype=np.uint16)
    sizes = (2 * (scales & 7) + 1).reshape(len(blocks), 16)
    return iq1_m_scales(blocks).astype(np.float32) * sizes / 8


CODEBOOK_SCALES: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "IQ2_XXS": lambda b: _half(b, 0) * (0.5 + (_words(b, 2, 66, np.uint32)[:, 1::2] >> 28)) * 0.25,
        "IQ2_XS": lambda b: _half(b, 0) * (0.5 + _halves_of(b[:, 66:74])) * 0.25,
        "IQ2_S": lambda b: _half(b, 0) * (0.5 + _halves_of(b[:, 74:82])) * 0.25,
        "IQ3_XXS": lambda b: _half(b, 0) * (0.5 + (_words(b, 66, 98, np.uint32) >> 28)) * 0.5,
        "IQ3_S": lambda b: _half(b, 0) * (1 + 2 * _halves_of(b[:, 106:110])),
        "IQ1_S": lambda b: _half(b, 0) * (2 * ((_words(b, 34, 50, np.uint16) >> 12) & 7) + 1) / 8,
        "IQ1_M": _iq1_m,
    }
)


def _places(weight: StoredWeight, scales: Array) -> Array:
    """The place in the format's table of each value."""
    table = table_of(weight.type)
    assert table is not None
    place_of = np.zeros(256, dtype=np.uint8)
    place_of[table[::-1].view(np.uint8)] = np.arange(16, dtype=np.uint8)[::-1]
    values = dequantize(weight).reshape(-1, FORM_OF[weight.type].group)
    divisors = scales.astype(np.float32).reshape(-1, 1)
    whole = np.rint(values / np.where(divisors == 0, np.float32(1), divisors)).astype(np.int8)
    return place_of[whole.view(np.uint8)]
