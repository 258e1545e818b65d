"""Attention over paged KV: one kernel for decode, extend and shared prefixes, and the merge of its pieces.

Its unit of work is a rectangle: some query tokens, all the query heads of one KV head, a range of one block table. A
decode step is rectangles one token high, prefill rectangles reach from the diagonal to position 0, a prefix shared by
many sequences is one rectangle as high as all their tokens. plan.py cuts a step into rectangles.

Online softmax (Milakov and Gimelshein 2018), tiled (Dao 2023), KV split in pieces (Dao et al. 2023, "Flash-Decoding").
"""

from __future__ import annotations

import triton
import triton.language as tl

RECTANGLE_FIELDS = 6
"""first row, number of rows, offset in the block tables, first position, end position, piece (-1: no partial)."""

VALUE_GAIN = 1024.0
"""A probability times the scale of an 8-bit value may be subnormal in fp16: it is raised, and the product lowered."""


@triton.jit
def read_rectangle(rectangle, tables):
    """First row, number of rows, block table, first position, end position, piece: see RECTANGLE_FIELDS."""
    first_row, num_rows = tl.load(rectangle), tl.load(rectangle + 1)
    table = tables + tl.load(rectangle + 2)
    return first_row, num_rows, table, tl.load(rectangle + 3), tl.load(rectangle + 4), tl.load(rectangle + 5)


@triton.jit
def online_softmax(scores, maximum, total):
    """Weights of a tile of scores below the maximum so far, what earlier sums shrink by, the new maximum and sum."""
    higher = tl.maximum(maximum, tl.max(scores, 1))
    shrink = tl.exp2(maximum - higher)
    weight = tl.exp2(scores - higher[:, None])
    return weight, shrink, higher, total * shrink + tl.sum(weight, 1)


@triton.jit
def store_stats(stats, maximum, total, exists):
    """What `merge_kernel` needs of a piece beside its values."""
    tl.store(stats, maximum, mask=exists)
    tl.store(stats + 1, total, mask=exists)


@triton.jit
def attend_kernel(
    q, keys, values, key_scales, value_scales, out, partial_out, partial_stats, rectangles, num_rectangles,
    positions, partial_starts, tables, score_scale, NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr, HEAD_PAD: tl.constexpr, BLOCK_SIZE: tl.constexpr, ROWS: tl.constexpr,
    TOKENS: tl.constexpr, SCALED: tl.constexpr, GAIN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Program (r, h): rectangle r of KV head h. Rows of the tile are (token, query head of the group), token first.

    q, out: (tokens, NUM_KV_HEADS * GROUP, HEAD_DIM). keys, values: (blocks, NUM_KV_HEADS, BLOCK_SIZE, HEAD_DIM).
    partial_out: (partials, heads, HEAD_DIM) float32, not divided by the sum. partial_stats: (partials, heads, 2), the
    maximum (of base-2 scores) and the sum.
    """
    if tl.program_id(0) >= tl.load(num_rectangles):
        return
    first_row, num_rows, table, kv_first, kv_end, piece = read_rectangle(rectangles + tl.program_id(0) * 6, tables)
    kv_head = tl.program_id(1)
    row = tl.arange(0, ROWS)
    token = first_row + row // GROUP
    head = kv_head * GROUP + row % GROUP
    row_exists = row // GROUP < num_rows
    dim = tl.arange(0, HEAD_PAD)
    dim_exists = dim < HEAD_DIM
    tile_exists = row_exists[:, None] & dim_exists[None, :]
    query_offset = (token.to(tl.int64) * (NUM_KV_HEADS * GROUP) + head) * HEAD_DIM
    query = tl.load(q + query_offset[:, None] + dim[None, :], mask=tile_exists, other=0.0).to(DOT)
    position = tl.load(positions + token, mask=row_exists, other=0)

    maximum = tl.full((ROWS,), -1.0e38, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    accumulator = tl.zeros((ROWS, HEAD_PAD), tl.float32)
    column = tl.arange(0, TOKENS)
    block = tl.load(table + (kv_first + column) // BLOCK_SIZE, mask=kv_first + column < kv_end, other=0)
    for start in tl.range(kv_first, kv_end, TOKENS):
        index = start + column
        exists = index < kv_end
        slot = (block.to(tl.int64) * NUM_KV_HEADS + kv_head) * BLOCK_SIZE + index % BLOCK_SIZE
        # The blocks of the next tile are asked for now, so that no load of this loop waits for another one.
        block = tl.load(table + (index + TOKENS) // BLOCK_SIZE, mask=index + TOKENS < kv_end, other=0)
        offset = slot[:, None] * HEAD_DIM + dim[None, :]
        tile_mask = exists[:, None] if HEAD_PAD == HEAD_DIM else exists[:, None] & dim_exists[None, :]
        key = tl.load(keys + offset, mask=tile_mask, other=0.0).to(DOT)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * score_scale
        if SCALED:
            scores *= tl.load(key_scales + slot, mask=exists, other=0.0).to(tl.float32)[None, :]
        scores = tl.where(exists[None, :] & (index[None, :] <= position[:, None]), scores, float("-inf"))
        weight, shrink, maximum, total = online_softmax(scores, maximum, total)
        if SCALED:
            weight *= tl.load(value_scales + slot, mask=exists, other=0.0).to(tl.float32)[None, :] * GAIN
        value = tl.load(values + offset, mask=tile_mask, other=0.0).to(DOT)
        accumulator = tl.dot(weight.to(DOT), value, accumulator * shrink[:, None], input_precision="ieee")
    if SCALED:
        accumulator = accumulator / GAIN
    if piece < 0:
        result = accumulator / total[:, None]
        tl.store(out + query_offset[:, None] + dim[None, :], result.to(out.dtype.element_ty), mask=tile_exists)
    else:
        partial = tl.load(partial_starts + token, mask=row_exists, other=0) + piece
        partial = partial.to(tl.int64) * (NUM_KV_HEADS * GROUP) + head
        tl.store(partial_out + partial[:, None] * HEAD_DIM + dim[None, :], accumulator, mask=tile_exists)
        store_stats(partial_stats + partial * 2, maximum, total, row_exists)


@triton.jit
def merge_kernel(
    partial_out,
    partial_stats,
    out,
    merged_rows,
    num_merged_rows,
    partial_starts,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEAD_PAD: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Program (i, h): the pieces of head h of row merged_rows[i], in order of position, by log-sum-exp."""
    if tl.program_id(0) >= tl.load(num_merged_rows):
        return
    row = tl.load(merged_rows + tl.program_id(0))
    head = tl.program_id(1)
    first = tl.load(partial_starts + row)
    end = tl.load(partial_starts + row + 1)
    dim = tl.arange(0, HEAD_PAD)
    maximum = -1.0e38
    total = 0.0
    accumulator = tl.zeros((HEAD_PAD,), tl.float32)
    for start in tl.range(first, end, PIECES):
        piece = start + tl.arange(0, PIECES)
        exists = piece < end
        offset = piece.to(tl.int64) * NUM_HEADS + head
        maxima = tl.load(partial_stats + offset * 2, mask=exists, other=-1.0e38)
        totals = tl.load(partial_stats + offset * 2 + 1, mask=exists, other=0.0)
        pieces = tl.load(
            partial_out + offset[:, None] * HEAD_DIM + dim[None, :],
            mask=exists[:, None] & (dim < HEAD_DIM)[None, :],
            other=0.0,
        )
        higher = tl.maximum(maximum, tl.max(maxima, 0))
        shrink = tl.exp2(maximum - higher)
        weight = tl.exp2(maxima - higher)
        total = total * shrink + tl.sum(totals * weight, 0)
        accumulator = accumulator * shrink + tl.sum(pieces * weight[:, None], 0)
        maximum = higher
    offset = (row.to(tl.int64) * NUM_HEADS + head) * HEAD_DIM
    tl.store(out + offset + dim, (accumulator / total).to(out.dtype.element_ty), mask=dim < HEAD_DIM)
