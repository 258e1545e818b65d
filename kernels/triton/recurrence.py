"""The recurrences of layers with a state, one token after the other: the gated delta rule and the Mamba-2 scan.

One program has a panel of one head's state in registers and walks through all pieces of one sequence. Panels do not
read each other, and a panel's sums have one order, so a result depends neither on pieces nor on chunks or company.

    sequence      |------ piece 0 ------|--- piece 1 ---|- piece 2 -|
    slot read     ^ its first source
    slots written                       ^ target 0      ^ target 1  ^ target 2
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softplus(x):
    """log(1 + exp(x)) as exact as float32: hardware logarithms near 1 are not, and time steps are that small. With
    z = e / (2 + e) it is 2 (z + z^3 / 3 + z^5 / 5 + ...), z at most 1/3."""
    small = tl.exp(-tl.abs(x))
    z = small / (2.0 + small)
    square = z * z
    series = 1.0 / 13.0 + square * (1.0 / 15.0)
    series = 1.0 / 9.0 + square * (1.0 / 11.0 + square * series)
    series = 1.0 / 5.0 + square * (1.0 / 7.0 + square * series)
    return tl.maximum(x, 0.0) + 2.0 * z * (1.0 + square * (1.0 / 3.0 + square * series))


@triton.jit
def numbers_of(x, row, stride: tl.constexpr, column, exists):
    """Columns of a row in float32; zeros where there are none."""
    return tl.load(x + row.to(tl.int64) * stride + column, mask=exists, other=0.0).to(tl.float32)


@triton.jit
def delta_kernel(
    qkv, beta, step, rates, dt_bias, states, out, rows, starts, ends, sources, targets, scale, QKV_STRIDE: tl.constexpr,
    BETA_STRIDE: tl.constexpr, STEP_STRIDE: tl.constexpr, KEY_HEADS: tl.constexpr, VALUE_HEADS: tl.constexpr,
    KEY_DIM: tl.constexpr, KEY_PAD: tl.constexpr, VALUE_DIM: tl.constexpr, COLUMNS: tl.constexpr, TILED: tl.constexpr,
):  # fmt: skip
    """Program (s, h, c): columns [c * COLUMNS, (c + 1) * COLUMNS) of the state of value head h along sequence s.

    qkv: (tokens, 2 KEY_HEADS KEY_DIM + VALUE_HEADS VALUE_DIM); beta, step: (tokens, VALUE_HEADS); strides are those of
    rows. rates: (VALUE_HEADS,) A. states: (slots, VALUE_HEADS, KEY_DIM, VALUE_DIM) float32. out: (tokens, VALUE_HEADS,
    VALUE_DIM). TILED: value head h has key head h % KEY_HEADS. (Yang et al. 2024, "Gated delta networks", equation 10.)
    """
    first_piece, end_piece = tl.load(rows + tl.program_id(0)), tl.load(rows + tl.program_id(0) + 1)
    if first_piece == end_piece:
        return
    head = tl.program_id(1)
    key_head = head % KEY_HEADS if TILED else head // (VALUE_HEADS // KEY_HEADS)
    key = tl.arange(0, KEY_PAD)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    key_exists, column_exists = key < KEY_DIM, column < VALUE_DIM
    inside = key_exists[:, None] & column_exists[None, :]
    panel = states + head * (KEY_DIM * VALUE_DIM) + key[:, None] * VALUE_DIM + column[None, :]
    rate, bias = tl.load(rates + head), tl.load(dt_bias + head)
    at_q = key_head * KEY_DIM + key
    at_k, at_v = KEY_HEADS * KEY_DIM + at_q, 2 * KEY_HEADS * KEY_DIM + head * VALUE_DIM + column

    origin = tl.load(sources + first_piece).to(tl.int64)
    state = tl.load(panel + origin * (VALUE_HEADS * KEY_DIM * VALUE_DIM), mask=inside & (origin >= 0), other=0.0)
    row, end = tl.load(starts + first_piece), tl.load(ends + end_piece - 1)
    q, k = numbers_of(qkv, row, QKV_STRIDE, at_q, key_exists), numbers_of(qkv, row, QKV_STRIDE, at_k, key_exists)
    v = numbers_of(qkv, row, QKV_STRIDE, at_v, column_exists)
    b, t = numbers_of(beta, row, BETA_STRIDE, head, True), numbers_of(step, row, STEP_STRIDE, head, True)
    for piece in tl.range(first_piece, end_piece):
        for _ in tl.range(tl.load(starts + piece), tl.load(ends + piece)):
            # The next token is asked for now, so that no step waits for memory.
            next_row = row + 1
            more = next_row < end
            next_q = numbers_of(qkv, next_row, QKV_STRIDE, at_q, key_exists & more)
            next_k = numbers_of(qkv, next_row, QKV_STRIDE, at_k, key_exists & more)
            next_v = numbers_of(qkv, next_row, QKV_STRIDE, at_v, column_exists & more)
            next_b = numbers_of(beta, next_row, BETA_STRIDE, head, more)
            next_t = numbers_of(step, next_row, STEP_STRIDE, head, more)
            k = k * tl.rsqrt(tl.sum(k * k, 0) + 1e-6)
            q = q * (tl.rsqrt(tl.sum(q * q, 0) + 1e-6) * scale)
            state = state * tl.exp(-rate * softplus(t + bias))
            error = (v - tl.sum(k[:, None] * state, 0)) / (1.0 + tl.exp(-b))
            state = state + k[:, None] * error[None, :]
            to_out = out + row.to(tl.int64) * (VALUE_HEADS * VALUE_DIM) + head * VALUE_DIM + column
            tl.store(to_out, tl.sum(q[:, None] * state, 0).to(out.dtype.element_ty), mask=column_exists)
            row, q, k, v, b, t = next_row, next_q, next_k, next_v, next_b, next_t
        target = tl.load(targets + piece).to(tl.int64)
        tl.store(panel + target * (VALUE_HEADS * KEY_DIM * VALUE_DIM), state, mask=inside)


@triton.jit
def scan_kernel(
    x, step, rates, skips, dt_bias, states, out, rows, starts, ends, sources, targets, low, high,
    X_STRIDE: tl.constexpr, STEP_STRIDE: tl.constexpr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    GROUPS: tl.constexpr, STATE: tl.constexpr, STATE_PAD: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """Program (s, h, i): rows [i * OUTPUTS, (i + 1) * OUTPUTS) of the state of head h along sequence s.

    x: (tokens, HEADS HEAD_DIM + 2 GROUPS STATE), inputs, B, C; step: (tokens, HEADS). rates, skips: (HEADS,) A and D.
    states: (slots, HEADS, HEAD_DIM, STATE) float32. out: (tokens, HEADS, HEAD_DIM). (Dao and Gu 2024, section 7.)
    """
    first_piece, end_piece = tl.load(rows + tl.program_id(0)), tl.load(rows + tl.program_id(0) + 1)
    if first_piece == end_piece:
        return
    head = tl.program_id(1)
    place = tl.program_id(2) * OUTPUTS + tl.arange(0, OUTPUTS)
    number = tl.arange(0, STATE_PAD)
    place_exists, number_exists = place < HEAD_DIM, number < STATE
    inside = place_exists[:, None] & number_exists[None, :]
    panel = states + head * (HEAD_DIM * STATE) + place[:, None] * STATE + number[None, :]
    rate, skip, bias = tl.load(rates + head), tl.load(skips + head), tl.load(dt_bias + head)
    at_x, at_b = head * HEAD_DIM + place, HEADS * HEAD_DIM + head // (HEADS // GROUPS) * STATE + number
    at_c = at_b + GROUPS * STATE

    origin = tl.load(sources + first_piece).to(tl.int64)
    state = tl.load(panel + origin * (HEADS * HEAD_DIM * STATE), mask=inside & (origin >= 0), other=0.0)
    row, end = tl.load(starts + first_piece), tl.load(ends + end_piece - 1)
    value = numbers_of(x, row, X_STRIDE, at_x, place_exists)
    b, c = numbers_of(x, row, X_STRIDE, at_b, number_exists), numbers_of(x, row, X_STRIDE, at_c, number_exists)
    t = numbers_of(step, row, STEP_STRIDE, head, True)
    for piece in tl.range(first_piece, end_piece):
        for _ in tl.range(tl.load(starts + piece), tl.load(ends + piece)):
            next_row = row + 1
            more = next_row < end
            next_value = numbers_of(x, next_row, X_STRIDE, at_x, place_exists & more)
            next_b = numbers_of(x, next_row, X_STRIDE, at_b, number_exists & more)
            next_c = numbers_of(x, next_row, X_STRIDE, at_c, number_exists & more)
            next_t = numbers_of(step, next_row, STEP_STRIDE, head, more)
            time = tl.minimum(tl.maximum(softplus(t + bias), low), high)
            state = state * tl.exp(-rate * time) + (time * value)[:, None] * b[None, :]
            result = tl.sum(state * c[None, :], 1) + skip * value
            to_out = out + row.to(tl.int64) * (HEADS * HEAD_DIM) + head * HEAD_DIM + place
            tl.store(to_out, result.to(out.dtype.element_ty), mask=place_exists)
            row, value, b, c, t = next_row, next_value, next_b, next_c, next_t
        target = tl.load(targets + piece).to(tl.int64)
        tl.store(panel + target * (HEADS * HEAD_DIM * STATE), state, mask=inside)
