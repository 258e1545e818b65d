"""Rows of an embedding table, read as they are stored: a kernel for each common type, for the others `dequantize`.

Values are the same bits as those of `dequantize`: the operations are those of `gguf.quants`, in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.codes import TABLES
from stemma.kernels.cpu.machine.dialect import (
    BYTES16,
    FLOAT,
    FLOATS16,
    HALF,
    I8,
    I16,
    I32,
    I64,
    INTS16,
    Code,
    Value,
    vector,
)
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.ops import Int32Array
from stemma.kernels.weights import FORMATS, StoredWeight, dequantize

ROWS = ("first", "second", "out", "width", "scale")
"""What a kernel on rows is told; scale is a float."""
FLOAT_BYTES: Mapping[str, int] = MappingProxyType({"F32": 4, "F16": 2, "BF16": 2})
Emit = Callable[[Code, Value, Value], list[Value]]
"""Writes what reads 32 values, two vectors: of a block that begins at an address, the nth 32 of it."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuEmbedding:
    """A table that stays as it is stored. kernel: 0 for tables that `dequantize` must read. scale: of its rows."""

    weight: StoredWeight
    kernel: int
    address: int
    row_bytes: int
    scale: float

    def rows(self, ids: Int32Array) -> npt.NDArray[np.float32]:
        """The slow way, for every type."""
        rows = StoredWeight(self.weight.type, (len(ids), *self.weight.shape[1:]), self.weight.data[ids])
        return dequantize(rows) * np.float32(self.scale)


def embedding(weight: StoredWeight, kernel_of: Callable[[str], int], scale: float) -> CpuEmbedding:
    """Wrap a table. Rows that compiled code reads must be contiguous and whole vectors long."""
    readable = weight.type in READERS and weight.shape[1] % 32 == 0 and weight.data.flags.c_contiguous
    kernel = kernel_of(weight.type) if readable else 0
    return CpuEmbedding(weight, kernel, weight.data.ctypes.data, weight.data.strides[0], scale)


def add_embed(module: ir.Module, type_: str) -> None:
    """embed_<type>. first: the table; second: ids; out: float rows; width: values of a row, a multiple of 32; scale: of
    all."""
    code = Code(module, f"embed_{type_}", 3)
    address, row, _ = code.arguments
    job = read_words(code, address, ROWS)
    inputs, size = (32, 32 * FLOAT_BYTES[type_]) if type_ in FLOAT_BYTES else FORMATS[type_][:2]
    blocks = job["width"] // inputs
    source = job["first"] + code.load(I32, job["second"] + row * 4).to(I64) * (blocks * size)
    out = job["out"] + row * job["width"] * 4
    scale = code.splat(job["scale"].to(I32).bits(FLOAT), 16)
    with code.loop(0, blocks) as block, code.loop(0, inputs // 32) as nth:
        for half, values in enumerate(READERS[type_](code, source + block * size, nth)):
            code.store(values * scale, out + (block * (inputs * 4) + nth * 128 + 64 * half))
    code.finish()


def _floats(type_: str) -> Emit:
    def read(code: Code, start: Value, nth: Value) -> list[Value]:
        places = [start + 16 * half * FLOAT_BYTES[type_] for half in (0, 1)]
        if type_ == "BF16":
            return [(code.load(vector(I16, 16), p).widen_unsigned(INTS16) << 16).bits(FLOATS16) for p in places]
        return [code.load(vector(FLOAT if type_ == "F32" else HALF, 16), p).to(FLOATS16) for p in places]

    return read


def _half(code: Code, place: Value) -> Value:
    return code.broadcast(HALF, place, 16).to(FLOATS16)


def _bytes(code: Code, place: Value) -> Value:
    """16 unsigned bytes as integers."""
    return code.load(BYTES16, place).widen_unsigned(INTS16)


def _byte(code: Code, place: Value) -> Value:
    return code.load(I8, place).widen_unsigned(I32)


def _spread(code: Code, number: Value) -> Value:
    """One integer as 16 floats."""
    return code.splat(number, 16).to(FLOATS16)


def _nibbles(code: Code, place: Value) -> list[Value]:
    packed = _bytes(code, place)
    return [packed & 15, packed >> 4]


def _q8_0(code: Code, start: Value, nth: Value) -> list[Value]:
    scale = _half(code, start)
    return [code.load(BYTES16, start + (2 + 16 * half)).to(INTS16).to(FLOATS16) * scale for half in (0, 1)]


def _small(offset: int, fifth_bit: bool, minimum: bool) -> Emit:
    """Q4_0, Q4_1, Q5_0, Q5_1: a scale, perhaps a minimum, perhaps fifth bits, then nibbles."""

    def read(code: Code, start: Value, nth: Value) -> list[Value]:
        scale, bits_at = _half(code, start), start + (4 if minimum else 2)
        codes = _nibbles(code, bits_at + (4 if fifth_bit else 0))
        if fifth_bit:
            bits = code.broadcast(I32, bits_at, 16)
            shifts = [code.constant(INTS16, list(range(first, first + 16))) for first in (0, 16)]
            fifths = [(bits.unsigned_shift_right(shift) & 1) << 4 for shift in shifts]
            codes = [low | high for low, high in zip(codes, fifths, strict=True)]
        if minimum:
            lowest = _half(code, start + 2)
            return [number.to(FLOATS16) * scale + lowest for number in codes]
        return [(number - offset).to(FLOATS16) * scale for number in codes]

    return read


def _table(code: Code, type_: str, places: list[Value]) -> list[Value]:
    """What places in the format's table stand for."""
    found = [code.constant(FLOATS16, float(TABLES[type_][0]))] * len(places)
    for place, number in enumerate(TABLES[type_][1:], 1):
        numbers = code.constant(FLOATS16, float(number))
        found = [code.select(p.equals(place), numbers, f) for p, f in zip(places, found, strict=True)]
    return found


def _iq4_nl(code: Code, start: Value, nth: Value) -> list[Value]:
    scale = _half(code, start)
    return [scale * number for number in _table(code, "IQ4_NL", _nibbles(code, start + 2))]


def _iq4_xs(code: Code, start: Value, nth: Value) -> list[Value]:
    place = nth.to(I32)
    high = code.load(I16, start + 2).widen_unsigned(I32).unsigned_shift_right(place * 2) & 3
    low = _byte(code, start + 4 + (nth >> 1)).unsigned_shift_right((place & 1) * 4) & 15
    scale = _half(code, start) * _spread(code, (low | (high << 4)) - 32)
    return [scale * number for number in _table(code, "IQ4_XS", _nibbles(code, start + 8 + nth * 16))]


def _mxfp4(code: Code, start: Value, nth: Value) -> list[Value]:
    exponent = code.splat(_byte(code, start), 16)
    tiny = code.select(exponent.equals(0), code.constant(INTS16, 0x0020_0000), code.constant(INTS16, 0x0040_0000))
    scale = code.select(exponent < 2, tiny, (exponent - 1) << 23).bits(FLOATS16)
    return [scale * number for number in _table(code, "MXFP4", _nibbles(code, start + 1))]


def _super_facts(code: Code, start: Value, nth: Value) -> tuple[Value, Value]:
    """Scale and minimum of the nth 32 of a block of Q4_K or Q5_K, from its 12 bytes of 6 bits each."""
    scales, place = start + 4, nth & 3
    low, high = _byte(code, scales + place), _byte(code, scales + 4 + place)
    last = _byte(code, scales + 8 + place)
    late = nth >= 4
    scale = code.select(late, (last & 15) | ((low >> 6) << 4), low & 63)
    minimum = code.select(late, (last >> 4) | ((high >> 6) << 4), high & 63)
    return _half(code, start) * _spread(code, scale), _half(code, start + 2) * _spread(code, minimum)


def _either_nibble(code: Code, place: Value, nth: Value) -> list[Value]:
    """32 bytes whose low halves are an even 32 of inputs, and the high ones the next."""
    shift = code.splat((nth & 1).to(I32) * 4, 16)
    return [_bytes(code, place + (nth >> 1) * 32 + 16 * half).unsigned_shift_right(shift) & 15 for half in (0, 1)]


def _bit_of(code: Code, place: Value, nth: Value) -> list[Value]:
    """Bit nth of 32 bytes."""
    shift = code.splat(nth.to(I32), 16)
    return [_bytes(code, place + 16 * half).unsigned_shift_right(shift) & 1 for half in (0, 1)]


def _pair_of(code: Code, place: Value, nth: Value) -> list[Value]:
    """Two bits of each of 32 bytes: 128 inputs lie in 32 bytes, the first 32 of them lowest."""
    shift = code.splat((nth & 3).to(I32) * 2, 16)
    return [_bytes(code, place + (nth >> 2) * 32 + 16 * half).unsigned_shift_right(shift) & 3 for half in (0, 1)]


def _q4_k(code: Code, start: Value, nth: Value) -> list[Value]:
    scale, minimum = _super_facts(code, start, nth)
    return [scale * number.to(FLOATS16) - minimum for number in _either_nibble(code, start + 16, nth)]


def _q5_k(code: Code, start: Value, nth: Value) -> list[Value]:
    scale, minimum = _super_facts(code, start, nth)
    both = zip(_either_nibble(code, start + 48, nth), _bit_of(code, start + 16, nth), strict=True)
    return [scale * (low | (high << 4)).to(FLOATS16) - minimum for low, high in both]


def _q6_k(code: Code, start: Value, nth: Value) -> list[Value]:
    within, shift = nth & 3, code.splat((nth & 2).to(I32) * 2, 16)
    place = start + (nth >> 2) * 64 + (within & 1) * 32
    low = [_bytes(code, place + 16 * half).unsigned_shift_right(shift) & 15 for half in (0, 1)]
    high, scale = _pair_of(code, start + 128, nth), _half(code, start + 208)
    values = []
    for half in (0, 1):
        size = code.load(I8, start + 192 + nth * 2 + half).to(I32)
        values.append(scale * _spread(code, size) * ((low[half] | (high[half] << 4)) - 32).to(FLOATS16))
    return values


def _q2_k(code: Code, start: Value, nth: Value) -> list[Value]:
    scale, minimum = _half(code, start + 80), _half(code, start + 82)
    values = []
    for half, number in enumerate(_pair_of(code, start + 16, nth)):
        facts = _byte(code, start + nth * 2 + half)
        lowest = minimum * _spread(code, facts >> 4)
        values.append(scale * _spread(code, facts & 15) * number.to(FLOATS16) - lowest)
    return values


def _q3_k(code: Code, start: Value, nth: Value) -> list[Value]:
    scale, values = _half(code, start + 108), []
    both = zip(_pair_of(code, start + 32, nth), _bit_of(code, start, nth), strict=True)
    for half, (low, high) in enumerate(both):
        group = nth * 2 + half
        packed = _byte(code, start + 96 + (group & 7)).unsigned_shift_right((group >> 3).to(I32) * 4) & 15
        pair = _byte(code, start + 104 + (group & 3)).unsigned_shift_right((group >> 2).to(I32) * 2) & 3
        size = scale * _spread(code, (packed | (pair << 4)) - 32)
        values.append(size * ((low | (high << 2)) - 4).to(FLOATS16))
    return values


READERS: Mapping[str, Emit] = MappingProxyType(
    {
        "F32": _floats("F32"), "F16": _floats("F16"), "BF16": _floats("BF16"), "Q8_0": _q8_0,
        "Q4_0": _small(8, False, False), "Q4_1": _small(0, False, True), "Q5_0": _small(16, True, False),
        "Q5_1": _small(0, True, True), "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
        "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4,
    }
)  # fmt: skip
"""Storage types whose rows are read by compiled code."""
