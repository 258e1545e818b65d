"""Products with weights of four bits, expanded in registers with two integer operations for two weights.

A word of 16 bits holds the codes of inputs i, i + 16, i + 32 and i + 48 of a group of 64, lowest bits first; 16 words a
group. So each of four matrix products of depth 16 reads the same words, shifted. A code becomes a float by standing
right below the leading one of a 16:

    bfloat16   0 10000011 cccc000          float16   0 10011 cccc000000          = 16 + code

    weight = code * scale + minimum = (16 + code) * scale + (minimum - 16 * scale)

scale and minimum belong to 32 inputs, so with few rows they are not multiplied with weights but with sums of products:
of 16 + code and x, and of 1 and x. Weights are never rounded then.

    codes            (tiles of 64 outputs, groups, 64, 16) int16
    scales, minima   (tiles, 2 * groups, 64) float16; without minima the code 8 stands for 0
"""

from __future__ import annotations

import triton
import triton.language as tl

TILE = 64
"""Outputs that lie together."""

SHIFT_0, SHIFT_1, SHIFT_2, SHIFT_3 = (
    tl.constexpr(f"{{ .reg .b32 t; {shift}; lop3.b32 $0, t, 0x00780078, 0x41804180, 0xEA; }}")
    for shift in ("shl.b32 t, $1, 3", "shr.u32 t, $1, 1", "shr.u32 t, $1, 5", "shr.u32 t, $1, 9")
)
"""A code of each of two words to bfloat16."""
HALF_SHIFT_0, HALF_SHIFT_1, HALF_SHIFT_2, HALF_SHIFT_3 = (
    tl.constexpr(f"{{ .reg .b32 t; {shift}; lop3.b32 $0, t, 0x03C003C0, 0x4C004C00, 0xEA; }}")
    for shift in ("shl.b32 t, $1, 6", "shl.b32 t, $1, 2", "shr.u32 t, $1, 2", "shr.u32 t, $1, 6")
)
"""To float16."""


@triton.jit
def expanded(words, NTH: tl.constexpr, FLOAT16: tl.constexpr, PTX: tl.constexpr, DOT: tl.constexpr):
    """16 + the NTH code of each word. PTX: two at a time (LLVM takes them apart), for NVIDIA and no interpreter."""
    if PTX and FLOAT16:
        half_text: tl.constexpr = (
            HALF_SHIFT_0 if NTH == 0 else HALF_SHIFT_1 if NTH == 1 else HALF_SHIFT_2 if NTH == 2 else HALF_SHIFT_3
        )
        result = tl.inline_asm_elementwise(half_text, "=r,r", [words], tl.float16, True, 2)
    elif PTX:
        text: tl.constexpr = SHIFT_0 if NTH == 0 else SHIFT_1 if NTH == 1 else SHIFT_2 if NTH == 2 else SHIFT_3
        result = tl.inline_asm_elementwise(text, "=r,r", [words], tl.bfloat16, True, 2)
    elif FLOAT16:
        code = (words >> (4 * NTH)) & 15
        result = ((code << 6) | 0x4C00).to(tl.int16).to(tl.float16, bitcast=True).to(DOT)
    else:
        code = (words >> (4 * NTH)) & 15
        result = ((code << 3) | 0x4180).to(tl.int16).to(tl.bfloat16, bitcast=True).to(DOT)
    return result


@triton.jit
def nibble_facts(scales, minima, at, MINIMA: tl.constexpr):
    """A scale, and what to add for each 1."""
    scale = tl.load(scales + at).to(tl.float32)
    if MINIMA:
        return scale, tl.load(minima + at).to(tl.float32) - 16.0 * scale
    return scale, -24.0 * scale


@triton.jit
def with_half(
    total, words, FIRST: tl.constexpr, x_0, x_1, zeros, ones, scale, added,
    FLOAT16: tl.constexpr, PTX: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """A sum, and the products of codes FIRST and FIRST + 1 of each word with x, of 32 inputs that share their facts."""
    products = tl.dot(expanded(words, FIRST, FLOAT16, PTX, DOT), x_0, zeros, input_precision="ieee")
    products = tl.dot(expanded(words, FIRST + 1, FLOAT16, PTX, DOT), x_1, products, input_precision="ieee")
    total += scale[:, :, None] * products
    sums = tl.dot(ones, x_0, zeros, input_precision="ieee")
    sums = tl.dot(ones, x_1, sums, input_precision="ieee")
    return total + added[:, :, None] * sums


@triton.jit
def few_rows_product(
    x, x_row, codes, scales, minima, tile, split,
    IN: tl.constexpr, MINIMA: tl.constexpr, FLOAT16: tl.constexpr, PTX: tl.constexpr, ROWS: tl.constexpr,
    SLOTS: tl.constexpr, SPLITS: tl.constexpr, STAGES: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The weights of a tile (of 64 outputs) @ x[x_row].T, (64, ROWS) float32, over a part of the inputs.

    SLOTS groups are multiplied at a time, each into a sum of its own: a warp has one or two of them, and no warp waits
    for another. They are added at the end.
    """
    GROUPS: tl.constexpr = (IN + 63) // 64
    STEPS: tl.constexpr = (GROUPS + SLOTS * SPLITS - 1) // (SLOTS * SPLITS)
    EVEN: tl.constexpr = IN % (64 * SLOTS * SPLITS) == 0
    slot = tl.arange(0, SLOTS)
    output = tl.arange(0, 64)
    inner = tl.arange(0, 16)
    # What is large is added to pointers once; within a tile 32 bits are enough.
    codes += tile * (GROUPS * 1024)
    scales += tile * (GROUPS * 128)
    minima += tile * (GROUPS * 128)
    zeros = tl.zeros((SLOTS, 64, ROWS), tl.float32)
    ones = tl.full((SLOTS, 64, 16), 1.0, DOT)
    total = zeros
    for step in tl.range(0, STEPS, num_stages=STAGES):
        group = (split * STEPS + step) * SLOTS + slot
        exists = (group < GROUPS) | EVEN
        if not EVEN:  # of groups beyond the end, inputs are 0
            group = tl.minimum(group, GROUPS - 1)
        word_at = group[:, None, None] * 1024 + output[None, :, None] * 16 + inner[None, None, :]
        words = tl.load(codes + word_at)
        at = group[:, None] * 128 + output[None, :]
        first, first_added = nibble_facts(scales, minima, at, MINIMA)
        second, second_added = nibble_facts(scales, minima, at + 64, MINIMA)
        from_x = x + x_row[None, None, :] * IN + (group[:, None, None] * 64 + inner[None, :, None])
        # An odd block at the end: the group's upper half is beyond the row.
        upper = exists & ((group * 64 + 32 < IN) | EVEN)
        x_0 = tl.load(from_x, mask=exists[:, None, None], other=0.0).to(DOT)
        x_1 = tl.load(from_x + 16, mask=exists[:, None, None], other=0.0).to(DOT)
        x_2 = tl.load(from_x + 32, mask=upper[:, None, None], other=0.0).to(DOT)
        x_3 = tl.load(from_x + 48, mask=upper[:, None, None], other=0.0).to(DOT)
        total = with_half(total, words, 0, x_0, x_1, zeros, ones, first, first_added, FLOAT16, PTX, DOT)
        total = with_half(total, words, 2, x_2, x_3, zeros, ones, second, second_added, FLOAT16, PTX, DOT)
    return tl.sum(total, 0)


@triton.jit
def scaled(words, scale, added, NTH: tl.constexpr, FLOAT16: tl.constexpr, PTX: tl.constexpr, DOT: tl.constexpr):
    """Weights, rounded to the type of products."""
    wide = expanded(words, NTH, FLOAT16, PTX, DOT).to(tl.float32)
    return (wide * scale[:, None] + added[:, None]).to(DOT)


@triton.jit
def nibble_product(
    x, x_row, codes, scales, minima, output,
    IN: tl.constexpr, MINIMA: tl.constexpr, FLOAT16: tl.constexpr, PTX: tl.constexpr, ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """weights[output] @ x[x_row].T, (OUTPUTS, ROWS) float32, for many rows."""
    GROUPS: tl.constexpr = (IN + 63) // 64
    inner = tl.arange(0, 16)
    accumulator = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for group in tl.range(0, GROUPS):
        at = (output // 64 * GROUPS + group) * 64
        words = tl.load(codes + (at + output % 64)[:, None] * 16 + inner[None, :])
        first, first_added = nibble_facts(scales, minima, 2 * at + output % 64, MINIMA)
        second, second_added = nibble_facts(scales, minima, 2 * at + 64 + output % 64, MINIMA)
        from_x = x + x_row[None, :] * IN + group * 64 + inner[:, None]
        upper = ((inner >= 0) & (group * 64 + 32 < IN))[:, None]
        x_0 = tl.load(from_x).to(DOT)
        x_1 = tl.load(from_x + 16).to(DOT)
        x_2 = tl.load(from_x + 32, mask=upper, other=0.0).to(DOT)
        x_3 = tl.load(from_x + 48, mask=upper, other=0.0).to(DOT)
        weight = scaled(words, first, first_added, 0, FLOAT16, PTX, DOT)
        accumulator = tl.dot(weight, x_0, accumulator, input_precision="ieee")
        weight = scaled(words, first, first_added, 1, FLOAT16, PTX, DOT)
        accumulator = tl.dot(weight, x_1, accumulator, input_precision="ieee")
        weight = scaled(words, second, second_added, 2, FLOAT16, PTX, DOT)
        accumulator = tl.dot(weight, x_2, accumulator, input_precision="ieee")
        weight = scaled(words, second, second_added, 3, FLOAT16, PTX, DOT)
        accumulator = tl.dot(weight, x_3, accumulator, input_precision="ieee")
    return accumulator
