"""Rows of a table by ids, some of which are still on the device alone."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def embed_kernel(table, ids, sampled, out, factor, FEATURES: tl.constexpr, SCALED: tl.constexpr, TILE: tl.constexpr):
    """Program (i, j): a tile of out[i] = table[ids[i]], of table[sampled[-1 - ids[i]]] where the id is negative; times
    factor if SCALED."""
    index = tl.program_id(0).to(tl.int64)
    token = tl.load(ids + index)
    last = tl.load(sampled + tl.where(token < 0, -1 - token, 0))
    row = tl.where(token < 0, last, token).to(tl.int64)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = feature < FEATURES
    numbers = tl.load(table + row * FEATURES + feature, mask=exists)
    if SCALED:
        numbers = (numbers.to(tl.float32) * factor).to(out.dtype.element_ty)
    tl.store(out + index * FEATURES + feature, numbers, mask=exists)
