"""Attention over paged KV: one kernel for decode, extend and shared prefixes, and the merge of its pieces.

Its unit of work is a rectangle: some query tokens, all the query heads of one KV head, a range of one block table. A
decode step is rectangles one token high, prefill rectangles reach from the diagonal to position 0, a prefix shared by
many sequences is one rectangle as high as all their tokens. plan.py cuts a step into rectangles.

A launch has as many programs as its GPU runs at a time, however many rectangles there are: each program walks through
units, which are pairs of a rectangle and a KV head. plan.py lists the longest first, and every other round of units is
dealt backwards, so that all programs end at about the same time:

    units, longest first   0 1 2 3 | 4 5 6 7 | 8 9          4 programs: 0 has 0 7 8, 1 has 1 6 9, 2 has 2 5, 3 has 3 4

Which program has a unit changes no number. Online softmax (Milakov and Gimelshein 2018), tiled (Dao 2023), KV split in
pieces (Dao et al. 2023, "Flash-Decoding").
"""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.pairs import even_and_odd, load_queries

RECTANGLE_FIELDS = 6
"""first row, number of rows, where its block table begins, first and end position, piece (-1: no partial)."""

VALUE_GAIN = 256.0
"""A probability times the scale of an 8-bit value may be subnormal in fp16: it is raised, and the product lowered.
What scales may be for this, rope.py sees to."""


@triton.jit
def unit_of(round_start):
    """The unit that this program has in a round of as many units as there are programs."""
    programs, program = tl.num_programs(0), tl.program_id(0)
    is_forward = round_start // programs % 2 == 0
    return round_start + tl.where(is_forward, program, programs - 1 - program)


@triton.jit
def read_rectangle(step, listed, index, exists):
    """First row, number of rows, block table, first position, end position, piece: see RECTANGLE_FIELDS. What does not
    exist has no rows and no positions."""
    rectangle = step + tl.load(listed + 1) + index * 6
    first_row = tl.load(rectangle, mask=exists, other=0)
    num_rows = tl.load(rectangle + 1, mask=exists, other=0)
    table = step + tl.load(rectangle + 2, mask=exists, other=0)
    kv_first = tl.load(rectangle + 3, mask=exists, other=0)
    kv_end = tl.load(rectangle + 4, mask=exists, other=0)
    return first_row, num_rows, table, kv_first, kv_end, tl.load(rectangle + 5, mask=exists, other=0)


@triton.jit
def online_softmax(scores, maximum, total):
    """Weights of a tile of scores below the maximum so far, what earlier sums shrink by, the new maximum and sum."""
    higher = tl.maximum(maximum, tl.max(scores, 1))
    shrink = tl.exp2(maximum - higher)
    weight = tl.exp2(scores - higher[:, None])
    return weight, shrink, higher, total * shrink + tl.sum(weight, 1)


@triton.jit
def divisor(maximum, total, sinks, head, exists, SINKS: tl.constexpr):
    """What weighted values are multiplied and divided by; a head's sink takes part in the sum (gpt-oss)."""
    if SINKS:
        sink = tl.load(sinks + head, mask=exists, other=0.0)
        top = tl.maximum(maximum, sink)
        kept = tl.exp2(maximum - top)
        return kept, total * kept + tl.exp2(sink - top)
    return total * 0.0 + 1.0, total


@triton.jit
def capped(scores, softcap, SOFTCAP: tl.constexpr):
    """softcap * tanh(scores / softcap), if there is a cap (Gemma 2)."""
    if SOFTCAP:
        return softcap * (1.0 - 2.0 / (tl.exp2(scores / softcap * 2.8853900817779268) + 1.0))
    return scores


@triton.jit
def visible(index, position, exists, window, WINDOWED: tl.constexpr):
    """(rows, tokens): which tokens the rows see."""
    seen = exists[None, :] & (index[None, :] <= position[:, None])
    if WINDOWED:
        seen = seen & (index[None, :] > position[:, None] - window)
    return seen


@triton.jit
def first_seen(kv_first, position, row_exists, window, WINDOWED: tl.constexpr):
    """The first token of a rectangle that some row sees."""
    if WINDOWED:
        lowest = tl.min(tl.where(row_exists, position, 2147483647), 0)
        return tl.maximum(lowest - window + 1, kv_first)
    return kv_first


@triton.jit
def load_tile(source, slot, dim, exists, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, PAD: tl.constexpr):
    """(tokens, PAD) of keys or values: the first WIDTH numbers of each token's head."""
    mask = exists[:, None] if PAD == WIDTH else exists[:, None] & (dim < WIDTH)[None, :]
    return tl.load(source + slot[:, None] * HEAD_DIM + dim[None, :], mask=mask, other=0.0)


@triton.jit
def scaled_by_token(tile, scales, slot, exists, gain):
    """(rows, tokens), times the scale that eight-bit KV has for each token, and a gain."""
    return tile * (tl.load(scales + slot, mask=exists, other=0.0).to(tl.float32) * gain)[None, :]


@triton.jit
def store_stats(stats, maximum, total, exists):
    """What `merge_kernel` needs of a piece beside its values."""
    tl.store(stats, maximum, mask=exists)
    tl.store(stats + 1, total, mask=exists)


@triton.jit
def attend_kernel(
    q, keys, values, key_scales, value_scales, out, partial_out, partial_stats, step, listed,
    positions, partial_starts, score_scale, window, softcap, sinks, NUM_KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, HEAD_PAD: tl.constexpr, VALUE_DIM: tl.constexpr,
    VALUE_PAD: tl.constexpr, BLOCK_SIZE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, SCALED: tl.constexpr,
    GAIN: tl.constexpr, DOT: tl.constexpr, WINDOWED: tl.constexpr, SOFTCAP: tl.constexpr, SINKS: tl.constexpr,
    FP8_SCALE: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """Unit u: rectangle u // NUM_KV_HEADS of one KV head. Rows of the tile are (token, query head of the group), token
    first.

    q: (tokens, heads, HEAD_DIM), out: (tokens, heads, VALUE_DIM). keys, values: (blocks, NUM_KV_HEADS, BLOCK_SIZE,
    HEAD_DIM), of values the first VALUE_DIM; of eight bits as pairs, see pairs.py. partial_out: (partials, heads,
    VALUE_DIM) float32, not divided by the sum.
    partial_stats: (partials, heads, 2), the maximum and the sum. step: what was sent of the step, rectangles and block
    tables among it; listed: how many rectangles there are, and where they begin. Scores, cap and sinks are in powers
    of 2.
    """
    num_units = tl.load(listed) * NUM_KV_HEADS
    # What does not depend on the unit is computed again for each: kept, it takes up to 100 registers of the inner loop.
    for round_start in tl.range(0, num_units, tl.num_programs(0), disable_licm=True):
        unit = unit_of(round_start)
        rectangle = read_rectangle(step, listed, unit // NUM_KV_HEADS, unit < num_units)
        first_row, num_rows, table, kv_first, kv_end, piece = rectangle
        kv_head = unit % NUM_KV_HEADS
        row = tl.arange(0, ROWS)
        token = first_row + row // GROUP
        head = kv_head * GROUP + row % GROUP
        row_exists = row // GROUP < num_rows
        value_dim = tl.arange(0, VALUE_PAD)
        tile_exists = row_exists[:, None] & (value_dim < VALUE_DIM)[None, :]
        query_row = token.to(tl.int64) * (NUM_KV_HEADS * GROUP) + head
        if SCALED:
            dim, part = tl.arange(0, HEAD_PAD // 2), tl.arange(0, VALUE_PAD // 2)
            query_exists = row_exists[:, None] & (2 * dim < HEAD_DIM)[None, :]
            to_query = q + query_row[:, None] * HEAD_DIM + 2 * dim[None, :]
            query = load_queries(to_query, query_exists, DOT)
            odd_query = load_queries(to_query + 1, query_exists, DOT)
        else:
            dim = tl.arange(0, HEAD_PAD)
            query_exists = row_exists[:, None] & (dim < HEAD_DIM)[None, :]
            query = tl.load(q + query_row[:, None] * HEAD_DIM + dim[None, :], mask=query_exists, other=0.0).to(DOT)
        position = tl.load(positions + token, mask=row_exists, other=0)

        maximum, total = tl.full((ROWS,), -1.0e38, tl.float32), tl.zeros((ROWS,), tl.float32)
        if SCALED:
            accumulator = tl.zeros((ROWS, VALUE_PAD // 2), tl.float32)
            odd_accumulator = tl.zeros((ROWS, VALUE_PAD // 2), tl.float32)
        else:
            accumulator = tl.zeros((ROWS, VALUE_PAD), tl.float32)
        # Whole tiles that no row sees are left out, so tiles stay where they are. What is unseen in the first one is
        # not read: blocks behind a window hold anything, and zero times NaN is NaN.
        seen_from = first_seen(kv_first, position, row_exists, window, WINDOWED)
        kv_first += (seen_from - kv_first) // TOKENS * TOKENS
        column = tl.arange(0, TOKENS)
        block = tl.load(table + (kv_first + column) // BLOCK_SIZE, mask=kv_first + column < kv_end, other=0)
        for start in tl.range(kv_first, kv_end, TOKENS):
            index = start + column
            exists = index < kv_end
            if WINDOWED:
                exists = exists & (index >= seen_from)
            slot = (block.to(tl.int64) * NUM_KV_HEADS + kv_head) * BLOCK_SIZE + index % BLOCK_SIZE
            # The blocks of the next tile are asked for now, so that no load of this loop waits for another one.
            block = tl.load(table + (index + TOKENS) // BLOCK_SIZE, mask=index + TOKENS < kv_end, other=0)
            if SCALED:
                pairs = load_tile(keys, slot, dim, exists, HEAD_DIM // 2, HEAD_DIM // 2, HEAD_PAD // 2)
                even, odd = even_and_odd(tl.trans(pairs), FP8_SCALE, PTX, DOT)
                scores = tl.dot(query, even, input_precision="ieee")
                scores = tl.dot(odd_query, odd, scores, input_precision="ieee")
                scores = scaled_by_token(scores, key_scales, slot, exists, score_scale)
            else:
                key = load_tile(keys, slot, dim, exists, HEAD_DIM, HEAD_DIM, HEAD_PAD).to(DOT)
                scores = tl.dot(query, tl.trans(key), input_precision="ieee") * score_scale
            seen = visible(index, position, exists, window, WINDOWED)
            scores = tl.where(seen, capped(scores, softcap, SOFTCAP), float("-inf"))
            weight, shrink, maximum, total = online_softmax(scores, maximum, total)
            if SCALED:
                weight = scaled_by_token(weight, value_scales, slot, exists, GAIN).to(DOT)
                pairs = load_tile(values, slot, part, exists, HEAD_DIM // 2, VALUE_DIM // 2, VALUE_PAD // 2)
                even, odd = even_and_odd(pairs, FP8_SCALE, PTX, DOT)
                accumulator = tl.dot(weight, even, accumulator * shrink[:, None], input_precision="ieee")
                odd_accumulator = tl.dot(weight, odd, odd_accumulator * shrink[:, None], input_precision="ieee")
            else:
                value = load_tile(values, slot, value_dim, exists, HEAD_DIM, VALUE_DIM, VALUE_PAD).to(DOT)
                accumulator = tl.dot(weight.to(DOT), value, accumulator * shrink[:, None], input_precision="ieee")
        if SCALED:
            accumulator = tl.reshape(tl.join(accumulator, odd_accumulator), (ROWS, VALUE_PAD)) / GAIN
        if piece < 0:
            kept, sums = divisor(maximum, total, sinks, head, row_exists, SINKS)
            result = accumulator * kept[:, None] / sums[:, None]
            to_out = out + query_row[:, None] * VALUE_DIM + value_dim[None, :]
            tl.store(to_out, result.to(out.dtype.element_ty), mask=tile_exists)
        else:
            partial = tl.load(partial_starts + token, mask=row_exists, other=0) + piece
            partial = partial.to(tl.int64) * (NUM_KV_HEADS * GROUP) + head
            tl.store(partial_out + partial[:, None] * VALUE_DIM + value_dim[None, :], accumulator, mask=tile_exists)
            store_stats(partial_stats + partial * 2, maximum, total, row_exists)


@triton.jit
def merge_kernel(
    partial_out, partial_stats, out, merged_rows, num_merged_rows, partial_starts, sinks, NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr, HEAD_PAD: tl.constexpr, PIECES: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Unit u: the pieces of one head of row merged_rows[u // NUM_HEADS], in order of position, by log-sum-exp."""
    num_units = tl.load(num_merged_rows) * NUM_HEADS
    dim = tl.arange(0, HEAD_PAD)
    for unit in tl.range(tl.program_id(0), num_units, tl.num_programs(0)):
        row, head = tl.load(merged_rows + unit // NUM_HEADS), unit % NUM_HEADS
        first, end = tl.load(partial_starts + row), tl.load(partial_starts + row + 1)
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
        kept, sums = divisor(maximum, total, sinks, head, True, SINKS)
        tl.store(out + offset + dim, (accumulator * kept / sums).to(out.dtype.element_ty), mask=dim < HEAD_DIM)
