"""Weights as the Triton kernels read them: dense in the activations' type, or GGUF's blocks with the scales set apart.

Set apart, because the 18 to 34 bytes of a stored block are aligned to nothing a GPU can load at full width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from stemma.kernels.codes import codes_of, table_of
from stemma.kernels.triton.sending import Sender
from stemma.kernels.weights import StoredWeight, dequantize

FOUR_BITS = {"Q4_0", "Q4_1"}
EIGHT_BITS = {"Q8_0", "Q5_0", "IQ4_NL"}
"""Formats whose weights are a signed byte times a float16, one for 32 inputs."""


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
    """See linear.py. `minima` is there for four bits, and only for them."""

    codes: torch.Tensor  # (out_features, in_features / 2) uint8, or (out_features, in_features) int8
    scales: torch.Tensor  # (out_features, in_features / 32) float16
    minima: torch.Tensor | None
    bias: torch.Tensor | None
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True, eq=False)
class GroupedLinear:
    """The matrices of all experts, one behind the other: dense, or codes, scales, minima as PackedLinear has them."""

    weights: torch.Tensor
    scales: torch.Tensor | None
    minima: torch.Tensor | None
    bias: torch.Tensor | None  # (experts, out_features)
    in_features: int
    out_features: int

    @property
    def format(self) -> str:
        if self.scales is None:
            return "dense"
        return "bytes" if self.minima is None else "four bits"


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
    """The blocks of one stored matrix, as PackedLinear has them."""

    codes: npt.NDArray[Any]
    scales: npt.NDArray[Any]
    minima: npt.NDArray[Any] | None


def split(weight: StoredWeight) -> Fields:
    """The fields of the stored blocks; values stay what they are: Q4_0 is Q4_1 with a minimum of -8 scales, and
    the codes of Q5_0 and IQ4_NL become the signed bytes they stand for."""
    rows, width = weight.shape
    codes, scales, minima = codes_of(weight)
    halves = scales.astype(np.float16)
    if weight.type in FOUR_BITS:
        assert minima is not None
        by_block = codes.reshape(rows, width // 32, 2, 16)
        packed = by_block[:, :, 0] | (by_block[:, :, 1] << 4)
        return Fields(packed.reshape(rows, width // 2), halves, minima.astype(np.float16))
    table = table_of(weight.type)
    middle = 16 if weight.type == "Q5_0" else 128
    return Fields((codes - np.uint8(middle)).view(np.int8) if table is None else table[codes], halves, None)


def pack(
    parts: Sequence[StoredWeight],
    biases: Sequence[StoredWeight],
    sender: Sender,
    device: torch.device,
    dtype: torch.dtype,
) -> DenseLinear | PackedLinear:
    """Parts that are all of four bits, or all of bytes, stay packed; any other mixture becomes dense."""
    bias = torch.cat([torch.from_numpy(dequantize(part)) for part in biases]).to(device, dtype) if biases else None
    types = {part.type for part in parts}
    out_features, in_features = sum(part.shape[0] for part in parts), parts[0].shape[1]
    if types <= FOUR_BITS or types <= EIGHT_BITS:
        fields = [split(part) for part in parts]
        codes = torch.from_numpy(np.concatenate([field.codes for field in fields])).to(device)
        scales = torch.from_numpy(np.concatenate([field.scales for field in fields])).to(device)
        minima = [field.minima for field in fields if field.minima is not None]
        packed_minima = torch.from_numpy(np.concatenate(minima)).to(device) if minima else None
        return PackedLinear(codes, scales, packed_minima, bias, in_features, out_features)
    return DenseLinear(sender.dense(parts, dtype), bias, in_features, out_features)


def tied(weight: StoredWeight, table: torch.Tensor) -> DenseLinear | None:
    """An embedding's table as the matrix that makes logits; None where that stays packed, and smaller."""
    if weight.type in FOUR_BITS | EIGHT_BITS:
        return None
    return DenseLinear(table, None, table.shape[1], table.shape[0])


def unpack(linear: DenseLinear | PackedLinear, dtype: torch.dtype) -> DenseLinear:
    """The same weights, dense."""
    if isinstance(linear, DenseLinear):
        return linear
    blocks = (linear.out_features, linear.in_features // 32, 32)
    if linear.minima is None:
        values = linear.codes.view(blocks) * linear.scales.float()[..., None]
    else:
        halves = linear.codes.view(*blocks[:2], 16)
        codes = torch.cat((halves & 15, halves >> 4), dim=-1)
        values = codes * linear.scales.float()[..., None] + linear.minima.float()[..., None]
    weight = values.view(linear.out_features, linear.in_features).to(dtype)
    return DenseLinear(weight, linear.bias, linear.in_features, linear.out_features)


def group(linears: Sequence[DenseLinear | PackedLinear], dtype: torch.dtype) -> GroupedLinear:
    """Matrices of one shape. Of one format they stay as they are, any mixture becomes dense."""
    sizes = linears[0].in_features, linears[0].out_features
    assert {(linear.in_features, linear.out_features) for linear in linears} == {sizes}, "experts of several shapes"
    biases = [linear.bias for linear in linears if linear.bias is not None]
    bias = torch.stack(biases) if biases else None
    packed = [linear for linear in linears if isinstance(linear, PackedLinear)]
    if len(packed) == len(linears) and len({linear.codes.dtype for linear in packed}) == 1:
        minima = [linear.minima for linear in packed if linear.minima is not None]
        codes, scales = (torch.stack([getattr(each, name) for each in packed]) for name in ("codes", "scales"))
        return GroupedLinear(codes, scales, torch.stack(minima) if minima else None, bias, *sizes)
    return GroupedLinear(torch.stack([unpack(each, dtype).weight for each in linears]), None, None, bias, *sizes)
