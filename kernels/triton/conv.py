"""The short causal convolution of layers with a state: all tokens of a step at once, and what each piece leaves.

An output is a sum over its taps in one order, and what it reads is either in the step or in the slot from which its
sequence begins: nothing depends on how tokens are divided into pieces and steps. (Gu and Dao 2023, section 3.4.)
"""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.norm import activate


@triton.jit
def inputs_at(
    x, states, row, first, origin, channel, exists, STRIDE: tl.constexpr, CHANNELS: tl.constexpr, EARLIER: tl.constexpr
):
    """Inputs (rows, channels) in float32; rows before `first`, their sequence's first, stand in slot `origin`, or are
    zeros where that is negative."""
    fresh, kept = row >= first, (row < first) & (origin >= 0)
    source = x + row.to(tl.int64)[:, None] * STRIDE + channel[None, :]
    new = tl.load(source, mask=exists & fresh[:, None], other=0.0).to(tl.float32)
    place = origin.to(tl.int64) * EARLIER + row - first + EARLIER
    old = tl.load(states + place[:, None] * CHANNELS + channel[None, :], mask=exists & kept[:, None], other=0.0)
    return tl.where(fresh[:, None], new, old)


@triton.jit(do_not_specialize=["num_tokens"])
def conv_kernel(
    x, weight, bias, states, out, firsts, origins, ends, targets, num_tokens, STRIDE: tl.constexpr,
    CHANNELS: tl.constexpr, TAPS: tl.constexpr, TAPS_PAD: tl.constexpr, TOKENS: tl.constexpr, TILE: tl.constexpr,
    BIAS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Programs (i, c), channels of tile c: TOKENS outputs; those behind the last output, one for each piece, write its
    last TAPS - 1 inputs to its target, if that is not negative.

    x: (tokens, CHANNELS), STRIDE numbers a row. out: (tokens, CHANNELS). weight: (TAPS, CHANNELS) float32, the last tap
    of the token itself. states: (slots, TAPS - 1, CHANNELS) float32. firsts, origins: (tokens,) the first row of a
    token's sequence, and the slot it begins with. ends: (pieces,) the row behind each. No target is an origin.
    """
    channel = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = (channel < CHANNELS)[None, :]
    num_tiles = tl.cdiv(num_tokens, TOKENS)
    if tl.program_id(0) < num_tiles:
        row = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
        real = row < num_tokens
        first = tl.load(firsts + row, mask=real, other=0)
        origin = tl.load(origins + row, mask=real, other=-1)
        exists = real[:, None] & inside
        total = tl.zeros((TOKENS, TILE), tl.float32)
        for tap in tl.static_range(TAPS):
            factor = tl.load(weight + tap * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
            source = row - (TAPS - 1) + tap
            total += factor[None, :] * inputs_at(
                x, states, source, first, origin, channel, exists, STRIDE, CHANNELS, TAPS - 1
            )
        if BIAS:
            total += tl.load(bias + channel, mask=channel < CHANNELS, other=0.0)[None, :]
        if SILU:
            total = activate(total, "silu")
        to_out = out + row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        tl.store(to_out, total.to(out.dtype.element_ty), mask=exists)
    else:
        piece = tl.program_id(0) - num_tiles
        target = tl.load(targets + piece)
        if target >= 0:
            end = tl.load(ends + piece)
            place = tl.arange(0, TAPS_PAD)
            same = place * 0 + end - 1
            first, origin = tl.load(firsts + same), tl.load(origins + same)
            exists = (place < TAPS - 1)[:, None] & inside
            source = end - (TAPS - 1) + place
            kept = inputs_at(x, states, source, first, origin, channel, exists, STRIDE, CHANNELS, TAPS - 1)
            slot = target.to(tl.int64) * (TAPS - 1) + place
            tl.store(states + slot[:, None] * CHANNELS + channel[None, :], kept, mask=exists)
