"""Products with a matrix, or with those of experts, of whatever kind it is: who multiplies what.

dense            torch's product
of 8 bits        torch's of codes: fp8_launches.py
floats           rows rounded to 8 bits there, then the packed product
four bits, bytes the packed product
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stemma.kernels.triton.fp8 import Fp8Linear
from stemma.kernels.triton.fp8_launches import Fp8Kernels
from stemma.kernels.triton.packing import DenseLinear, GroupedLinear, TritonLinear, TritonNorm
from stemma.kernels.triton.product_launches import Groups, ProductKernels


def norms_rows(linear: TritonLinear) -> bool:
    """Whether its product can have a norm in front, in the launch that rounds rows."""
    return isinstance(linear, Fp8Linear) or (not isinstance(linear, DenseLinear) and linear.format == "floats")


class Products:
    """Over the launches of packed weights and those of 8 bits."""

    def __init__(self, packed: ProductKernels, eight: Fp8Kernels) -> None:
        self._packed, self._eight = packed, eight

    def __call__(
        self, x: torch.Tensor, linear: TritonLinear, residual: torch.Tensor | None = None, scale: float = 1.0,
        norm: TritonNorm | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """linear(x), or in place `residual + scale * linear(x)`. norm: of x, where `norms_rows`."""
        if isinstance(linear, DenseLinear):
            return linear(x, residual, scale)
        if isinstance(linear, Fp8Linear):
            return self._eight.linear(x, linear, norm, residual, scale)
        out = x.new_empty((len(x), linear.out_features)) if residual is None else residual
        x = linear.in_order(x)
        codes, row_scales = self._eight.quantize(x, norm) if linear.format == "floats" else (x, None)
        self._packed.packed_linear(codes, linear, residual, out, scale, row_scales)
        return out

    def grouped(self, x: torch.Tensor, linears: Sequence[GroupedLinear], groups: Groups) -> torch.Tensor:
        """(entries, out_features); x as `ProductKernels.grouped_linear` takes it. A launch for each layout: of entries
        that are another one's it leaves the outputs alone."""
        out = x.new_empty((len(groups.order), linears[0].out_features))
        for linear in linears:
            codes, row_scales = self._eight.quantize(x) if linear.format == "floats" else (x, None)
            self._packed.grouped_linear(codes, linear, groups, out, row_scales)
        return out
