"""Rows of a table by ids, some of which are still on the device alone. A table may be packed, as the matrix that makes
logits is: its rows are unpacked as they are read, into the numbers that products take."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def row_of(ids, sampled, index):
    """The row of the table that ids[index] names: sampled[-1 - id] where the id is negative."""
    token = tl.load(ids + index)
    last = tl.load(sampled + tl.where(token < 0, -1 - token, 0))
    return tl.where(token < 0, last, token).to(tl.int64)


@triton.jit
def embed_kernel(table, ids, sampled, out, factor, FEATURES: tl.constexpr, SCALED: tl.constexpr, TILE: tl.constexpr):
    """Program (i, j): a tile of out[i] = table[ids[i]], of table[sampled[-1 - ids[i]]] where the id is negative; times
    factor if SCALED."""
    index = tl.program_id(0).to(tl.int64)
    row = row_of(ids, sampled, index)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = feature < FEATURES
    numbers = tl.load(table + row * FEATURES + feature, mask=exists)
    if SCALED:
        numbers = (numbers.to(tl.float32) * factor).to(out.dtype.element_ty)
    tl.store(out + index * FEATURES + feature, numbers, mask=exists)


@triton.jit
def embed_packed_kernel(
    codes, scales, minima, ids, sampled, out, factor,
    FEATURES: tl.constexpr, FORMAT: tl.constexpr, GROUP: tl.constexpr, MINIMA: tl.constexpr, SCALED: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """The same of a table in FORMAT "four bits" (nibbles.py) or "bytes" (linear.py), rounded once, at the end."""
    index = tl.program_id(0).to(tl.int64)
    row = row_of(ids, sampled, index)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = feature < FEATURES
    if FORMAT == "four bits":
        GROUPS: tl.constexpr = (FEATURES + 63) // 64
        first, output = row // 64 * GROUPS, row % 64
        word = tl.load(codes + (first * 1024 + output * 16) + (feature // 64 * 1024 + feature % 16), mask=exists)
        code = ((word.to(tl.int32) >> (feature % 64 // 16 * 4)) & 15).to(tl.float32)
        fact_at = (first * 128 + output) + feature // 32 * 64
        scale = tl.load(scales + fact_at, mask=exists).to(tl.float32)
        if not MINIMA:
            code -= 8.0
    else:
        code = tl.load(codes + row * FEATURES + feature, mask=exists).to(tl.float32)
        fact_at = row * (FEATURES // GROUP) + feature // GROUP
        scale = tl.load(scales + fact_at, mask=exists).to(tl.float32)
    numbers = code * scale
    if MINIMA:
        numbers += tl.load(minima + fact_at, mask=exists).to(tl.float32)
    if SCALED:
        numbers *= factor
    tl.store(out + index * FEATURES + feature, numbers.to(out.dtype.element_ty), mask=exists)
