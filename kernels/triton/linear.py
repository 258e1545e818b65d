"""Products with packed weights: blocks of 32 of four bits (GGUF's Q4_0, Q4_1) or of bytes (Q8_0; Q5_0 and IQ4_NL, which
are widened when loading), expanded in registers.

    four bits: byte j of a block holds value j (low nibble) and value j + 16 (high nibble): 16 bytes
    eight bits: byte j of a block holds value j: 32 bytes
    value = code * scale + minimum, of its block (eight bits: no minimum)

The kernel computes the product transposed, weights first: the operand that is expanded in registers is then the one a
tensor core can take from registers, and 16 rows are not padded to the 64 that wgmma wants of its first operand.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def spread(blocks, OUTPUTS: tl.constexpr, BLOCKS: tl.constexpr, WIDTH: tl.constexpr):
    """(OUTPUTS, BLOCKS) -> (OUTPUTS, BLOCKS * WIDTH), each value WIDTH times."""
    wide = tl.broadcast_to(blocks[:, :, None], (OUTPUTS, BLOCKS, WIDTH))
    return tl.reshape(wide, (OUTPUTS, BLOCKS * WIDTH))


@triton.jit
def block_product(
    x, x_row, codes, scales, minima, weight_row,
    IN: tl.constexpr, FOUR_BITS: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """weight[weight_row] @ x[x_row].T, (OUTPUTS, ROWS) float32, of weights in blocks."""
    BLOCKS: tl.constexpr = DEPTH // 32
    BYTES: tl.constexpr = DEPTH // 2 if FOUR_BITS else DEPTH
    ROW_BYTES: tl.constexpr = IN // 2 if FOUR_BITS else IN
    WIDTH: tl.constexpr = 16 if FOUR_BITS else 32
    byte = tl.arange(0, BYTES)
    block = tl.arange(0, BLOCKS)
    value = byte // WIDTH * 32 + byte % WIDTH
    accumulator = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for step in tl.range(0, (IN + DEPTH - 1) // DEPTH):
        block_exists = (step * BLOCKS + block < IN // 32)[None, :]
        byte_exists = step * BYTES + byte < ROW_BYTES
        scale_at = weight_row[:, None] * (IN // 32) + step * BLOCKS + block[None, :]
        scale = spread(tl.load(scales + scale_at, mask=block_exists, other=0.0), OUTPUTS, BLOCKS, WIDTH).to(tl.float32)
        code_at = weight_row[:, None] * ROW_BYTES + step * BYTES + byte[None, :]
        code = tl.load(codes + code_at, mask=byte_exists[None, :], other=0)
        x_at = x_row[None, :] * IN + step * DEPTH + value[:, None]
        low_x = tl.load(x + x_at, mask=byte_exists[:, None], other=0.0).to(DOT)
        if FOUR_BITS:
            minimum = tl.load(minima + scale_at, mask=block_exists, other=0.0)
            minimum = spread(minimum, OUTPUTS, BLOCKS, WIDTH).to(tl.float32)
            low = (code & 15).to(tl.float32) * scale + minimum
            high = (code >> 4).to(tl.float32) * scale + minimum
            high_x = tl.load(x + x_at + 16, mask=byte_exists[:, None], other=0.0).to(DOT)
            accumulator = tl.dot(low.to(DOT), low_x, accumulator, input_precision="ieee")
            accumulator = tl.dot(high.to(DOT), high_x, accumulator, input_precision="ieee")
        else:
            weight = (code.to(tl.float32) * scale).to(DOT)
            accumulator = tl.dot(weight, low_x, accumulator, input_precision="ieee")
    return accumulator


@triton.jit(do_not_specialize=["num_rows"])
def packed_linear_kernel(
    x, codes, scales, minima, bias, residual, out, num_rows, factor,
    IN: tl.constexpr, OUT: tl.constexpr, FOUR_BITS: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Program (n, m): outputs [n * OUTPUTS, ...) of rows [m * ROWS, ...).

    x: (num_rows, IN). codes: (OUT, IN / 2) uint8 or (OUT, IN) int8. scales, minima: (OUT, IN / 32) float16.
    out = (x @ weight.T + bias) * factor + residual, (num_rows, OUT), or without residual and
    factor. IN is a multiple of 32, DEPTH (of one step) too.
    """
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output_exists = output < OUT
    row_exists = row < num_rows
    # Outputs and rows beyond the end compute the last one again: no mask, and nothing of theirs is stored.
    weight_row = tl.minimum(output, OUT - 1).to(tl.int64)
    x_row = tl.minimum(row, num_rows - 1).to(tl.int64)
    accumulator = block_product(
        x, x_row, codes, scales, minima, weight_row, IN, FOUR_BITS, ROWS, OUTPUTS, DEPTH, DOT
    )  # fmt: skip
    if BIAS:
        accumulator += tl.load(bias + output, mask=output_exists, other=0.0).to(tl.float32)[:, None]
    at = row.to(tl.int64)[None, :] * OUT + output[:, None]
    exists = row_exists[None, :] & output_exists[:, None]
    if RESIDUAL:
        accumulator *= factor
        accumulator += tl.load(residual + at, mask=exists, other=0.0).to(tl.float32)
    tl.store(out + at, accumulator.to(out.dtype.element_ty), mask=exists)
