"""What a row of logits is searched by: the largest of each group of tokens, and the few that can be chosen at all.

A survey reads the row once, by many programs, and leaves the maxima of groups of 32 tokens and the weights of parts of
2,048. The k-th largest maximum cannot be larger than the k-th largest logit, since k groups have one as large: so what
is at least as large is enough for top-k, and is found in the few groups whose maximum is. It goes to a small buffer:

    row        3 1 9 2 | 5 5 0 1 | 2 8 7 1 | 0 1 1 0      top-k of 2
    maxima        9         5         8         1         the second largest: 8
    buffer     9 (token 2), 8 (token 9)                   of two groups; two passes over a row of 16 were one

Searches go over 32-bit keys, sixteen ways at a time, in a buffer or, where it does not fit one, in the row.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
COLDEST: tl.constexpr = tl.constexpr(1.0e-30)
"""Lower temperatures choose what this one chooses, and would divide zero by zero."""
LOWEST: tl.constexpr = tl.constexpr(-3.0e38)
"""The maximum of what has none but -inf, so that differences are numbers."""


@triton.jit
def keys_of(values):
    """float32 -> uint32 in the same order; above 0. Minus zero and zero are equal."""
    bits = (values + 0.0).to(tl.int32, bitcast=True)
    return tl.where(bits < 0, ~bits, bits | -2147483648).to(tl.uint32, bitcast=True)


@triton.jit
def load_values(values, place, exists):
    """float32, -inf where nothing is."""
    return tl.load(values + place, mask=exists, other=float("-inf")).to(tl.float32)


@triton.jit
def weigh(values, maximum, temperature):
    """Probabilities without their divisor, of the logits of a row, in single precision."""
    return tl.exp2((values - maximum) * (LOG2_E / temperature))


@triton.jit
def survey_part(logits, maxima, tops, sums, part, temperature, VOCABULARY: tl.constexpr, PART: tl.constexpr):
    """A part of one row: the maxima of its groups, its own, and with a temperature its weight beside its own maximum.
    All pointers are the row's."""
    GROUPS: tl.constexpr = PART // 32
    token = part * PART + tl.arange(0, PART)
    row = load_values(logits, token, token < VOCABULARY)
    groups = tl.max(tl.reshape(row, (GROUPS, 32)), 1)
    tl.store(maxima + part * GROUPS + tl.arange(0, GROUPS), groups)
    if temperature > 0.0:
        top = tl.maximum(tl.max(groups, 0), LOWEST)
        tl.store(tops + part, top)
        tl.store(sums + part, tl.sum(weigh(row, top, tl.maximum(temperature, COLDEST)), 0))


@triton.jit
def largest_of(maxima, COUNT: tl.constexpr, TILE: tl.constexpr):
    """The largest of a row's maxima, and the first group that has it."""
    best = tl.full((), float("-inf"), tl.float32)
    first = tl.full((), 0, tl.int32)
    for start in tl.range(0, COUNT, TILE):
        place = start + tl.arange(0, TILE)
        found = load_values(maxima, place, place < COUNT)
        top = tl.max(found, 0)
        here = tl.min(tl.where(found == top, place, COUNT), 0)
        first = tl.where(top > best, here, first)
        best = tl.maximum(best, top)
    return best, first


@triton.jit
def last_key(
    values, weights, length, goal, maximum, temperature,
    COUNT: tl.constexpr, STORED: tl.constexpr, BITS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The largest key such that the count, or else the weight, of all that is at least as large reaches the goal; 0 if
    none does. Of its BITS upper bits; the others are 0. STORED: weights are there; else they are computed."""
    best = tl.full((), 0, tl.uint32)
    way = tl.arange(0, 16).to(tl.uint32)
    unit = tl.full((), 0x10000000, tl.uint32)
    for _ in range(BITS // 4):
        pivots = best + unit * way
        reached = tl.zeros((16,), tl.int32 if COUNT else tl.float64)
        for start in tl.range(0, length, TILE):
            place = start + tl.arange(0, TILE)
            exists = place < length
            row = load_values(values, place, exists)
            inside = exists[:, None] & (keys_of(row)[:, None] >= pivots[None, :])
            if COUNT:
                reached += tl.sum(inside.to(tl.int32), 0)
            elif STORED:
                own = tl.load(weights + place, mask=exists, other=0.0)
                reached += tl.sum(tl.where(inside, own[:, None], 0.0), 0)
            else:
                own = weigh(row, maximum, temperature)
                reached += tl.sum(tl.where(inside, own[:, None], 0.0), 0).to(tl.float64)
        ways = tl.sum((reached >= goal).to(tl.int32), 0)  # falling from pivot to pivot
        best += unit * tl.maximum(ways - 1, 0).to(tl.uint32)
        unit = unit // 16
    return best


@triton.jit
def collect(logits, maxima, list_, values, ids, cut, VOCABULARY: tl.constexpr, COUNT: tl.constexpr, ROOM: tl.constexpr):
    """To the buffer, by ascending id, what is finite and has a key of at least `cut`. Returns how many there are; where
    there are more than ROOM it is not all of them, and the number is larger than that.

    list_: ROOM places for the groups that have some.
    """
    cut = tl.maximum(cut, 0x00800000)  # the key behind that of -inf
    num_groups = tl.full((), 0, tl.int32)
    for start in tl.range(0, COUNT, 1024):
        place = start + tl.arange(0, 1024)
        exists = place < COUNT
        chosen = (exists & (keys_of(load_values(maxima, place, exists)) >= cut)).to(tl.int32)
        to = num_groups + tl.cumsum(chosen, 0) - 1
        tl.store(list_ + to, place, mask=(chosen == 1) & (to < ROOM))
        num_groups += tl.sum(chosen, 0)
    found = num_groups
    if num_groups <= ROOM:
        tl.debug_barrier()  # the list is read by other threads than those that wrote it
        found = tl.full((), 0, tl.int32)
        for start in tl.range(0, num_groups, 32):
            nth = start + tl.arange(0, 32)
            group = tl.load(list_ + nth, mask=nth < num_groups, other=0)
            token = tl.reshape(group[:, None] * 32 + tl.arange(0, 32)[None, :], (1024,))
            exists = tl.reshape(tl.broadcast_to((nth < num_groups)[:, None], (32, 32)), (1024,)) & (token < VOCABULARY)
            row = load_values(logits, token, exists)
            chosen = (exists & (keys_of(row) >= cut)).to(tl.int32)
            to = found + tl.cumsum(chosen, 0) - 1
            fits = (chosen == 1) & (to < ROOM)
            tl.store(values + to, row, mask=fits)
            tl.store(ids + to, token, mask=fits)
            found += tl.sum(chosen, 0)
        tl.debug_barrier()
    return found
