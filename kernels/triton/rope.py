"""RoPE, the norm of the heads, the quantisation of K and V and their write to the pool: one kernel over the fused QKV.

Q is rotated and written out, K is rotated and V left as it is; both go to the slot of their token. A negative slot is
not written (rows that only fill up a captured batch).
"""

from __future__ import annotations

import triton
import triton.language as tl

SMALLEST_SCALE = 2.0**-20
"""Scales are float16: below this they would lose their precision, and a head this small is zero for attention."""

LARGEST_SCALE = 65_504.0
"""The largest float16. Of values it is lower by attention's VALUE_GAIN, so that probabilities times scales are float16:
int8 values beyond 32,496 and e4m3 values beyond 114,632 count as that."""


@triton.jit
def quantize(
    low, high, scales, offset, exists, element: tl.constexpr, LIMIT: tl.constexpr, SMALLEST: tl.constexpr,
    LARGEST: tl.constexpr,
):  # fmt: skip
    """Rows of two halves as `element` with one scale a row, stored; the rounded scale is the one divided by."""
    largest = tl.maximum(tl.max(tl.abs(low), 1), tl.max(tl.abs(high), 1))
    # Half of the smallest float16 on top: a subnormal scale that is rounded down would clip the largest values.
    scale = tl.minimum(tl.maximum(largest / LIMIT + 2.0**-25, SMALLEST), LARGEST).to(tl.float16)
    tl.store(scales + offset, scale, mask=exists)
    factor = 1.0 / scale.to(tl.float32)[:, None]
    low = tl.minimum(tl.maximum(low * factor, -LIMIT), LIMIT)
    high = tl.minimum(tl.maximum(high * factor, -LIMIT), LIMIT)
    if element == tl.int8:
        low, high = tl.floor(low + 0.5), tl.floor(high + 0.5)
    return low.to(element), high.to(element)


@triton.jit
def norm_heads(low, high, weight, epsilon, is_normed, dim, HALF: tl.constexpr):
    """RMS norm of the heads that are normed, each as its two halves; the others as they are."""
    factor = tl.rsqrt((tl.sum(low * low, 1) + tl.sum(high * high, 1)) / (2 * HALF) + epsilon)[:, None]
    low_weight = tl.load(weight + dim, mask=dim < HALF, other=0.0).to(tl.float32)[None, :]
    high_weight = tl.load(weight + HALF + dim, mask=dim < HALF, other=0.0).to(tl.float32)[None, :]
    normed = is_normed[:, None]
    return tl.where(normed, low * factor * low_weight, low), tl.where(normed, high * factor * high_weight, high)


@triton.jit
def rotate_heads(low, high, cos, sin, position, is_rotated, dim, HALF: tl.constexpr):
    """The heads that are rotated by the angles of a position; the others as they are."""
    angle_cos = tl.load(cos + position * HALF + dim, mask=dim < HALF, other=0.0)[None, :]
    angle_sin = tl.load(sin + position * HALF + dim, mask=dim < HALF, other=0.0)[None, :]
    rotated = is_rotated[:, None]
    first = tl.where(rotated, low * angle_cos - high * angle_sin, low)
    return first, tl.where(rotated, high * angle_cos + low * angle_sin, high)


@triton.jit
def rope_write_kernel(
    qkv, q, keys, values, key_scales, value_scales, cos, sin, q_norm, k_norm, v_norm, positions, slots,
    q_epsilon, k_epsilon, v_epsilon, NUM_HEADS: tl.constexpr, NUM_KV_HEADS: tl.constexpr, NUM_VALUES: tl.constexpr,
    HALF: tl.constexpr, HALF_PAD: tl.constexpr, BLOCK_SIZE: tl.constexpr, HEADS: tl.constexpr, Q_NORM: tl.constexpr,
    K_NORM: tl.constexpr,
    V_NORM: tl.constexpr, NORMS_BEHIND: tl.constexpr, ROTATED: tl.constexpr, SCALED: tl.constexpr, LIMIT: tl.constexpr,
    SMALLEST: tl.constexpr, LARGEST: tl.constexpr, LARGEST_OF_VALUES: tl.constexpr,
):  # fmt: skip
    """Program (t, i): heads [i * HEADS, (i + 1) * HEADS) of row t, each head as its two halves of HALF dimensions.

    qkv: (tokens, (NUM_HEADS + NUM_KV_HEADS + NUM_VALUES) * 2 * HALF). q: (tokens, NUM_HEADS, 2 * HALF). keys, values:
    (blocks, NUM_KV_HEADS, BLOCK_SIZE, 2 * HALF), scales without the last axis. cos, sin: (positions, HALF) float32.
    """
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    dim = tl.arange(0, HALF_PAD)
    is_query = head < NUM_HEADS
    is_key = (head >= NUM_HEADS) & (head < NUM_HEADS + NUM_KV_HEADS)
    is_value = (head >= NUM_HEADS + NUM_KV_HEADS) & (head < NUM_HEADS + NUM_KV_HEADS + NUM_VALUES)
    dim_exists = (dim < HALF)[None, :]
    exists = (head < NUM_HEADS + NUM_KV_HEADS + NUM_VALUES)[:, None] & dim_exists
    source = qkv + (token * (NUM_HEADS + NUM_KV_HEADS + NUM_VALUES) + head[:, None]) * (2 * HALF) + dim[None, :]
    low = tl.load(source, mask=exists, other=0.0).to(tl.float32)
    high = tl.load(source + HALF, mask=exists, other=0.0).to(tl.float32)

    if Q_NORM and not NORMS_BEHIND:
        low, high = norm_heads(low, high, q_norm, q_epsilon, is_query, dim, HALF)
    if K_NORM and not NORMS_BEHIND:
        low, high = norm_heads(low, high, k_norm, k_epsilon, is_key, dim, HALF)
    if V_NORM:
        low, high = norm_heads(low, high, v_norm, v_epsilon, is_value, dim, HALF)
    first, second = low, high
    if ROTATED:
        position = tl.load(positions + token).to(tl.int64)
        first, second = rotate_heads(low, high, cos, sin, position, is_query | is_key, dim, HALF)
    if Q_NORM and NORMS_BEHIND:
        first, second = norm_heads(first, second, q_norm, q_epsilon, is_query, dim, HALF)
    if K_NORM and NORMS_BEHIND:
        first, second = norm_heads(first, second, k_norm, k_epsilon, is_key, dim, HALF)

    to_query = q + (token * NUM_HEADS + head[:, None]) * (2 * HALF) + dim[None, :]
    tl.store(to_query, first.to(q.dtype.element_ty), mask=is_query[:, None] & dim_exists)
    tl.store(to_query + HALF, second.to(q.dtype.element_ty), mask=is_query[:, None] & dim_exists)

    slot = tl.load(slots + token)
    block = (slot // BLOCK_SIZE).to(tl.int64)
    is_key = is_key & (slot >= 0)
    is_value = is_value & (slot >= 0)
    key_slot = (block * NUM_KV_HEADS + head - NUM_HEADS) * BLOCK_SIZE + slot % BLOCK_SIZE
    value_slot = key_slot - NUM_KV_HEADS * BLOCK_SIZE
    to_key = keys + key_slot[:, None] * (2 * HALF) + dim[None, :]
    to_value = values + value_slot[:, None] * (2 * HALF) + dim[None, :]
    if SCALED:
        element: tl.constexpr = keys.dtype.element_ty
        key_low, key_high = quantize(first, second, key_scales, key_slot, is_key, element, LIMIT, SMALLEST, LARGEST)
        value_low, value_high = quantize(
            first, second, value_scales, value_slot, is_value, element, LIMIT, SMALLEST, LARGEST_OF_VALUES
        )
    else:
        key_low, key_high = first.to(keys.dtype.element_ty), second.to(keys.dtype.element_ty)
        value_low, value_high = key_low, key_high
    tl.store(to_key, key_low, mask=is_key[:, None] & dim_exists)
    tl.store(to_key + HALF, key_high, mask=is_key[:, None] & dim_exists)
    tl.store(to_value, value_low, mask=is_value[:, None] & dim_exists)
    tl.store(to_value + HALF, value_high, mask=is_value[:, None] & dim_exists)
