"""Products with packed weights, expanded in registers: of four bits as nibbles.py has them, or of bytes; or with floats
of 8 bits, which matrix units take as they are, like the rows.

    bytes: value = code * scale + minimum, a signed byte and the facts of its block of 16 or 32 inputs
    floats: value = code * scale, an E4M3 and the scale of its 128 inputs, or of all

The kernel computes the product transposed, weights first: the operand that is expanded in registers is then the one a
tensor core can take from registers, and few rows are not padded to the 64 that wgmma wants of its first operand.

With few rows a matrix is read by many programs at once: those of one tile of outputs each have a part of the inputs,
in a number that its shape alone decides, and leave sums behind. Who is last adds them, always in the same order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.nibbles import few_rows_product, nibble_product


@triton.jit
def spread(blocks, OUTPUTS: tl.constexpr, BLOCKS: tl.constexpr, WIDTH: tl.constexpr):
    """(OUTPUTS, BLOCKS) -> (OUTPUTS, BLOCKS * WIDTH), each value WIDTH times."""
    wide = tl.broadcast_to(blocks[:, :, None], (OUTPUTS, BLOCKS, WIDTH))
    return tl.reshape(wide, (OUTPUTS, BLOCKS * WIDTH)).to(tl.float32)


@triton.jit
def byte_product(
    x, x_row, codes, scales, minima, weight_row, split,
    IN: tl.constexpr, GROUP: tl.constexpr, MINIMA: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr,
    DEPTH: tl.constexpr, SPLITS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """weight[weight_row] @ x[x_row].T, (OUTPUTS, ROWS) float32, over a part of the inputs.

    codes: (outputs, IN) int8. scales, minima: (outputs, IN / GROUP) float16.
    """
    STEPS: tl.constexpr = (IN + DEPTH * SPLITS - 1) // (DEPTH * SPLITS)
    BLOCKS: tl.constexpr = DEPTH // GROUP
    inner = tl.arange(0, DEPTH)
    block = tl.arange(0, BLOCKS)
    accumulator = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for step in tl.range(split * STEPS, (split + 1) * STEPS):
        block_exists = (step * BLOCKS + block < IN // GROUP)[None, :]
        exists = step * DEPTH + inner < IN
        fact_at = weight_row[:, None] * (IN // GROUP) + step * BLOCKS + block[None, :]
        scale = tl.load(scales + fact_at, mask=block_exists, other=0.0)
        code_at = weight_row[:, None] * IN + step * DEPTH + inner[None, :]
        weight = tl.load(codes + code_at, mask=exists[None, :], other=0).to(tl.float32)
        weight *= spread(scale, OUTPUTS, BLOCKS, GROUP)
        if MINIMA:
            minimum = tl.load(minima + fact_at, mask=block_exists, other=0.0)
            weight += spread(minimum, OUTPUTS, BLOCKS, GROUP)
        part = tl.load(x + x_row[None, :] * IN + step * DEPTH + inner[:, None], mask=exists[:, None], other=0.0)
        accumulator = tl.dot(weight.to(DOT), part.to(DOT), accumulator, input_precision="ieee")
    return accumulator


@triton.jit
def float_product(
    x, x_row, row_scales, codes, scales, weight_row, split,
    IN: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    """weight[weight_row] @ (x * row_scales)[x_row].T, (OUTPUTS, ROWS) float32, over a part of the inputs.

    x: (rows, IN) E4M3. row_scales: (rows,) float32. codes: (outputs, IN) E4M3. scales: (outputs, groups) float32, of
    GROUP inputs each; DEPTH divides GROUP, or GROUP is IN. Hopper's units keep some 14 bits of a sum of such products,
    so sums of more than DEPTH inputs are made outside of them, where scales come in as well.
    """
    STEPS: tl.constexpr = (IN + DEPTH * SPLITS - 1) // (DEPTH * SPLITS)
    GROUPS: tl.constexpr = (IN + GROUP - 1) // GROUP
    inner = tl.arange(0, DEPTH)
    accumulator = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for step in tl.range(split * STEPS, (split + 1) * STEPS):
        exists = step * DEPTH + inner < IN
        code_at = weight_row[:, None] * IN + step * DEPTH + inner[None, :]
        weight = tl.load(codes + code_at, mask=exists[None, :], other=0.0)
        part = tl.load(x + x_row[None, :] * IN + step * DEPTH + inner[:, None], mask=exists[:, None], other=0.0)
        product = tl.dot(weight, part)
        if GROUPS > 1:
            group = tl.minimum(step * DEPTH // GROUP, GROUPS - 1)  # beyond the inputs' end products are 0
            product *= tl.load(scales + weight_row * GROUPS + group)[:, None]
        accumulator += product
    if GROUPS == 1:
        accumulator *= tl.load(scales + weight_row)[:, None]
    return accumulator * tl.load(row_scales + x_row)[None, :]


@triton.jit
def packed_product(
    x, x_row, row_scales, codes, scales, minima, matrix, tile, split,
    IN: tl.constexpr, OUT: tl.constexpr, FORMAT: tl.constexpr, GROUP: tl.constexpr, MINIMA: tl.constexpr,
    FLOAT16: tl.constexpr, PTX: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr,
    SLOTS: tl.constexpr, SPLITS: tl.constexpr, STAGES: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Outputs [tile * OUTPUTS, ...) of a matrix, behind `matrix` others, in FORMAT "four bits", "bytes" or "floats", of
    which alone x has row_scales; SLOTS: 0 for many rows. Outputs beyond the end compute some other one again."""
    output = tile * OUTPUTS + tl.arange(0, OUTPUTS)
    if FORMAT == "bytes":
        weight_row = matrix * OUT + tl.minimum(output, OUT - 1)
        product = byte_product(
            x, x_row, codes, scales, minima, weight_row, split, IN, GROUP, MINIMA, ROWS, OUTPUTS, DEPTH, SPLITS, DOT
        )  # fmt: skip
    elif FORMAT == "floats":
        weight_row = matrix * OUT + tl.minimum(output, OUT - 1)
        product = float_product(
            x, x_row, row_scales, codes, scales, weight_row, split, IN, GROUP, ROWS, OUTPUTS, DEPTH, SPLITS
        )  # fmt: skip
    elif SLOTS > 0:
        product = few_rows_product(
            x, x_row, codes, scales, minima, matrix * ((OUT + 63) // 64) + tile, split, IN, MINIMA, FLOAT16, PTX, ROWS,
            SLOTS, SPLITS, STAGES, DOT,
        )  # fmt: skip
    else:
        PADDED: tl.constexpr = (OUT + 63) // 64 * 64
        weight_row = matrix * PADDED + tl.minimum(output, PADDED - 1)
        product = nibble_product(
            x, x_row, codes, scales, minima, weight_row, IN, MINIMA, FLOAT16, PTX, ROWS, OUTPUTS, DOT
        )  # fmt: skip
    return product


@triton.jit
def is_last(counter, PROGRAMS: tl.constexpr):
    """Whether all other programs that share the counter have said what they know; it is 0 again behind the last."""
    tl.debug_barrier()  # all of this program's stores stand before its sign
    last = tl.atomic_add(counter, 1, sem="acq_rel") == PROGRAMS - 1
    if last:
        tl.store(counter, 0)
    return last


@triton.jit(do_not_specialize=["num_rows"])
def packed_linear_kernel(
    x, row_scales, codes, scales, minima, bias, residual, out, partials, counters, num_rows, factor,
    IN: tl.constexpr, OUT: tl.constexpr, FORMAT: tl.constexpr, GROUP: tl.constexpr, MINIMA: tl.constexpr,
    BIAS: tl.constexpr, RESIDUAL: tl.constexpr, FLOAT16: tl.constexpr, PTX: tl.constexpr, ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr, DEPTH: tl.constexpr, SLOTS: tl.constexpr, SPLITS: tl.constexpr, STAGES: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """Program (n, m, k): outputs [n * OUTPUTS, ...) of rows [m * ROWS, ...), the k-th part of the inputs.

    x: (num_rows, IN), IN a multiple of GROUP, DEPTH too. out = (x @ weight.T + bias) * factor + residual, (num_rows,
    OUT), or without residual and factor. partials: (SPLITS, num_rows, OUT) float32; counters: one of each n, all 0.
    With SPLITS there is one m.
    """
    tile = tl.program_id(0)
    split = tl.program_id(2)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tile * OUTPUTS + tl.arange(0, OUTPUTS)
    # Rows beyond the end compute the last one again: no mask, and nothing of theirs is stored.
    x_row = tl.minimum(row, num_rows - 1).to(tl.int64)
    accumulator = packed_product(
        x, x_row, row_scales, codes, scales, minima, tl.zeros((), tl.int64), tile, split, IN, OUT, FORMAT, GROUP,
        MINIMA, FLOAT16, PTX, ROWS, OUTPUTS, DEPTH, SLOTS, SPLITS, STAGES, DOT,
    )  # fmt: skip
    at = row.to(tl.int64)[None, :] * OUT + output[:, None]
    exists = (row < num_rows)[None, :] & (output < OUT)[:, None]
    finish = True
    if SPLITS > 1:
        tl.store(partials + split.to(tl.int64) * num_rows * OUT + at, accumulator, mask=exists)
        finish = is_last(counters + tile, SPLITS)
    if finish:
        if SPLITS > 1:
            accumulator = tl.zeros((OUTPUTS, ROWS), tl.float32)
            for part in tl.static_range(SPLITS):
                source = partials + tl.cast(part, tl.int64) * num_rows * OUT + at
                accumulator += tl.load(source, mask=exists, other=0.0, cache_modifier=".cg")
        if BIAS:
            accumulator += tl.load(bias + output, mask=output < OUT, other=0.0).to(tl.float32)[:, None]
        if RESIDUAL:
            accumulator *= factor
            accumulator += tl.load(residual + at, mask=exists, other=0.0).to(tl.float32)
        tl.store(out + at, accumulator.to(out.dtype.element_ty), mask=exists)
