"""RMS norm of rows, optionally of chosen rows, and the gated SiLU. Both compute in float32 whatever they read."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def norm_kernel(
    x, weight, out, rows, epsilon, FEATURES: tl.constexpr, FEATURES_PAD: tl.constexpr, GATHER: tl.constexpr
):
    """Program i: out[i] = norm(x[rows[i]] if GATHER else x[i]). x, out: (rows, FEATURES)."""
    index = tl.program_id(0).to(tl.int64)
    source = tl.load(rows + index).to(tl.int64) if GATHER else index
    feature = tl.arange(0, FEATURES_PAD)
    exists = feature < FEATURES
    row = tl.load(x + source * FEATURES + feature, mask=exists, other=0.0).to(tl.float32)
    factor = tl.rsqrt(tl.sum(row * row, 0) / FEATURES + epsilon)
    normed = row * factor * tl.load(weight + feature, mask=exists, other=0.0).to(tl.float32)
    tl.store(out + index * FEATURES + feature, normed.to(out.dtype.element_ty), mask=exists)


@triton.jit
def gated_kernel(gate_up, out, FEATURES: tl.constexpr, TILE: tl.constexpr):
    """Program (t, i): out[t] = silu(gate_up[t, :FEATURES]) * gate_up[t, FEATURES:], features of tile i."""
    token = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = feature < FEATURES
    source = gate_up + token * (2 * FEATURES) + feature
    gate = tl.load(source, mask=exists, other=0.0).to(tl.float32)
    up = tl.load(source + FEATURES, mask=exists, other=0.0).to(tl.float32)
    result = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + token * FEATURES + feature, result.to(out.dtype.element_ty), mask=exists)
