"""Weights as a file stores them, and what they mean in fp32. Reading files is the business of runtime/model.

Block formats are those of GGUF (https://github.com/ggml-org/ggml, ggml-common.h); `gguf.quants` is the reference.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt


class UnsupportedWeight(ValueError):
    """The storage type of a weight is one that no back end can read."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """One tensor as it lies in its file, usually a memory map.

    type: GGUF's name of the storage type: F32, F16, BF16, or one of `FORMATS`.
    shape: the logical shape, `(out_features, in_features)` for a matrix, `(n,)` for a vector.
    data: float32 / float16 of that shape; uint16 bit patterns of that shape for BF16; else uint8 `(out_features,
        bytes of a row)`. Rows are independent: blocks run along `in_features`.
    ordered: read `packed`.
    """

    type: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.generic]
    ordered: Ordered | None = field(default=None, kw_only=True)

    @property
    def num_bytes(self) -> int:
        """Bytes as stored."""
        return self.data.nbytes

    def rows(self, chosen: npt.NDArray[np.intp] | slice) -> StoredWeight:
        """These outputs, in this order: rows move whole, as they are stored."""
        data, packed = self.data[chosen], self.packed
        ordered = None if packed is None else Ordered(data, packed.weight.rows(chosen), packed.order)
        return replace(self, shape=(len(data), *self.shape[1:]), data=data, ordered=ordered)

    @property
    def packed(self) -> Ordered | None:
        """The same numbers in blocks, if they are in blocks in another order of inputs."""
        return self.ordered if self.ordered is not None and self.ordered.of is self.data else None

    def times(self, factor: float | npt.NDArray[np.float32]) -> StoredWeight:
        """All of it multiplied, or each column by a factor of its own, in float32."""
        return StoredWeight("F32", self.shape, dequantize(self) * np.float32(factor))


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """A matrix in blocks, of which column i is that of input order[i]: for who puts rows in order before he multiplies
    them. of: the data that it stands beside, so that of what somebody made of these it says nothing."""

    of: npt.NDArray[np.generic]
    weight: StoredWeight
    order: npt.NDArray[np.int32]


def dequantize(weight: StoredWeight) -> npt.NDArray[np.float32]:
    """The weight's values, float32, of its logical shape.

    Raises UnsupportedWeight for a storage type that is not in the list above.
    """
    if weight.type in ("F32", "F16"):
        return np.ascontiguousarray(weight.data).astype(np.float32, copy=False)
    if weight.type == "BF16":
        widened = np.ascontiguousarray(weight.data).astype(np.uint32) << 16
        return widened.view(np.float32).reshape(weight.shape)
    if weight.type not in FORMATS:
        raise UnsupportedWeight(f"weights of type {weight.type} cannot be read; convert the file to Q8_0 or BF16")
    if weight.type in OWN:
        values = OWN[weight.type](np.ascontiguousarray(weight.data).view(np.uint8))
    else:
        values = gguf.quants.dequantize(np.ascontiguousarray(weight.data), gguf.GGMLQuantizationType[weight.type])
    floats: npt.NDArray[np.float32] = values.astype(np.float32, copy=False).reshape(weight.shape)
    return floats


def let_go(data: npt.NDArray[Any]) -> None:
    """Tell the system that a mapped file's pages are not needed now; what reads them again gets the file's contents."""
    owner: Any = data
    mapped = False
    while isinstance(owner, np.ndarray):
        mapped = mapped or (isinstance(owner, np.memmap) and owner.mode in ("r", "c"))
        owner = owner.base
    if not (mapped and isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")):
        return
    start = data.ctypes.data - np.frombuffer(owner, dtype=np.uint8).ctypes.data
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + data.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0:
        owner.madvise(mmap.MADV_DONTNEED, first, length)


Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def _signs(data: Bytes) -> Floats:
    """Q1_0, which `gguf.quants` does not read: a scale, then a bit for each of 128 inputs, 0 for minus."""
    blocks = data.reshape(-1, 18)
    bits = np.unpackbits(blocks[:, 2:], axis=-1, bitorder="little")
    return np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32) * (2 * bits.astype(np.float32) - 1)


def _int4(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 24)
    facts = np.ascontiguousarray(blocks[:, :8]).view(np.float32)
    codes = np.concatenate((blocks[:, 8:] & 15, blocks[:, 8:] >> 4), axis=-1)
    values: Floats = facts[:, :1] * codes.astype(np.float32) + facts[:, 1:]
    return values


def _int8(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 36)
    values: Floats = blocks[:, :4].copy().view(np.float32) * blocks[:, 4:].view(np.int8).astype(np.float32)
    return values


def _fp8(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 36)
    values: Floats = blocks[:, :4].copy().view(np.float32) * small_floats(blocks[:, 4:])
    return values


def small_floats(stored: Bytes) -> Floats:
    """The values of floats of 8 bits (E4M3, without infinities; Micikevicius et al. 2022): the bits of a float16 whose
    exponent is too small by 8."""
    wide = stored.astype(np.uint16)
    values: Floats = (((wide & 0x80) << 8) | ((wide & 0x7F) << 7)).view(np.float16).astype(np.float32) * np.float32(256)
    values[(stored & 0x7F) == 0x7F] = np.nan
    return values


SMALLEST_FLOATS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The numbers of four bits with two of exponent (E2M1, OCP microscaling formats 1.0), without a sign."""


def _fp4(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 24)
    scales = np.ascontiguousarray(blocks[:, :8]).view(np.float32)[..., None]
    codes = blocks[:, 8:].reshape(-1, 2, 8)
    table = np.array([*SMALLEST_FLOATS, *(-number for number in SMALLEST_FLOATS)], dtype=np.float32)
    values: Floats = scales * table[np.concatenate((codes & 15, codes >> 4), axis=-1)]
    return values


OWN = {"Q1_0": _signs, "INT4": _int4, "INT8": _int8, "FP4": _fp4, "FP8": _fp8}


class Format(NamedTuple):
    """A block format. num_inputs, num_bytes: of a block. halves, singles: where in it a float16, a float32 stands."""

    num_inputs: int
    num_bytes: int
    halves: tuple[int, ...]
    singles: tuple[int, ...] = ()


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "Q4_0": Format(32, 18, (0,)), "Q4_1": Format(32, 20, (0, 2)), "Q5_0": Format(32, 22, (0,)),
        "Q5_1": Format(32, 24, (0, 2)), "Q8_0": Format(32, 34, (0,)), "Q1_0": Format(128, 18, (0,)),
        "Q2_K": Format(256, 84, (80, 82)), "Q3_K": Format(256, 110, (108,)), "Q4_K": Format(256, 144, (0, 2)),
        "Q5_K": Format(256, 176, (0, 2)), "Q6_K": Format(256, 210, (208,)), "IQ1_S": Format(256, 50, (0,)),
        "IQ1_M": Format(256, 56, ()), "IQ2_XXS": Format(256, 66, (0,)), "IQ2_XS": Format(256, 74, (0,)),
        "IQ2_S": Format(256, 82, (0,)), "IQ3_XXS": Format(256, 98, (0,)), "IQ3_S": Format(256, 110, (0,)),
        "IQ4_NL": Format(32, 18, (0,)), "IQ4_XS": Format(256, 136, (0,)), "TQ1_0": Format(256, 54, (52,)),
        "TQ2_0": Format(256, 66, (64,)), "MXFP4": Format(32, 17, ()), "NVFP4": Format(64, 36, ()),
        "INT4": Format(32, 24, (), (0, 4)), "INT8": Format(32, 36, (), (0,)), "FP8": Format(32, 36, (), (0,)),
        "FP4": Format(32, 24, (), (0, 4)),
    }
)  # fmt: skip
"""Block formats of files. (Q8_1 and Q8_K are what products make of activations; no file holds them.) The last four are
our own, for what folders hold whose scales are no float16:

    INT4   scale and minimum (float32), 32 codes of 4 bits in the order of Q4_1
    INT8   scale (float32), 32 signed bytes
    FP8    scale (float32), 32 floats of 8 bits with 4 of exponent (E4M3)
    FP4    two scales (float32), then for 16 inputs each 8 bytes of floats of 4 bits (E2M1), the first 8 low
"""
EXPONENTS = {"F32": (np.uint32, 0x7F80_0000), "F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80)}
NOT_NUMBERS = {
    "MXFP4": (slice(1), 0xFF, 0xFF), "NVFP4": (slice(4), 0x7F, 0xFF), "FP8": (slice(4, None), 0x7F, 0x7F)
}  # fmt: skip
"""Formats with floats of a byte: where in a block they stand, and which of them, but for a mask, is not a number."""
CHUNK_BYTES = 1 << 21


def is_finite(weight: StoredWeight) -> bool:
    """Whether no number of it is infinite or NaN: a look at the exponents, or at those of the blocks' scales, one pass
    over what is stored and a few megabytes beside it."""
    rows = weight.data.reshape(1, -1) if weight.data.ndim < 2 else weight.data
    step = max(1, CHUNK_BYTES // max(1, rows[0].nbytes if len(rows) else 1))
    for start in range(0, len(rows), step):
        for kind, numbers in _floats(weight.type, rows[start : start + step]):
            size, mask = EXPONENTS[kind]
            exponents = numbers.view(size) & mask
            if exponents.size and exponents.max() == mask:
                return False
    return True


def _floats(type_: str, rows: npt.NDArray[np.generic]) -> list[tuple[str, npt.NDArray[np.generic]]]:
    """All numbers of rows that may be none, with the type they are to be read as."""
    if type_ in EXPONENTS:
        return [(type_, rows)]
    size = FORMATS[type_].num_bytes
    blocks = rows.view(np.uint8).reshape(len(rows), -1, size)
    found: list[tuple[str, npt.NDArray[np.generic]]] = []
    found += [("F16", _every(blocks, place, np.float16)) for place in FORMATS[type_].halves]
    found += [("F32", _every(blocks, place, np.float32)) for place in FORMATS[type_].singles]
    if type_ == "IQ1_M":
        found.append(("F16", iq1_m_scales(blocks)))
    if type_ in NOT_NUMBERS:  # as a float16 that is infinite where the byte is not a number
        places, bad, mask = NOT_NUMBERS[type_]
        found.append(("F16", np.where((blocks[:, :, places] & mask) == bad, np.float16("inf"), np.float16(0))))
    return found


def _every(blocks: Bytes, place: int, kind: type[np.floating[Any]]) -> npt.NDArray[np.generic]:
    """The number at a place of each block, seen as it stands: a copy of two bytes here and two there takes ten times as
    long as the look at them."""
    flat = np.ascontiguousarray(blocks).reshape(-1)[place:]
    return np.ndarray(len(blocks) * blocks.shape[1], kind, flat, 0, (blocks.shape[2],))


def iq1_m_scales(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    """The one float16 of each block of IQ1_M, (..., 1): its four words of scales hold four bits of it each."""
    words = np.ascontiguousarray(blocks[..., 48:56]).view(np.uint16) & np.uint16(0xF000)
    parts = words >> np.array([12, 8, 4, 0], dtype=np.uint16)
    joined: npt.NDArray[np.uint16] = np.bitwise_or.reduce(parts, axis=-1).astype(np.uint16)
    return joined.view(np.float16)[..., None]
