"""Stored weights -> the strips that the products read (`linear.py` draws them). Codes and floats are permuted, not
changed; scales and minima of groups become integers of 16 bits, times one unit for each output.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.codes import FORM_OF, FORMS, TABLES, table_of
from stemma.kernels.cpu.machine.threads import aligned_zeros
from stemma.kernels.cpu.products.coded import Packing, pack_codes
from stemma.kernels.cpu.products.linear import FLOATING, block_rows
from stemma.kernels.cpu.products.strips import SEGMENT, STRIP
from stemma.kernels.cpu.rows.activations import BLOCK, prepared_stride
from stemma.kernels.weights import StoredWeight, dequantize

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
    """How a stored type is packed: floats as they are, block formats in their form."""
    return FORM_OF[weight.type].name if weight.type in FORM_OF else weight.type.lower()


def pack(parts: Sequence[StoredWeight], biases: Sequence[StoredWeight], packing: Packing) -> PackedLinear:
    """Pack matrices. Raises MismatchedWeights."""
    in_features = parts[0].shape[1]
    if any(part.shape[1] != in_features for part in parts):
        raise MismatchedWeights(f"matrices of inputs {[part.shape[1] for part in parts]} cannot share one input")
    out_features = sum(part.shape[0] for part in parts)
    bias = np.zeros(out_features, dtype=np.float32)
    if biases:
        bias = np.concatenate([dequantize(part) for part in biases])
        if len(bias) != out_features:
            raise MismatchedWeights(f"{len(bias)} biases do not fit {out_features} outputs")
    segments, memory, stride, num_bytes, first = [], [], 0, 0, 0
    for kind, group in _runs(parts):
        outputs = sum(part.shape[0] for part in group)
        weights, scales, units = _pack_group(kind, group, in_features, packing)
        table = _table(group[0].type, packing.byte_offset)
        for part in group:
            _let_go(part.data)
        padded = aligned_zeros(-(-outputs // STRIP) * STRIP * 4).view(np.float32)
        padded[:outputs] = bias[first : first + outputs]
        row = prepared_stride(in_features, kind in FORMS)
        addresses, prepare = packing.addresses, "prepare_quantized" if kind in FORMS else "prepare_float"
        words = np.array(
            [addresses[prepare], addresses[f"multiply_{kind}"], int(kind in FORMS), weights.ctypes.data,
             scales.ctypes.data, units.ctypes.data, padded.ctypes.data, outputs, first, row,
             table.ctypes.data, weights.nbytes * STRIP // padded.size, scales.nbytes * STRIP // padded.size],
            dtype=np.int64,
        )  # fmt: skip
        assert len(words) == len(SEGMENT)
        segments.append(words)
        memory += [words, weights, scales, units, padded, table]
        stride, first, num_bytes = (
            max(stride, row),
            first + outputs,
            num_bytes + weights.nbytes + scales.nbytes + units.nbytes,
        )
    rows = block_rows(stride)
    all_words = np.array([len(segments), out_features, rows, *(s.ctypes.data for s in segments)], dtype=np.int64)
    gate_strips = out_features // (2 * STRIP) if len(segments) == 1 and out_features % (2 * STRIP) == 0 else 0
    return PackedLinear(
        in_features,
        out_features,
        stride,
        rows,
        gate_strips,
        num_bytes,
        all_words.ctypes.data,
        all_words,
        tuple(memory),
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
    """Neighbours of the same kind, with the same table, together: they share strips."""
    runs: list[tuple[str, list[StoredWeight]]] = []
    for part in parts:
        kind = kind_of(part)
        if runs and runs[-1][0] == kind and TABLES.get(runs[-1][1][0].type) == TABLES.get(part.type):
            runs[-1][1].append(part)
        else:
            runs.append((kind, [part]))
    return runs


def _table(type_: str, byte_offset: int) -> Array:
    """What codes stand for, in every 16 bytes of a vector; zeros for formats without a table."""
    table = aligned_zeros(64)
    numbers = table_of(type_)
    if numbers is not None:
        table[...] = np.tile(numbers.view(np.uint8) ^ np.uint8(byte_offset), 4)
    return table


def _pack_group(
    kind: str, parts: list[StoredWeight], in_features: int, packing: Packing
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Weights, scales (with minima), units."""
    if kind == "fp8":
        return _pack_small_floats(parts)
    if kind in FLOATING:
        return (
            _pack_floats([np.asarray(part.data) for part in parts], in_features),
            aligned_zeros(64),
            aligned_zeros(64),
        )
    return pack_codes(kind, parts, packing)


def _pack_floats(parts: list[Array], in_features: int) -> Array:
    rows = _strips(parts)
    if in_features % BLOCK:
        rows = np.pad(rows, ((0, 0), (0, 0), (0, -in_features % BLOCK)))
    if rows.dtype == np.uint16:  # bf16: a pair of inputs is one 32-bit lane
        return _aligned(np.ascontiguousarray(rows).view(np.uint32).transpose(0, 2, 1))
    return _aligned(rows.transpose(0, 2, 1))


def _pack_small_floats(parts: list[StoredWeight]) -> tuple[Array, Array, Array]:
    """Bytes by strip and input; the kernel reads them as 1/256 of what they are, which the scales put right."""
    rows = _strips([np.ascontiguousarray(part.data).view(np.uint8).reshape(part.shape[0], -1, 36) for part in parts])
    scales = np.ascontiguousarray(rows[..., :4]).view(np.float32)[..., 0] * np.float32(256)
    by_input = rows[..., 4:].reshape(*rows.shape[:2], -1).transpose(0, 2, 1)
    return _aligned(by_input), _aligned(scales.transpose(0, 2, 1)), aligned_zeros(64)


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
