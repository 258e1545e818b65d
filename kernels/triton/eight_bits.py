"""Activations as floats of 8 bits with a scale for each row, and the products of such, put back where rows go on."""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.norm import normed


@triton.jit
def quantize_kernel(
    x, weight, bias, codes, scales, epsilon, FEATURES: tl.constexpr, FEATURES_PAD: tl.constexpr, NORM: tl.constexpr,
    CENTRED: tl.constexpr, BIAS: tl.constexpr, LIMIT: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    """Program i: codes[i] * scales[i] = x[i], or norm(x[i]) if NORM, the largest of which becomes LIMIT.

    x: (rows, FEATURES). codes: likewise. scales: (rows, 1) float32, at least SMALLEST: a row of zeros has one too.
    """
    index = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, FEATURES_PAD)
    exists = feature < FEATURES
    row = tl.load(x + index * FEATURES + feature, mask=exists, other=0.0).to(tl.float32)
    if NORM:
        row = normed(row, exists, feature, weight, bias, epsilon, FEATURES, CENTRED, BIAS)
    scale = tl.maximum(tl.max(tl.abs(row), 0) / LIMIT, SMALLEST)
    # The largest may come out above LIMIT by a rounding, which has no code there.
    rounded = tl.minimum(tl.maximum(row / scale, -LIMIT), LIMIT)
    tl.store(codes + index * FEATURES + feature, rounded.to(codes.dtype.element_ty), mask=exists)
    tl.store(scales + index, scale)


@triton.jit
def finish_kernel(
    products, row_scales, scales, bias, residual, out, factor, OUT: tl.constexpr, TILE: tl.constexpr,
    BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Program (i, j), outputs of tile j: out[i] = residual[i] + factor * (products[i] * row_scales[i] * scales + bias).

    products: (rows, OUT) float32, of codes. `out` may be `residual`.
    """
    index = tl.program_id(0).to(tl.int64)
    output = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = output < OUT
    place = index * OUT + output
    result = tl.load(products + place, mask=exists, other=0.0)
    result *= tl.load(row_scales + index) * tl.load(scales + output, mask=exists, other=0.0)
    if BIAS:
        result += tl.load(bias + output, mask=exists, other=0.0).to(tl.float32)
    result *= factor
    if RESIDUAL:
        result += tl.load(residual + place, mask=exists, other=0.0).to(tl.float32)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=exists)
