"""Stored weights -> the strips that the products read (`linear.py` draws them), or where they are in their file
(`mapped.py`). Codes and floats are permuted, not changed; scales and minima of groups become integers of 16 bits, times
one unit for each output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.codes import FORM_OF, TABLES, table_of
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.threads import aligned_zeros
from stemma.kernels.cpu.products.coded import PIECE, Packing, pack_codes
from stemma.kernels.cpu.products.linear import FLOATING, block_rows
from stemma.kernels.cpu.products.mapped import can_stay, map_rows
from stemma.kernels.cpu.products.strips import SEGMENT, STRIP, UNKNOWN
from stemma.kernels.cpu.products.tiles import MAPPED, TILES
from stemma.kernels.cpu.rows.activations import BLOCK, prepared_stride
from stemma.kernels.weights import StoredWeight, dequantize, let_go

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


def kind_of(weight: StoredWeight, target: Target) -> str:
    """How a stored type is packed: floats as they are, block formats in their form, or not at all."""
    if target.reads_files and can_stay(weight):
        return MAPPED
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
    segments: list[Array] = []
    memory: list[Array] = []
    first, num_bytes = 0, 0
    for kind, group in _runs(parts, packing.target):
        outputs = sum(part.shape[0] for part in group)
        words, held = _segment(kind, group, (first, bias[first : first + outputs]), packing)
        segments.append(words)
        memory += [words, *held]
        num_bytes += sum(each.nbytes for each in held[:-3])
        first += outputs
    stride = max(int(words[SEGMENT.index("stride")]) for words in segments)
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


def _segment(
    kind: str, parts: list[StoredWeight], outputs: tuple[int, Array], packing: Packing
) -> tuple[Array, list[Array]]:
    """What a kernel is told of matrices of one kind, and the memory of it: at last biases, table, squares. outputs: the
    first one's number, biases."""
    (first, bias), in_features = outputs, parts[0].shape[1]
    weights, scales, units = _pack_group(kind, parts, packing)
    table = _table(parts[0].type, packing.target.byte_offset)
    strips = -(-len(bias) // STRIP)
    padded = aligned_zeros(strips * STRIP * 4).view(np.float32)
    padded[: len(bias)] = bias
    addresses, is_coded, held = packing.addresses, kind in TILES, [weights, scales, units]
    start, strip_bytes = weights.ctypes.data, weights.nbytes // strips
    jump = strips // 2 * strip_bytes
    if kind == MAPPED:
        start, strip_bytes = int(weights[0]), parts[0].data.strides[0] * STRIP
        jump, held = int(weights[strips // 2]) - start, [*held, *(part.data for part in parts)]
    squares = aligned_zeros(strips * STRIP * 8 if is_coded and packing.target.adds_beside else 64).view(np.float64)
    squares[...] = UNKNOWN
    words = np.array(
        [addresses["prepare_quantized" if is_coded else "prepare_float"], addresses[f"multiply_{kind}"], int(is_coded),
         weights.ctypes.data, scales.ctypes.data, units.ctypes.data, padded.ctypes.data, len(bias), first,
         prepared_stride(in_features, is_coded), table.ctypes.data, strip_bytes, scales.nbytes // strips, start, jump,
         squares.ctypes.data],
        dtype=np.int64,
    )  # fmt: skip
    assert len(words) == len(SEGMENT)
    return words, [*held, padded, table, squares]


def _runs(parts: Sequence[StoredWeight], target: Target) -> list[tuple[str, list[StoredWeight]]]:
    """Neighbours of the same kind, with the same table, together: they share strips."""
    runs: list[tuple[str, list[StoredWeight]]] = []
    for part in parts:
        kind = kind_of(part, target)
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
    kind: str, parts: list[StoredWeight], packing: Packing
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Weights, scales (with minima), units."""
    if kind == "fp8":
        return _pack_small_floats(parts)
    if kind in FLOATING:
        return (
            _pack_floats(parts, packing),
            aligned_zeros(64),
            aligned_zeros(64),
        )
    return map_rows(parts, packing.pool) if kind == MAPPED else pack_codes(kind, parts, packing)


def _pack_floats(parts: Sequence[StoredWeight], packing: Packing) -> Array:
    """Numbers by strip and input; of two bytes that are no float16, pairs of inputs as one."""
    in_features, strips = parts[0].shape[1], -(-sum(part.shape[0] for part in parts) // STRIP)
    width, dtype = -(-in_features // BLOCK) * BLOCK, parts[0].data.dtype
    if dtype == np.uint16:
        width, dtype = width // 2, np.dtype(np.uint32)
    laid = aligned_zeros(strips * width * STRIP * dtype.itemsize).view(dtype).reshape(strips, width, STRIP)
    step, first, pieces = max(1, PIECE // (in_features * STRIP)) * STRIP, 0, []
    for part in parts:
        begin = -first % STRIP  # the rest of a strip, then whole ones
        starts = [0, *range(begin, part.shape[0], step)] if begin else range(0, part.shape[0], step)
        pieces += [(part.data[start:end], first + start) for start, end in pairwise([*starts, part.shape[0]])]
        first += part.shape[0]
    list(packing.pool.map(lambda piece: _lay_floats(laid, *piece), pieces))
    return laid


def _lay_floats(laid: Array, rows: Array, first: int) -> None:
    """Rows of outputs from number `first` on, which begin or end within a strip or fill some."""
    numbers = np.pad(rows, ((0, 0), (0, 1))) if laid.dtype != rows.dtype and rows.shape[1] % 2 else rows
    numbers = np.ascontiguousarray(numbers).view(laid.dtype)
    strip, whole = first // STRIP, len(rows) // STRIP if first % STRIP == 0 else 0
    width = numbers.shape[1]
    laid[strip : strip + whole, :width] = numbers[: whole * STRIP].reshape(whole, STRIP, width).transpose(0, 2, 1)
    lane, rest = first % STRIP, numbers[whole * STRIP :]
    if len(rest):
        laid[strip + whole, :width, lane : lane + len(rest)] = rest.T
    let_go(rows)


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
