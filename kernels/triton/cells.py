"""The recurrences over whole cells of 64 tokens, as matrix products. The gated delta rule in its WY form (Yang et al.
2024, "Gated delta networks", section 3.3; "Parallelizing linear transformers with the delta rule", section 3).

With G_t the sum of log decays up to token t of a cell, S the state before it, L what is strictly below a diagonal:

    u_t = sigmoid(beta_t) (v_t - exp(G_t) k_t S - sum over i < t of exp(G_t - G_i) (k_t k_i) u_i)
    U   = T sigmoid(beta) V - T sigmoid(beta) exp(G) K S,     T = (1 + L(sigmoid(beta_t) exp(G_t - G_i) k_t k_i))^-1
    o_t = exp(G_t) q_t S + sum over i <= t of exp(G_t - G_i) (q_t k_i) u_i
    S   = exp(G_64) S + sum over i of exp(G_64 - G_i) k_i u_i

`cell_kernel` makes what does not depend on S, for all cells at once; `cells_kernel` walks with S through the cells.
Mamba-2 (Dao and Gu 2024, section 6) is the same with u_i = t_i x_i, keys B and queries C, and needs no T.
"""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.recurrence import softplus


@triton.jit
def tile_of(x, row, stride: tl.constexpr, column):
    """(rows, columns)"""
    return tl.load(x + row.to(tl.int64)[:, None] * stride + column[None, :])


@triton.jit
def inverse_of(lower, place, CELL: tl.constexpr):
    """(1 + lower)^-1 for what is strictly below the diagonal, row after row: exact where keys are alike, which
    series of powers are not."""
    inverse = -lower
    for index in tl.range(2, CELL):
        here = (place == index)[:, None]
        line = tl.sum(tl.where(here, inverse, 0.0), 0)
        line += tl.sum(line[:, None] * inverse, 0)
        inverse = tl.where(here, line[None, :], inverse)
    return inverse + tl.where(place[:, None] == place[None, :], 1.0, 0.0)


@triton.jit
def cell_kernel(
    qkv, beta, step, rates, dt_bias, cells, own, taken, scores, factors, scale, QKV_STRIDE: tl.constexpr,
    BETA_STRIDE: tl.constexpr, STEP_STRIDE: tl.constexpr, KEY_HEADS: tl.constexpr, VALUE_HEADS: tl.constexpr,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, TILED: tl.constexpr, CELL: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Program (c, h): cell c, whose first row is cells[c], of value head h. Inputs are those of `delta_kernel`.

    own: (cells, VALUE_HEADS, CELL, VALUE_DIM) U where S is zero. taken: (..., CELL, KEY_DIM) what S is multiplied by to
    be taken from it. scores: (..., CELL, CELL) of queries and keys. factors: (..., 3, CELL) float32, what a row of Q S
    is multiplied by, what a key is, and what S is (CELL times the same).
    """
    head = tl.program_id(1)
    key_head = head % KEY_HEADS if TILED else head // (VALUE_HEADS // KEY_HEADS)
    place, key, value = tl.arange(0, CELL), tl.arange(0, KEY_DIM), tl.arange(0, VALUE_DIM)
    row = tl.load(cells + tl.program_id(0)) + place
    wide = row.to(tl.int64)
    time = tl.load(step + wide * STEP_STRIDE + head).to(tl.float32) + tl.load(dt_bias + head)
    decay = tl.cumsum(-tl.load(rates + head) * softplus(time), 0)
    weight = 1.0 / (1.0 + tl.exp(-tl.load(beta + wide * BETA_STRIDE + head).to(tl.float32)))
    last = tl.min(decay, 0)
    seen = place[:, None] >= place[None, :]
    between = tl.exp(tl.where(seen, decay[:, None] - decay[None, :], float("-inf")))

    at_k, at_q = (KEY_HEADS + key_head) * KEY_DIM + key, key_head * KEY_DIM + key
    k, q = tile_of(qkv, row, QKV_STRIDE, at_k).to(tl.float32), tile_of(qkv, row, QKV_STRIDE, at_q).to(tl.float32)
    k_factor, q_factor = tl.rsqrt(tl.sum(k * k, 1) + 1e-6), tl.rsqrt(tl.sum(q * q, 1) + 1e-6) * scale
    keys = (k * k_factor[:, None]).to(DOT)
    unit = (tl.program_id(0).to(tl.int64) * VALUE_HEADS + head) * CELL
    to_factors = factors + unit * 3 + place
    tl.store(to_factors, q_factor * tl.exp(decay))
    tl.store(to_factors + CELL, k_factor * tl.exp(last - decay))
    tl.store(to_factors + 2 * CELL, tl.exp(last + decay * 0.0))
    result = tl.dot((q * q_factor[:, None]).to(DOT), tl.trans(keys), input_precision="ieee") * between
    tl.store(scores + (unit + place)[:, None] * CELL + place[None, :], result.to(scores.dtype.element_ty))

    alike = tl.dot(keys, tl.trans(keys), input_precision="ieee") * between * weight[:, None]
    below = place[:, None] > place[None, :]
    inverse = inverse_of(tl.where(below, alike, 0.0), place, CELL).to(DOT)
    v = tile_of(qkv, row, QKV_STRIDE, 2 * KEY_HEADS * KEY_DIM + head * VALUE_DIM + value).to(tl.float32)
    result = tl.dot(inverse, (v * weight[:, None]).to(DOT), input_precision="ieee")
    tl.store(own + (unit + place)[:, None] * VALUE_DIM + value[None, :], result.to(own.dtype.element_ty))
    # Keys are read again: there is no room for them beside the inverse.
    k = tile_of(qkv, row, QKV_STRIDE, at_k).to(tl.float32) * (k_factor * weight * tl.exp(decay))[:, None]
    result = tl.dot(inverse, k.to(DOT), input_precision="ieee")
    tl.store(taken + (unit + place)[:, None] * KEY_DIM + key[None, :], result.to(taken.dtype.element_ty))


@triton.jit
def cells_kernel(
    qkv, own, taken, scores, factors, states, out, cells, rows, starts, ends, sources, targets,
    QKV_STRIDE: tl.constexpr, KEY_HEADS: tl.constexpr, VALUE_HEADS: tl.constexpr, KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr, COLUMNS: tl.constexpr, TILED: tl.constexpr, CELL: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Program (s, h, c): columns [c * COLUMNS, (c + 1) * COLUMNS) of the state of value head h along run s of cells.

    starts, ends: (pieces,) of cells, whose rows follow each other. The others are those of `cell_kernel` and of
    `delta_kernel`.
    """
    head = tl.program_id(1)
    key_head = head % KEY_HEADS if TILED else head // (VALUE_HEADS // KEY_HEADS)
    first_piece, end_piece = tl.load(rows + tl.program_id(0)), tl.load(rows + tl.program_id(0) + 1)
    place, key = tl.arange(0, CELL), tl.arange(0, KEY_DIM)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    panel = states + head * (KEY_DIM * VALUE_DIM) + key[:, None] * VALUE_DIM + column[None, :]
    origin = tl.load(sources + first_piece).to(tl.int64)
    state = tl.load(panel + origin * (VALUE_HEADS * KEY_DIM * VALUE_DIM), mask=origin >= 0, other=0.0)
    cell = tl.load(starts + first_piece).to(tl.int64)
    row = tl.load(cells + cell) + place
    for piece in tl.range(first_piece, end_piece):
        for _ in tl.range(tl.load(starts + piece), tl.load(ends + piece)):
            at = (cell * VALUE_HEADS + head) * CELL + place
            q = tile_of(qkv, row, QKV_STRIDE, key_head * KEY_DIM + key).to(DOT)
            k = tile_of(qkv, row, QKV_STRIDE, (KEY_HEADS + key_head) * KEY_DIM + key).to(tl.float32)
            removed = tl.load(taken + at[:, None] * KEY_DIM + key[None, :]).to(DOT)
            added = tl.load(own + at[:, None] * VALUE_DIM + column[None, :]).to(tl.float32)
            score = tl.load(scores + at[:, None] * CELL + place[None, :]).to(DOT)
            factor = factors + (cell * VALUE_HEADS + head) * (3 * CELL) + place
            q_factor, k_factor, shrink = tl.load(factor), tl.load(factor + CELL), tl.load(factor + 2 * CELL)
            before = state.to(DOT)
            update = (added - tl.dot(removed, before, input_precision="ieee")).to(DOT)
            result = tl.dot(q, before, input_precision="ieee") * q_factor[:, None]
            result = tl.dot(score, update, result, input_precision="ieee")
            to_out = out + row.to(tl.int64)[:, None] * (VALUE_HEADS * VALUE_DIM) + head * VALUE_DIM + column[None, :]
            tl.store(to_out, result.to(out.dtype.element_ty))
            k = (k * k_factor[:, None]).to(DOT)
            state = tl.dot(tl.trans(k), update, state * tl.max(shrink, 0), input_precision="ieee")
            cell, row = cell + 1, row + CELL
        target = tl.load(targets + piece).to(tl.int64)
        tl.store(panel + target * (VALUE_HEADS * KEY_DIM * VALUE_DIM), state)


@triton.jit
def scores_kernel(
    x, cells, scores, B_AT: tl.constexpr, X_STRIDE: tl.constexpr, GROUPS: tl.constexpr, STATE: tl.constexpr,
    DEPTH: tl.constexpr, CELL: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Program (c, g): the products of C and B in cell c, which all heads of group g share.

    x is that of `scan_kernel`, B_AT its first column of B. scores: (cells, GROUPS, CELL, CELL) float32.
    """
    place = tl.arange(0, CELL)
    row = tl.load(cells + tl.program_id(0)) + place
    total = tl.zeros((CELL, CELL), tl.float32)
    for start in tl.range(0, STATE, DEPTH):
        number = B_AT + tl.program_id(1) * STATE + start + tl.arange(0, DEPTH)
        b, c = tile_of(x, row, X_STRIDE, number).to(DOT), tile_of(x, row, X_STRIDE, number + GROUPS * STATE).to(DOT)
        total = tl.dot(c, tl.trans(b), total, input_precision="ieee")
    unit = (tl.program_id(0).to(tl.int64) * GROUPS + tl.program_id(1)) * CELL
    tl.store(scores + (unit + place)[:, None] * CELL + place[None, :], total)


@triton.jit
def scan_cells_kernel(
    x, step, rates, skips, dt_bias, scores, states, out, cells, rows, starts, ends, sources, targets, low, high,
    X_STRIDE: tl.constexpr, STEP_STRIDE: tl.constexpr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    GROUPS: tl.constexpr, STATE: tl.constexpr, OUTPUTS: tl.constexpr, CELL: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Program (s, h, i): rows [i * OUTPUTS, (i + 1) * OUTPUTS) of the state of head h along run s of cells. Inputs are
    those of `scan_kernel`; cells, starts, ends are those of `cells_kernel`."""
    head = tl.program_id(1)
    group = head // (HEADS // GROUPS)
    first_piece, end_piece = tl.load(rows + tl.program_id(0)), tl.load(rows + tl.program_id(0) + 1)
    place, number = tl.arange(0, CELL), tl.arange(0, STATE)
    output = tl.program_id(2) * OUTPUTS + tl.arange(0, OUTPUTS)
    panel = states + head * (HEAD_DIM * STATE) + output[None, :] * STATE + number[:, None]
    rate, skip, bias = tl.load(rates + head), tl.load(skips + head), tl.load(dt_bias + head)
    at_b = HEADS * HEAD_DIM + group * STATE + number
    seen = place[:, None] >= place[None, :]
    origin = tl.load(sources + first_piece).to(tl.int64)
    state = tl.load(panel + origin * (HEADS * HEAD_DIM * STATE), mask=origin >= 0, other=0.0)
    cell = tl.load(starts + first_piece).to(tl.int64)
    row = tl.load(cells + cell) + place
    # What does not depend on the piece is computed again for each: kept, it takes more registers than there are.
    for piece in tl.range(first_piece, end_piece, disable_licm=True):
        for _ in tl.range(tl.load(starts + piece), tl.load(ends + piece)):
            to_b = x + row.to(tl.int64)[:, None] * X_STRIDE + at_b[None, :]
            b, c = tl.load(to_b).to(DOT), tl.load(to_b + GROUPS * STATE).to(DOT)  # with the addresses of B
            value = tile_of(x, row, X_STRIDE, head * HEAD_DIM + output).to(tl.float32)
            time = tl.load(step + row.to(tl.int64) * STEP_STRIDE + head).to(tl.float32)
            time = tl.minimum(tl.maximum(softplus(time + bias), low), high)
            decay = tl.cumsum(-rate * time, 0)
            last = tl.min(decay, 0)
            between = tl.exp(tl.where(seen, decay[:, None] - decay[None, :], float("-inf")))
            score = scores + ((cell * GROUPS + group) * CELL + place)[:, None] * CELL + place[None, :]
            score = (tl.load(score) * between).to(DOT)
            added = value * time[:, None]
            result = tl.dot(c, state.to(DOT), input_precision="ieee") * tl.exp(decay)[:, None] + skip * value
            result = tl.dot(score, added.to(DOT), result, input_precision="ieee")
            to_out = out + row.to(tl.int64)[:, None] * (HEADS * HEAD_DIM) + head * HEAD_DIM + output[None, :]
            tl.store(to_out, result.to(out.dtype.element_ty))
            added = (added * tl.exp(last - decay)[:, None]).to(DOT)
            state = tl.dot(tl.trans(b), added, state * tl.exp(last), input_precision="ieee")
            cell, row = cell + 1, row + CELL
        target = tl.load(targets + piece).to(tl.int64)
        tl.store(panel + target * (HEADS * HEAD_DIM * STATE), state)
