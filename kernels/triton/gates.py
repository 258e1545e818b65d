"""Gates of layers with a state: a product with an activated gate, and the norm that has one before or behind it.

Rows may be columns of a wider product: STRIDE is what one row is from the next. All compute in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.norm import activate


@triton.jit
def gate_kernel(
    x, gate, out, X_STRIDE: tl.constexpr, GATE_STRIDE: tl.constexpr, FEATURES: tl.constexpr, TILE: tl.constexpr,
    ACTIVATION: tl.constexpr,
):  # fmt: skip
    """Program (t, i), features of tile i: out[t] = x[t] * ACTIVATION(gate[t]), of FEATURES each."""
    token = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = feature < FEATURES
    value = tl.load(x + token * X_STRIDE + feature, mask=exists, other=0.0).to(tl.float32)
    factor = tl.load(gate + token * GATE_STRIDE + feature, mask=exists, other=0.0).to(tl.float32)
    if ACTIVATION == "silu":
        factor = activate(factor, "silu")
    if ACTIVATION == "sigmoid":
        factor = 1.0 / (1.0 + tl.exp(-factor))
    tl.store(out + token * FEATURES + feature, (value * factor).to(out.dtype.element_ty), mask=exists)


@triton.jit
def gated_norm_kernel(
    x, gate, weight, out, epsilon, X_STRIDE: tl.constexpr, GATE_STRIDE: tl.constexpr, GROUPS: tl.constexpr,
    WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, PARTS: tl.constexpr, WHOLE: tl.constexpr, GATE_FIRST: tl.constexpr,
):  # fmt: skip
    """Program (t, i): parts [i * PARTS, (i + 1) * PARTS) of the GROUPS of row t, each WIDTH wide and normed by
    itself. weight: (GROUPS * WIDTH,) float32 if WHOLE, else (WIDTH,)."""
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1) * PARTS + tl.arange(0, PARTS)
    place = tl.arange(0, WIDTH_PAD)
    exists = (part < GROUPS)[:, None] & (place < WIDTH)[None, :]
    feature = part[:, None] * WIDTH + place[None, :]
    value = tl.load(x + token * X_STRIDE + feature, mask=exists, other=0.0).to(tl.float32)
    factor = activate(tl.load(gate + token * GATE_STRIDE + feature, mask=exists, other=0.0).to(tl.float32), "silu")
    if GATE_FIRST:
        value = value * factor
    scale = tl.rsqrt(tl.sum(value * value, 1) / WIDTH + epsilon)
    if WHOLE:
        result = value * scale[:, None] * tl.load(weight + feature, mask=exists, other=0.0)
    else:
        result = value * scale[:, None] * tl.load(weight + place, mask=place < WIDTH, other=0.0)[None, :]
    if not GATE_FIRST:
        result = result * factor
    tl.store(out + token * (GROUPS * WIDTH) + feature, result.to(out.dtype.element_ty), mask=exists)
