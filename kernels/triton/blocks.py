"""Copy on write: the first tokens of blocks to other blocks, in every layer and head, one launch for many copies."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_blocks"])
def copy_kernel(
    pool,
    copies,
    num_blocks,
    NUM_KV_HEADS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROW: tl.constexpr,
    TILE: tl.constexpr,
):
    """Program (c, l, h): copy c of layer l and head h. pool: (layers, num_blocks, NUM_KV_HEADS, BLOCK_SIZE, ROW).

    copies: (copies, 3) source, destination, number of tokens; none of them may read or write what another one writes.
    """
    copy = copies + tl.program_id(0) * 3
    source = tl.load(copy).to(tl.int64)
    destination = tl.load(copy + 1).to(tl.int64)
    length = tl.load(copy + 2) * ROW
    layer = tl.program_id(1).to(tl.int64) * num_blocks
    head = tl.program_id(2)
    read = pool + ((layer + source) * NUM_KV_HEADS + head) * (BLOCK_SIZE * ROW)
    write = pool + ((layer + destination) * NUM_KV_HEADS + head) * (BLOCK_SIZE * ROW)
    for start in tl.range(0, length, TILE):
        element = start + tl.arange(0, TILE)
        tl.store(write + element, tl.load(read + element, mask=element < length), mask=element < length)
