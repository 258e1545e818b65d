"""Weights as the Triton kernels read them: dense in the activations' type, or blocks with the scales set apart.

Set apart, because the 18 to 34 bytes of a stored block are aligned to nothing a GPU can load at full width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from stemma.kernels.codes import FORM_OF, codes_of, table_of
from stemma.kernels.triton.fp8 import GROUP, Eight, Fp8Linear, as_stored, pack_fp8
from stemma.kernels.triton.nibbles import TILE
from stemma.kernels.triton.sending import Sender
from stemma.kernels.weights import StoredWeight, dequantize

FOUR_BITS = frozenset({"Q4_0", "Q4_1", "Q4_K", "INT4"})
"""Formats of four bits with a scale, and perhaps a minimum, for 32 inputs."""
SYMMETRIC = frozenset({"Q4_0"})
"""Those of them whose code 8 stands for 0."""
OFFSETS = {"Q4_0": 8, "Q5_0": 16}
"""What codes count from whose minimum is so many scales."""
BYTES = {
    type_: (form.group, form.has_minima and type_ not in OFFSETS)
    for type_, form in FORM_OF.items() if type_ not in FOUR_BITS
}  # fmt: skip
"""Formats whose codes are kept as signed bytes: how many inputs share a scale, and whether they have minima."""
ORDERED = 64
"""Tiles that are put in order together."""
Format = Literal["dense", "four bits", "bytes", "floats"]


@dataclass(frozen=True, slots=True, eq=False)
class DenseLinear:
    weight: torch.Tensor  # (out_features, in_features)
    bias: torch.Tensor | None
    in_features: int
    out_features: int

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
        """linear(x), or in place `residual + scale * linear(x)`."""
        if residual is None:
            return F.linear(x, self.weight, self.bias)
        if self.bias is not None:
            residual.add_(self.bias, alpha=scale)
        # Not torch.addmm, which copies the residual to where the sum goes, a launch of its own, before it multiplies.
        return residual.addmm_(x, self.weight.t(), alpha=scale)


@dataclass(frozen=True, slots=True, eq=False)
class PackedLinear:
    """See nibbles.py for four bits, linear.py for the others. counters: zeros, one for each tile of 64 outputs. order:
    column i is that of input order[i]; None if they stand as rows have them."""

    codes: torch.Tensor
    scales: torch.Tensor
    minima: torch.Tensor | None
    bias: torch.Tensor | None
    in_features: int
    out_features: int
    counters: torch.Tensor
    order: torch.Tensor | None = None

    def in_order(self, x: torch.Tensor) -> torch.Tensor:
        """Rows as this matrix's columns stand."""
        return x if self.order is None else x.index_select(1, self.order)

    @property
    def format(self) -> Format:
        return FORMATS[self.codes.dtype]

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        if self.format == "four bits":
            return 32
        groups = self.scales.shape[-1]
        return GROUP if self.format == "floats" and groups > 1 else self.in_features // groups

    @property
    def layout(self) -> tuple[Format, int, bool]:
        """What matrices that are read by one launch have in common."""
        return self.format, self.group, self.minima is not None


FORMATS: dict[torch.dtype, Format] = {torch.int16: "four bits", torch.int8: "bytes", torch.float8_e4m3fn: "floats"}
TritonLinear = DenseLinear | PackedLinear | Fp8Linear


@dataclass(frozen=True, slots=True, eq=False)
class GroupedLinear:
    """The matrices of experts, one behind the other: dense, or codes, scales, minima as PackedLinear has them.

    places: (experts of the layer,) int32, where each stands among these, -1 for those of other layouts; None if all of
    a layer are here.
    """

    weights: torch.Tensor
    scales: torch.Tensor | None
    minima: torch.Tensor | None
    bias: torch.Tensor | None  # (experts, out_features)
    in_features: int
    out_features: int
    format: Format
    group: int
    places: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TritonEmbedding:
    """table: (vocabulary, features), as the matrix that makes logits is kept."""

    table: DenseLinear | PackedLinear
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class TritonNorm:
    """centred: a layer norm."""

    weight: torch.Tensor  # (features,) float32
    epsilon: float
    bias: torch.Tensor | None = None
    centred: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TritonRope:
    cos: torch.Tensor  # (positions, head_dim / 2) float32
    sin: torch.Tensor


class Fields(NamedTuple):
    """The blocks of a matrix. codes: (outputs, inputs) uint8, or int8. scales, minima: (outputs, blocks) float16."""

    codes: npt.NDArray[Any]
    scales: npt.NDArray[np.float16]
    minima: npt.NDArray[np.float16] | None


def split(weight: StoredWeight) -> Fields | None:
    """The fields of the stored blocks. Codes stay what they mean; scales that are products of two numbers (those of
    K-quants, and of folders) are rounded to float16, at most by a part in 2048. None where float16 has no such scales.
    """
    codes, scales, minima = codes_of(weight)
    halves, added = half(scales), None if minima is None else half(minima)
    if halves is None or (minima is not None and added is None):
        return None
    table, form = table_of(weight.type), FORM_OF[weight.type]
    if weight.type in FOUR_BITS:
        return Fields(codes, halves, added)
    if table is not None:
        return Fields(table[codes], halves, None)
    signed = codes.view(np.int8) - np.int8(OFFSETS.get(weight.type, 0))
    if form.offset:
        signed = (codes - np.uint8(form.offset)).view(np.int8)
    return Fields(signed, halves, None if weight.type in OFFSETS else added)


def half(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float16] | None:
    """In float16; None where one has none, or more than a thousandth of the largest is lost."""
    with np.errstate(over="ignore"):
        halves = numbers.astype(np.float16)
    lost = np.abs(halves.astype(np.float32) - numbers).max(initial=0.0)
    return halves if lost <= np.abs(numbers).max(initial=0.0) / 1024 else None  # infinite less infinite is no number


def as_bytes(type_: str, fields: Fields, width: int, has_minima: bool) -> Fields:
    """The same numbers with a scale, and perhaps a minimum, for so many inputs."""
    codes, added = fields.codes.view(np.int8), fields.minima
    if type_ in FOUR_BITS and type_ in OFFSETS:
        codes, added = codes - np.int8(OFFSETS[type_]), None
    times = codes.shape[1] // fields.scales.shape[1] // width
    scales = np.repeat(fields.scales, times, axis=1)
    if not has_minima:
        return Fields(codes, scales, None)
    return Fields(codes, scales, np.zeros_like(scales) if added is None else np.repeat(added, times, axis=1))


def tiled(fields: Fields) -> Fields:
    """Codes of four bits and their facts in the order of nibbles.py, filled up with zeros."""
    outputs, inputs = fields.codes.shape
    tiles, groups = -(-outputs // TILE), -(-inputs // 64)

    def facts(blocks: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
        padded = np.zeros((tiles * TILE, 2 * groups), dtype=np.float16)
        padded[:outputs, : blocks.shape[1]] = blocks
        return np.ascontiguousarray(padded.reshape(tiles, TILE, 2 * groups).transpose(0, 2, 1))

    ordered = np.empty((tiles, groups, TILE, 16), dtype=np.uint16)
    for first in range(0, tiles, ORDERED):  # the host has no room for all codes of a large table as words
        part = fields.codes[first * TILE : (first + ORDERED) * TILE]
        codes = np.zeros((min(ORDERED, tiles - first) * TILE, groups * 64), dtype=np.uint16)
        codes[: len(part), :inputs] = part
        four = codes.reshape(-1, TILE, groups, 4, 16)
        words = four[..., 0, :] | (four[..., 1, :] << 4) | (four[..., 2, :] << 8) | (four[..., 3, :] << 12)
        ordered[first : first + ORDERED] = words.transpose(0, 2, 1, 3)
    minima = None if fields.minima is None else facts(fields.minima)
    return Fields(ordered.view(np.int16), facts(fields.scales), minima)


def joined(parts: Sequence[StoredWeight]) -> Fields | None:
    """Parts as one matrix that stays packed: of four bits if all are, else of bytes with the smallest of their blocks.
    None if one is no block format, or its scales are no float16."""
    types = [part.type for part in parts]
    if not set(types) <= FOUR_BITS | BYTES.keys():
        return None
    fields = [found for found in map(split, parts) if found is not None]
    if len(fields) < len(parts):
        return None
    four_bits = set(types) <= FOUR_BITS
    if not four_bits:
        width = min(BYTES.get(type_, (32, True))[0] for type_ in types)
        has_minima = any(BYTES.get(type_, (32, type_ not in OFFSETS))[1] for type_ in types)
        fields = [as_bytes(type_, each, width, has_minima) for type_, each in zip(types, fields, strict=True)]
    minima = [each.minima for each in fields if each.minima is not None and not set(types) <= SYMMETRIC]
    whole = Fields(
        np.concatenate([each.codes for each in fields]),
        np.concatenate([each.scales for each in fields]),
        np.concatenate(minima) if minima else None,
    )
    return tiled(whole) if four_bits else whole


def pack(
    parts: Sequence[StoredWeight],
    biases: Sequence[StoredWeight],
    sender: Sender,
    dtype: torch.dtype,
    eight: Eight = "none",
) -> TritonLinear:
    """Parts of block formats stay packed; others become dense, or of 8 bits where `eight` says so."""
    device = sender.device
    bias = torch.cat([torch.from_numpy(dequantize(part)) for part in biases]).to(device, dtype) if biases else None
    out_features, in_features = sum(part.shape[0] for part in parts), parts[0].shape[1]
    ordered = in_one_order(parts)
    fields = joined(parts if ordered is None else ordered[1])
    if fields is not None:
        codes, scales = torch.from_numpy(fields.codes).to(device), torch.from_numpy(fields.scales).to(device)
        minima = None if fields.minima is None else torch.from_numpy(fields.minima).to(device)
        counters = torch.zeros(-(-out_features // TILE), dtype=torch.int32, device=device)
        order = None if ordered is None else torch.from_numpy(ordered[0]).to(device)
        return PackedLinear(codes, scales, minima, bias, in_features, out_features, counters, order)
    squares = _in_groups(parts, bias, device) if eight != "none" else None
    if squares is not None:
        return squares
    small = pack_fp8(parts, bias, sender, dtype, eight)
    return DenseLinear(sender.dense(parts, dtype), bias, in_features, out_features) if small is None else small


def in_one_order(parts: Sequence[StoredWeight]) -> tuple[npt.NDArray[np.int32], list[StoredWeight]] | None:
    """Parts in blocks, and the order of inputs in which they are: one for all of them, as matrices have that were made
    for the same rows; else None."""
    found = [part.packed for part in parts]
    all_ordered = [each for each in found if each is not None]
    if len(all_ordered) < len(parts) or not all(
        np.array_equal(each.order, all_ordered[0].order) for each in all_ordered
    ):
        return None
    return all_ordered[0].order, [each.weight for each in all_ordered]


Table = tuple[StoredWeight, DenseLinear | PackedLinear]
"""As it is stored, and as it lies on the device."""


def part_of(table: Table | None, part: StoredWeight) -> DenseLinear | PackedLinear | None:
    """What of a table on the device is a part: all of it, or one rank's rows; None if there is no such thing."""
    first = None if table is None else place_of(part, table[0])
    return None if table is None or first is None else rows_of(table[1], first, part.shape[0])


def place_of(part: StoredWeight, table: StoredWeight) -> int | None:
    """Which row of a table a part begins with whose rows are the same memory; None if they are not."""
    rows, all_rows = part.data, table.data
    if (part.type, part.shape[1:], rows.strides) != (table.type, table.shape[1:], all_rows.strides):
        return None
    if rows.ndim < 2 or not all_rows.flags.c_contiguous:
        return None
    first, beside = divmod(rows.ctypes.data - all_rows.ctypes.data, all_rows.strides[0])
    return first if not beside and 0 <= first <= len(all_rows) - len(rows) else None


def rows_of(table: DenseLinear | PackedLinear, first: int, count: int) -> DenseLinear | PackedLinear | None:
    """These outputs of a matrix without a bias, in the same memory; None where they begin within a tile."""
    end = first + count
    if (first, count) == (0, table.out_features):
        return table
    if isinstance(table, DenseLinear):
        return DenseLinear(table.weight[first:end], None, table.in_features, count)
    if table.format == "four bits":
        if first % TILE:
            return None
        first, end = first // TILE, -(-end // TILE)
    minima = None if table.minima is None else table.minima[first:end]
    facts = table.scales[first:end], minima, None, table.in_features, count
    return PackedLinear(table.codes[first:end], *facts, table.counters[: -(-count // TILE)])


def _in_groups(
    parts: Sequence[StoredWeight], bias: torch.Tensor | None, device: torch.device
) -> PackedLinear | None:  # fmt: skip
    """Parts of FP8 as they are stored, where one of them has scales for GROUP inputs and all have such or one."""
    stored = [found for found in map(as_stored, parts) if found is not None]
    groups = max((scales.shape[1] for _, scales in stored), default=1)
    if len(stored) < len(parts) or groups == 1:
        return None
    codes = torch.from_numpy(np.concatenate([codes for codes, _ in stored])).to(device).view(torch.float8_e4m3fn)
    by_group = [np.broadcast_to(scales, (len(scales), groups)) for _, scales in stored]
    counters = torch.zeros(-(-len(codes) // TILE), dtype=torch.int32, device=device)
    scales = torch.from_numpy(np.concatenate(by_group)).to(device)
    return PackedLinear(codes, scales, None, bias, codes.shape[1], len(codes), counters)


def zeros(
    in_features: int, out_features: int, four_bits: bool, *, group: int = 32, minima: bool = False,
    device: torch.device | None = None,
) -> PackedLinear:  # fmt: skip
    """A matrix of zeros, for whoever wants to see what launches do with one, or fills it. group: of bytes."""
    tiles, groups = -(-out_features // TILE), -(-in_features // 64)
    codes = torch.zeros(tiles, groups, TILE, 16, dtype=torch.int16, device=device)
    scales = torch.zeros(tiles, 2 * groups, TILE, dtype=torch.float16, device=device)
    if not four_bits:
        codes = torch.zeros(out_features, in_features, dtype=torch.int8, device=device)
        scales = torch.zeros(out_features, in_features // group, dtype=torch.float16, device=device)
    counters = torch.zeros(tiles, dtype=torch.int32, device=device)
    added = torch.zeros_like(scales) if minima else None
    return PackedLinear(codes, scales, added, None, in_features, out_features, counters)


def floats(in_features: int, out_features: int) -> PackedLinear:
    """Zeros of 8 bits with a scale for each square."""
    codes = torch.zeros(out_features, in_features, dtype=torch.uint8).view(torch.float8_e4m3fn)
    scales = torch.ones(out_features, -(-in_features // GROUP))
    counters = torch.zeros(-(-out_features // TILE), dtype=torch.int32)
    return PackedLinear(codes, scales, None, None, in_features, out_features, counters)


def as_packed(linear: TritonLinear) -> DenseLinear | PackedLinear:
    """A matrix of 8 bits as one of floats: the same memory."""
    if not isinstance(linear, Fp8Linear):
        return linear
    sizes, none = (linear.in_features, linear.out_features), linear.scales.new_empty(0, dtype=torch.int32)
    return PackedLinear(linear.weight, linear.scales.view(-1, 1), None, linear.bias, *sizes, none)


def unpack(linear: DenseLinear | PackedLinear, dtype: torch.dtype) -> DenseLinear:
    """The same weights, dense."""
    if isinstance(linear, DenseLinear):
        return linear
    if linear.format == "floats":
        wide = linear.scales.repeat_interleave(linear.group, dim=1)[:, : linear.in_features]
        weight = (linear.codes.float() * wide).to(dtype)
        return DenseLinear(weight, linear.bias, linear.in_features, linear.out_features)
    codes, scales, minima = linear.codes.float(), linear.scales.float(), linear.minima
    if linear.format == "four bits":
        words = linear.codes.int().transpose(1, 2)  # (tiles, outputs, groups, words)
        codes = torch.stack([(words >> 4 * nth) & 15 for nth in range(4)], dim=-2).flatten(0, 1).flatten(1).float()
        scales = scales.transpose(1, 2).flatten(0, 1)
        minima = -8 * scales if minima is None else minima.transpose(1, 2).flatten(0, 1)
    values = codes.view(len(codes), -1, linear.group) * scales[..., None]
    if minima is not None:
        values += minima.float()[..., None]
    weight = values.flatten(1)[: linear.out_features, : linear.in_features].to(dtype)
    if linear.order is not None:
        weight = torch.empty_like(weight).index_copy_(1, linear.order.long(), weight)
    return DenseLinear(weight.contiguous(), linear.bias, linear.in_features, linear.out_features)
