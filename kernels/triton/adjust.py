"""Changes to logits: bias, penalties, what may not end yet and what a grammar forbids, of all rows in one launch."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["vocabulary", "num_words", "num_places", "num_tiles"])
def adjust_kernel(
    logits, rows, tokens, bias, factors, added, guards, masked, words,
    vocabulary, num_words, num_places, num_tiles, LARGEST: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """In place, logits (rows, vocabulary): see `changes.py`.

    The first programs, `num_tiles` for each of the masked rows, write -inf; the others change places, but those that a
    mask refuses, so that no two programs write to one place. guards: (places,) which mask concerns a place, -1 for
    none. masked: the rows of masks. words: (masks, num_words).
    """
    program, num_masks = tl.program_id(0), tl.num_programs(0) - (num_places + TILE - 1) // TILE
    if program < num_masks:
        mask = program // num_tiles
        token = program % num_tiles * TILE + tl.arange(0, TILE)
        exists = token < vocabulary
        row = tl.load(masked + mask).to(tl.int64)
        word = tl.load(words + mask.to(tl.int64) * num_words + token // 32, mask=exists, other=0)
        refused = ((word >> (token % 32)) & 1) == 0
        lowest = tl.full((TILE,), float("-inf"), tl.float32)
        tl.store(logits + row * vocabulary + token, lowest, mask=exists & refused)
    else:
        place = (program - num_masks) * TILE + tl.arange(0, TILE)
        exists = place < num_places
        token = tl.load(tokens + place, mask=exists, other=0)
        guard = tl.load(guards + place, mask=exists, other=-1)
        word = tl.load(words + guard.to(tl.int64) * num_words + token // 32, mask=guard >= 0, other=-1)
        exists = exists & (((word >> (token % 32)) & 1) == 1)
        at = logits + tl.load(rows + place, mask=exists, other=0).to(tl.int64) * vocabulary + token
        value = tl.load(at, mask=exists, other=0.0) + tl.load(bias + place, mask=exists, other=0.0)
        factor = tl.load(factors + place, mask=exists, other=1.0)
        scaled = tl.minimum(tl.where(value > 0.0, value / factor, value * factor), LARGEST)
        value = tl.where(factor == 1.0, value, scaled) + tl.load(added + place, mask=exists, other=0.0)
        tl.store(at, value, mask=exists)
