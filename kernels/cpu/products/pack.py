"""Stored weights -> the strips that the products read (`linear.py` draws them). The numbers of Q4_0, Q4_1, Q4_K, Q8_0,
BF16, F16 and F32 are permuted, not changed; scales and minima of blocks become integers of 16 bits, times one unit for
each output.

Other block formats (Q6_K, ...) are rounded again to 8 bits a weight, one scale for 32 of them (at most 0.4 % of the
block's largest).
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.cpu.machine.threads import aligned_zeros
from stemma.kernels.cpu.products.linear import FLOATING, QUANTIZED, block_rows
from stemma.kernels.cpu.products.strips import SEGMENT, STRIP
from stemma.kernels.cpu.rows.activations import BLOCK, prepared_stride
from stemma.kernels.weights import StoredWeight, dequantize

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


class MismatchedWeights(ValueError):
    """Matrices that should share their input do not."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedLinear:
    """Matrices with one input, packed.

    address: of `words`: the number of segments, out_features, rows of a block, the address of each segment's words.
    stride: the widest prepared row any segment needs, in bytes.
    block_rows: rows that are prepared at once.
    gate_strips: the strips of the first half of the outputs, if it can gate the second half while both are computed.
    """

    in_features: int
    out_features: int
    stride: int
    block_rows: int
    gate_strips: int
    num_bytes: int
    address: int
    words: Array
    memory: tuple[Array, ...]


def kind_of(weight: StoredWeight) -> str:
    """How a stored type is packed."""
    return {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q4_0": "q4", "Q4_1": "q4", "Q4_K": "q4"}.get(weight.type, "q8")


def pack(
    parts: Sequence[StoredWeight], biases: Sequence[StoredWeight], addresses: dict[str, int], byte_offset: int
) -> PackedLinear:
    """Pack matrices; `addresses` are those of the compiled kernels. Raises MismatchedWeights."""
    in_features = parts[0].shape[1]
    if any(part.shape[1] != in_features for part in parts):
        raise MismatchedWeights(f"matrices of inputs {[part.shape[1] for part in parts]} cannot share one input")
    out_features = sum(part.shape[0] for part in parts)
    bias = np.zeros(out_features, dtype=np.float32)
    if biases:
        bias = np.concatenate([dequantize(part).numpy() for part in biases])
        if len(bias) != out_features:
            raise MismatchedWeights(f"{len(bias)} biases do not fit {out_features} outputs")
    segments, memory, stride, num_bytes, first = [], [], 0, 0, 0
    for kind, group in _runs(parts):
        outputs = sum(part.shape[0] for part in group)
        weights, scales, units = _pack_group(kind, group, in_features, byte_offset)
        for part in group:
            _let_go(part.data)
        padded = _aligned(np.pad(bias[first : first + outputs], (0, -outputs % STRIP)))
        row = prepared_stride(in_features, kind in QUANTIZED)
        prepare = addresses["prepare_quantized" if kind in QUANTIZED else "prepare_float"]
        words = np.array(
            [prepare, addresses[f"multiply_{kind}"], int(kind in QUANTIZED), weights.ctypes.data, scales.ctypes.data,
             units.ctypes.data, padded.ctypes.data, outputs, first, row], dtype=np.int64,
        )  # fmt: skip
        assert len(words) == len(SEGMENT)
        segments.append(words)
        memory += [words, weights, scales, units, padded]
        stride, first, num_bytes = (
            max(stride, row),
            first + outputs,
            num_bytes + weights.nbytes + scales.nbytes + units.nbytes,
        )
    rows = block_rows(stride)
    table = np.array([len(segments), out_features, rows, *(s.ctypes.data for s in segments)], dtype=np.int64)
    gate_strips = out_features // (2 * STRIP) if len(segments) == 1 and out_features % (2 * STRIP) == 0 else 0
    return PackedLinear(
        in_features, out_features, stride, rows, gate_strips, num_bytes, table.ctypes.data, table, tuple(memory)
    )


def _let_go(data: Array) -> None:
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


def _runs(parts: Sequence[StoredWeight]) -> list[tuple[str, list[StoredWeight]]]:
    """Neighbours of the same kind together: they share strips."""
    runs: list[tuple[str, list[StoredWeight]]] = []
    for part in parts:
        kind = kind_of(part)
        if runs and runs[-1][0] == kind:
            runs[-1][1].append(part)
        else:
            runs.append((kind, [part]))
    return runs


def _pack_group(kind: str, parts: list[StoredWeight], in_features: int, byte_offset: int) -> tuple[Array, Array, Array]:
    """Weights, scales (with minima), units."""
    if kind in FLOATING:
        return (
            _pack_floats([np.asarray(part.data) for part in parts], in_features),
            aligned_zeros(64),
            aligned_zeros(64),
        )
    split = [_four_bits(part) if kind == "q4" else _eight_bits(part) for part in parts]
    whole = _strips([values for values, _ in split])
    fixed = [_fixed_four(facts) if kind == "q4" else _fixed_eight(facts) for _, facts in split]
    facts, units = _strips([facts for facts, _ in fixed]), _strips([units for _, units in fixed])
    num_strips, _, blocks, size = whole.shape
    tiles = whole.reshape(num_strips, STRIP, blocks, size // 4, 4).view(np.uint32)[..., 0].transpose(0, 2, 3, 1)
    packed = _aligned(tiles)
    if kind == "q8":
        packed ^= np.uint32(0x01010101 * byte_offset)
    return packed, _aligned(facts.transpose(0, 2, 3, 1)), _aligned(units)


def _fixed_four(facts: Array) -> tuple[Array, Array]:
    """Scales and minima (outputs, blocks, 2) as integers of 16 bits, and what one is worth (outputs).

    The unit is so small that the largest weight nearly fills 16 bits. What rounding a scale does to the middle of its
    block's range is put right in the minimum.
    """
    scale, minimum = facts[..., 0].astype(np.float64), facts[..., 1].astype(np.float64)
    largest = np.maximum(np.abs(minimum), np.abs(15 * scale + minimum)).max(axis=1)
    unit = _unit(largest, 32_750)
    scale, minimum = scale / unit[:, None], minimum / unit[:, None]
    whole = np.rint(scale)
    fixed = np.stack((whole, np.rint(minimum + 7.5 * (scale - whole))), axis=-1)
    return fixed.astype(np.int16), unit.astype(np.float32)


def _fixed_eight(scales: Array) -> tuple[Array, Array]:
    """Scales (outputs, blocks) as integers of 16 bits (outputs, blocks, 1), and what one is worth (outputs)."""
    scale = scales.astype(np.float64)
    unit = _unit(np.abs(scale).max(axis=1), 32_767)
    return np.rint(scale / unit[:, None]).astype(np.int16)[..., None], unit.astype(np.float32)


def _unit(largest: Array, steps: int) -> Array:
    """What one step is worth, as a float of 32 bits; 1 for outputs whose weights are all zero."""
    unit = (largest / steps).astype(np.float32).astype(np.float64)
    return np.where(unit == 0, 1.0, unit)


def _pack_floats(parts: list[Array], in_features: int) -> Array:
    rows = _strips(parts)
    if in_features % BLOCK:
        rows = np.pad(rows, ((0, 0), (0, 0), (0, -in_features % BLOCK)))
    if rows.dtype == np.uint16:  # bf16: a pair of inputs is one 32-bit lane
        return _aligned(np.ascontiguousarray(rows).view(np.uint32).transpose(0, 2, 1))
    return _aligned(rows.transpose(0, 2, 1))


def _strips(parts: list[Array]) -> Array:
    """Rows (outputs, ...) of one or more matrices -> (strips, 16, ...), the last strip filled up with zeros."""
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(rows) % STRIP:
        rows = np.pad(rows, [(0, -len(rows) % STRIP)] + [(0, 0)] * (rows.ndim - 1))
    return rows.reshape(-1, STRIP, *rows.shape[1:])


def _aligned(values: Array) -> Array:
    target = aligned_zeros(values.nbytes).view(values.dtype).reshape(values.shape)
    target[...] = values
    return target


def _four_bits(weight: StoredWeight) -> tuple[Array, Array]:
    """Nibbles (outputs, blocks, 16): input i low in byte i, input i + 16 high; (outputs, blocks, 2) scales, minima."""
    outputs = weight.shape[0]
    if weight.type == "Q4_K":
        return _four_bits_of_superblocks(np.ascontiguousarray(weight.data), outputs)
    size = 20 if weight.type == "Q4_1" else 18
    blocks = np.ascontiguousarray(weight.data).view(np.uint8).reshape(outputs, -1, size)
    nibbles = blocks[:, :, size - 16 :]
    facts = np.ascontiguousarray(blocks[:, :, : size - 16]).view(np.float16).astype(np.float32)
    return nibbles, facts if weight.type == "Q4_1" else facts * np.array([1, -8], dtype=np.float32)


def _four_bits_of_superblocks(data: Array, outputs: int) -> tuple[Array, Array]:
    """Q4_K: 256 inputs with 8 six-bit scales and minima (ggml-common.h, block_q4_K)."""
    blocks = data.view(np.uint8).reshape(outputs, -1, 144)
    d, m = (np.ascontiguousarray(blocks[:, :, at : at + 2]).view(np.float16).astype(np.float32) for at in (0, 2))
    packed = blocks[:, :, 4:16]
    low, high, last = packed[:, :, 0:4], packed[:, :, 4:8], packed[:, :, 8:12]
    scales = np.concatenate((low & 63, (last & 15) | ((low >> 6) << 4)), axis=-1)
    minima = np.concatenate((high & 63, (last >> 4) | ((high >> 6) << 4)), axis=-1)
    facts = np.stack((d * scales, -m * minima), axis=-1).reshape(outputs, -1, 2)
    quants = blocks[:, :, 16:].reshape(outputs, -1, 4, 1, 32)
    values = np.concatenate((quants & 15, quants >> 4), axis=3).reshape(outputs, -1, 32)
    return values[..., :16] | (values[..., 16:] << 4), facts


def _eight_bits(weight: StoredWeight) -> tuple[Array, Array]:
    """Signed bytes (outputs, blocks, 32) and scales (outputs, blocks)."""
    if weight.type == "Q8_0":
        blocks = np.ascontiguousarray(weight.data).view(np.uint8).reshape(weight.shape[0], -1, 34)
        scale = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[..., 0]
        return np.ascontiguousarray(blocks[:, :, 2:]).view(np.int8), scale
    values = dequantize(weight).numpy().reshape(weight.shape[0], -1, BLOCK)
    scale = (np.abs(values).max(axis=-1) / 127).astype(np.float16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)[..., None]
    return np.clip(np.rint(values / divisor), -127, 127).astype(np.int8), scale
