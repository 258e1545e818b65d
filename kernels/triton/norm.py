"""Norms of rows, optionally of chosen rows; activations, gated or not. All compute in float32 whatever they read."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def normed(
    row, exists, feature, weight, bias, epsilon, FEATURES: tl.constexpr, CENTRED: tl.constexpr, BIAS: tl.constexpr
):
    """A row in float32, zeros behind its end. CENTRED: a layer norm."""
    if CENTRED:
        row = tl.where(exists, row - tl.sum(row, 0) / FEATURES, 0.0)
    factor = tl.rsqrt(tl.sum(row * row, 0) / FEATURES + epsilon)
    result = row * factor * tl.load(weight + feature, mask=exists, other=0.0).to(tl.float32)
    if BIAS:
        result += tl.load(bias + feature, mask=exists, other=0.0).to(tl.float32)
    return result


@triton.jit
def norm_kernel(
    x, weight, bias, out, rows, epsilon, FEATURES: tl.constexpr, FEATURES_PAD: tl.constexpr, GATHER: tl.constexpr,
    CENTRED: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Program i: out[i] = norm(x[rows[i]] if GATHER else x[i]). x, out: (rows, FEATURES). CENTRED: a layer norm."""
    index = tl.program_id(0).to(tl.int64)
    source = tl.load(rows + index).to(tl.int64) if GATHER else index
    feature = tl.arange(0, FEATURES_PAD)
    exists = feature < FEATURES
    row = tl.load(x + source * FEATURES + feature, mask=exists, other=0.0).to(tl.float32)
    result = normed(row, exists, feature, weight, bias, epsilon, FEATURES, CENTRED, BIAS)
    tl.store(out + index * FEATURES + feature, result.to(out.dtype.element_ty), mask=exists)


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """Of float32; see `Activation`."""
    if ACTIVATION == "silu":
        return x / (1.0 + tl.exp(-x))
    if ACTIVATION == "gelu":
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    if ACTIVATION == "gelu_tanh":
        return x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    positive = tl.maximum(x, 0.0)
    return positive * positive


@triton.jit
def gated_kernel(
    gate_up, out, FEATURES: tl.constexpr, TILE: tl.constexpr, GATED: tl.constexpr, ACTIVATION: tl.constexpr
):
    """Program (t, i), features of tile i: out[t] = activation(gate_up[t, :FEATURES]) * gate_up[t, FEATURES:], or
    activation(gate_up[t]) if not GATED."""
    token = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = feature < FEATURES
    source = gate_up + token * (FEATURES * 2 if GATED else FEATURES) + feature
    gate = tl.load(source, mask=exists, other=0.0).to(tl.float32)
    if GATED:
        up = tl.load(source + FEATURES, mask=exists, other=0.0).to(tl.float32)
        if ACTIVATION == "clamped_silu":
            gate, up = tl.minimum(gate, 7.0), tl.minimum(tl.maximum(up, -7.0), 7.0)
            result = gate / (1.0 + tl.exp(-1.702 * gate)) * (up + 1.0)
        else:
            result = activate(gate, ACTIVATION) * up
    else:
        result = activate(gate, ACTIVATION)
    tl.store(out + token * FEATURES + feature, result.to(out.dtype.element_ty), mask=exists)
