"""Products with weights of 8 bits: rows rounded, torch's product of the codes, and what is scaled or added then.

    rows -- quantize_kernel --> codes, scales --+-- torch._scaled_mm, scales of rows and outputs --> + residual
    (with their norm)                           +-- torch._scaled_mm of the codes, float32 -- finish_kernel -->

The upper way is one that torch has on some devices and for bfloat16 only; the lower one is for all others, and rounds
once less. Products are summed in float32 (no `use_fast_accum`).
"""

from __future__ import annotations

from typing import Protocol

import torch

from stemma.kernels.triton.eight_bits import finish_kernel, quantize_kernel
from stemma.kernels.triton.fp8 import LIMIT, SMALLEST, Fp8Linear
from stemma.kernels.triton.launches import ELEMENTWISE_TILE, Launcher
from stemma.kernels.triton.packing import TritonNorm
from stemma.kernels.triton.targets import Target, cdiv, power_of_2

SCALED_ROWS = frozenset({90, 100, 103})
"""Architectures on which torch scales rows itself; on 8.9 and 12.0 some of its versions refuse to (pytorch #192707)."""
PRODUCT_BYTES = 64 << 20
"""Of float32 products that wait for `finish_kernel`: more rows go piece by piece."""


class Product(Protocol):
    def __call__(
        self,
        codes: torch.Tensor,
        weight: torch.Tensor,
        row_scales: torch.Tensor,
        scales: torch.Tensor,
        out: torch.dtype,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """(rows, inputs) codes times (outputs, inputs) codes, times scales: (rows, 1) and (1, outputs), or both ()."""


def scaled_product(
    codes: torch.Tensor, weight: torch.Tensor, row_scales: torch.Tensor, scales: torch.Tensor, out: torch.dtype,
    bias: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """torch's. It has one for CPUs too."""
    return torch._scaled_mm(codes, weight.t(), scale_a=row_scales, scale_b=scales, bias=bias, out_dtype=out)


class Fp8Kernels:
    """For one target and one type of activations. multiply: in place of torch's product."""

    def __init__(
        self, target: Target, dtype: torch.dtype, device: torch.device, launch: Launcher,
        multiply: Product = scaled_product,
    ) -> None:  # fmt: skip
        self._launch, self._multiply = launch, multiply
        self._scales_rows = dtype == torch.bfloat16 and target.arch in SCALED_ROWS
        self._device = device
        self._one: torch.Tensor | None = None

    def quantize(self, x: torch.Tensor, norm: TritonNorm | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """x, or norm(x), as codes and scales (rows, 1)."""
        features = x.shape[1]
        codes = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
        scales = torch.empty((len(x), 1), dtype=torch.float32, device=x.device)
        bias = None if norm is None else norm.bias
        arguments = {
            "x": x,
            "weight": scales if norm is None else norm.weight,
            "bias": scales if bias is None else bias,
            "codes": codes,
            "scales": scales,
            "epsilon": 0.0 if norm is None else norm.epsilon,
            "FEATURES": features,
            "FEATURES_PAD": power_of_2(features),
            "NORM": norm is not None,
            "CENTRED": norm is not None and norm.centred,
            "BIAS": bias is not None,
            "LIMIT": LIMIT,
            "SMALLEST": SMALLEST,
        }
        self._launch(quantize_kernel, (len(x),), arguments, 4 if features <= 4096 else 8, 1)
        return codes, scales

    def linear(
        self, x: torch.Tensor, linear: Fp8Linear, norm: TritonNorm | None = None,
        residual: torch.Tensor | None = None, scale: float = 1.0,
    ) -> torch.Tensor:  # fmt: skip
        """linear(x), or linear(norm(x)); or in place `residual + scale *` that."""
        codes, row_scales = self.quantize(x, norm)
        if not self._scales_rows:
            out = x.new_empty((len(x), linear.out_features)) if residual is None else residual
            self._finished(codes, row_scales, linear, residual, out, scale)
            return out
        product = self._multiply(codes, linear.weight, row_scales, linear.scales, x.dtype, linear.bias)
        return product if residual is None else residual.add_(product, alpha=scale)

    def _finished(
        self, codes: torch.Tensor, row_scales: torch.Tensor, linear: Fp8Linear, residual: torch.Tensor | None,
        out: torch.Tensor, scale: float,
    ) -> None:  # fmt: skip
        if self._one is None:
            self._one = torch.ones((), device=self._device)
        step = max(1, PRODUCT_BYTES // (4 * linear.out_features))
        for first in range(0, len(codes), step):
            piece = slice(first, first + step)
            products = self._multiply(codes[piece], linear.weight, self._one, self._one, torch.float32, None)
            arguments = {
                "products": products,
                "row_scales": row_scales[piece],
                "scales": linear.scales,
                "bias": linear.scales if linear.bias is None else linear.bias,
                "residual": products if residual is None else residual[piece],
                "out": out[piece],
                "factor": scale,
                "OUT": linear.out_features,
                "TILE": ELEMENTWISE_TILE,
                "BIAS": linear.bias is not None,
                "RESIDUAL": residual is not None,
            }
            grid = (len(products), cdiv(linear.out_features, ELEMENTWISE_TILE))
            self._launch(finish_kernel, grid, arguments, 4, 1)
