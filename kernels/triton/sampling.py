"""Sampling: a row's token is found without a sort, without leaving the device.

Two launches. `survey_kernel` reads every row once, a part by each program. `choose_kernel`, one program a row, finds:

    temperature 0        the first of the largest group's tokens that is the largest
    temperature alone    the part in which the sum of weights passes the number that was drawn, then its token
    top-k, top-p, min-p  candidates (candidates.py), where top-k and top-p end among them by two searches, the token

Weights of candidates are in double precision; there are few. Where there are more than a buffer holds (a top-p at a
high temperature, a top-k of thousands), or fewer than top-p asks for, the same searches go over the row instead.
"""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.candidates import (
    COLDEST,
    LOWEST,
    collect,
    keys_of,
    largest_of,
    last_key,
    load_values,
    survey_part,
    weigh,
)

FIELDS: tl.constexpr = tl.constexpr(8)
"""Words of 32 bits that say how a row is sampled: temperature, top-k, top-p, min-p, and a number in two of them."""


@triton.jit
def survey_kernel(logits, fields, maxima, tops, sums, VOCABULARY: tl.constexpr, PART: tl.constexpr):
    """Program (i, j): part j of logits[i]. maxima: (rows, parts * PART / 32); tops, sums: (rows, parts), float32."""
    index = tl.program_id(0).to(tl.int64)
    PARTS: tl.constexpr = (VOCABULARY + PART - 1) // PART
    survey_part(
        logits + index * VOCABULARY, maxima + index * PARTS * (PART // 32), tops + index * PARTS, sums + index * PARTS,
        tl.program_id(1), tl.load(fields + index * FIELDS), VOCABULARY, PART,
    )  # fmt: skip


@triton.jit
def choose_kernel(
    logits, fields, counts, draws, maxima, tops, sums, places, values, weights, tokens,
    VOCABULARY: tl.constexpr, PART: tl.constexpr, PARTS_PAD: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """Program i: tokens[i], sampled from logits[i] as `SamplingRows` says.

    fields, counts, draws: one memory (rows, FIELDS), read as float32, int32 and float64. maxima, tops, sums: of the
    survey. places: (rows, 2, ROOM) int32, values: (rows, ROOM) float32, weights: (rows, ROOM) float64, the buffer.
    """
    index = tl.program_id(0).to(tl.int64)
    PARTS: tl.constexpr = (VOCABULARY + PART - 1) // PART
    COUNT: tl.constexpr = PARTS * (PART // 32)
    logits += index * VOCABULARY
    maxima += index * COUNT
    temperature = tl.load(fields + index * FIELDS)
    top_k = tl.load(counts + index * FIELDS + 1)
    top_p = tl.load(fields + index * FIELDS + 2)
    min_p = tl.load(fields + index * FIELDS + 3)
    draw = tl.load(draws + index * (FIELDS // 2) + 2)
    top_k = tl.where(top_k < VOCABULARY, top_k, 0)
    maximum, first = largest_of(maxima, COUNT, 1024)
    if temperature <= 0.0:
        token = first * 32 + tl.arange(0, 32)
        row = load_values(logits, token, token < VOCABULARY)
        chosen = tl.min(tl.where(row == maximum, token, VOCABULARY), 0)
    else:
        temperature = tl.maximum(temperature, COLDEST)
        maximum = tl.maximum(maximum, LOWEST)
        part = tl.arange(0, PARTS_PAD)
        top = tl.load(tops + index * PARTS + part, mask=part < PARTS, other=LOWEST)
        own = tl.load(sums + index * PARTS + part, mask=part < PARTS, other=0.0)
        parts = own.to(tl.float64) * tl.exp((top - maximum).to(tl.float64) / temperature.to(tl.float64))
        if (top_k == 0) & (top_p >= 1.0) & (min_p <= 0.0):
            chosen = choose_plainly(logits, parts, top, draw, temperature, VOCABULARY, PART, PARTS_PAD)
        else:
            chosen = choose_among(
                logits, maxima, places + index * 2 * ROOM, values + index * ROOM, weights + index * ROOM,
                top_k, top_p, min_p, draw, maximum, temperature, tl.sum(parts, 0), VOCABULARY, COUNT, ROOM,
            )  # fmt: skip
    tl.store(tokens + index, tl.where(chosen < VOCABULARY, chosen, 0))


@triton.jit
def choose_plainly(
    logits, parts, tops, draw, temperature, VOCABULARY: tl.constexpr, PART: tl.constexpr, PARTS_PAD: tl.constexpr
):
    """The part that the number falls in, then its token, by weights beside the part's own maximum."""
    part = tl.arange(0, PARTS_PAD)
    until = tl.cumsum(parts, 0)
    goal = draw * tl.sum(parts, 0)
    last = tl.max(tl.where(parts > 0.0, part, 0), 0)
    mine = tl.minimum(tl.min(tl.where((until > goal) & (parts > 0.0), part, PARTS_PAD), 0), last)
    before = tl.sum(tl.where(part < mine, parts, 0.0), 0)
    weight = tl.sum(tl.where(part == mine, parts, 0.0), 0)
    top = tl.max(tl.where(part == mine, tops, float("-inf")), 0)
    token = mine * PART + tl.arange(0, PART)
    own = weigh(load_values(logits, token, token < VOCABULARY), top, temperature).to(tl.float64)
    goal = (goal - before) / tl.maximum(weight, 1.0e-300) * tl.sum(own, 0)
    exceeded = (tl.cumsum(own, 0) > goal) & (own > 0.0)
    last = tl.max(tl.where(own > 0.0, token, 0), 0)
    return tl.minimum(tl.min(tl.where(exceeded, token, VOCABULARY), 0), last)


@triton.jit
def choose_among(
    logits, maxima, places, values, weights, top_k, top_p, min_p, draw, maximum, temperature, whole,
    VOCABULARY: tl.constexpr, COUNT: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """Collect candidates and choose; or in the row, if they are not all that it takes. whole: the row's weight."""
    goal = top_p.to(tl.float64) * whole
    if top_k > 0:
        cut = last_key(maxima, maxima, COUNT, top_k, maximum, temperature, True, False, 16, 1024)
    elif top_p < 1.0:
        cut = last_key(maxima, maxima, COUNT, goal, maximum, temperature, False, False, 16, 1024)
    else:
        below = temperature * tl.log(min_p)  # and less by what rounding may have added
        cut = keys_of(maximum + below - (tl.abs(maximum) - below) * 1.0e-6)
    ids = places + ROOM
    found = collect(logits, maxima, places, values, ids, cut, VOCABULARY, COUNT, ROOM)
    reached = tl.full((), 0.0, tl.float64)
    if found <= ROOM:
        for start in tl.range(0, found, 256):
            place = start + tl.arange(0, 256)
            row = load_values(values, place, place < found)
            own = tl.exp((row - maximum).to(tl.float64) / temperature.to(tl.float64))
            tl.store(weights + place, own, mask=place < found)
            reached += tl.sum(own, 0)
        tl.debug_barrier()
    if (found <= ROOM) & ((top_k > 0) | (top_p >= 1.0) | (reached >= goal)):
        chosen = settle(
            values, weights, ids, found, top_k, top_p, min_p, draw, maximum, temperature, whole, True, 256
        )  # fmt: skip
    else:
        chosen = settle(
            logits, weights, ids, VOCABULARY, top_k, top_p, min_p, draw, maximum, temperature, whole, False, 1024
        )  # fmt: skip
    return chosen


@triton.jit
def settle(
    values, weights, ids, length, top_k, top_p, min_p, draw, maximum, temperature, whole,
    STORED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The token among values (length,) by ascending id: a buffer's, with weights and ids; if not STORED, the row's."""
    key = tl.full((), 0, tl.uint32)
    ties = length
    if (top_k > 0) & (top_k < length):
        key = last_key(values, weights, length, top_k, maximum, temperature, True, STORED, 32, TILE)
        larger, _, _ = above(values, weights, length, key, maximum, temperature, STORED, TILE)
        ties = top_k - larger
    if top_p < 1.0:
        _, weight, at_key = above(values, weights, length, key, maximum, temperature, STORED, TILE)
        kept = weight + at_key * ties
        if STORED:
            kept = tl.where(top_k > 0, kept, whole)
        goal = top_p.to(tl.float64) * kept
        end = last_key(values, weights, length, goal, maximum, temperature, False, STORED, 32, TILE)
        end = tl.maximum(tl.minimum(end, keys_of(maximum)), key)
        _, weight, at_key = above(values, weights, length, end, maximum, temperature, STORED, TILE)
        wanted = tl.ceil((goal - weight) / tl.maximum(at_key, 1.0e-300))
        wanted = tl.maximum(tl.minimum(wanted, length * 1.0), 1.0).to(tl.int32)
        ties = tl.where(end == key, tl.minimum(ties, wanted), wanted)
        key = end

    total = tl.full((), 0.0, tl.float64)
    passed = tl.full((), 0, tl.int32)
    for start in tl.range(0, length, TILE):
        own, passed = kept_weights(
            values, weights, start, length, key, ties, passed, min_p, maximum, temperature, STORED, TILE
        )
        total += tl.sum(own, 0)
    goal = draw * total
    reached = tl.full((), 0.0, tl.float64)
    passed = tl.full((), 0, tl.int32)
    chosen = length
    last = tl.full((), 0, tl.int32)
    for start in tl.range(0, length, TILE):
        place = start + tl.arange(0, TILE)
        own, passed = kept_weights(
            values, weights, start, length, key, ties, passed, min_p, maximum, temperature, STORED, TILE
        )
        exceeded = (reached + tl.cumsum(own, 0) > goal) & (own > 0.0)
        chosen = tl.minimum(chosen, tl.min(tl.where(exceeded, place, length), 0))
        last = tl.maximum(last, tl.max(tl.where(own > 0.0, place, 0), 0))
        reached += tl.sum(own, 0)
    # The sum of a tile and its running sum may differ in their last bits: then the last kept token is the one.
    chosen = tl.where(chosen < length, chosen, last)
    if STORED:
        chosen = tl.load(ids + chosen, mask=chosen < length, other=0)
    return chosen


@triton.jit
def load_weights(values, weights, place, exists, maximum, temperature, STORED: tl.constexpr):
    """Keys and weights; both 0 where nothing is."""
    row = load_values(values, place, exists)
    own = tl.load(weights + place, mask=exists, other=0.0) if STORED else weigh(row, maximum, temperature)
    return tl.where(exists, keys_of(row), 0), own


@triton.jit
def above(values, weights, length, key, maximum, temperature, STORED: tl.constexpr, TILE: tl.constexpr):
    """Count and weight of what is larger than `key`, and the weight of one token at `key`."""
    count = tl.full((), 0, tl.int32)
    weight = tl.full((), 0.0, tl.float64)
    at_key = tl.full((), 0.0, tl.float64)
    for start in tl.range(0, length, TILE):
        place = start + tl.arange(0, TILE)
        keys, own = load_weights(values, weights, place, place < length, maximum, temperature, STORED)
        larger = keys > key
        count += tl.sum(larger.to(tl.int32), 0)
        weight += tl.sum(tl.where(larger, own, 0.0), 0).to(tl.float64)
        at_key = tl.maximum(at_key, tl.max(tl.where(keys == key, own, 0.0), 0).to(tl.float64))
    return count, weight, at_key


@triton.jit
def kept_weights(
    values, weights, start, length, key, ties, passed, least, maximum, temperature,
    STORED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Weights of a tile, 0 for what top-k, top-p and min-p drop; and the number of ties at `key` up to its end."""
    place = start + tl.arange(0, TILE)
    keys, own = load_weights(values, weights, place, place < length, maximum, temperature, STORED)
    tied = ((keys == key) & (place < length)).to(tl.int32)
    rank = passed + tl.cumsum(tied, 0)
    kept = (keys > key) | ((tied == 1) & (rank <= ties))
    own = own.to(tl.float64)
    return tl.where(kept & (own >= least.to(tl.float64)), own, 0.0), passed + tl.sum(tied, 0)
