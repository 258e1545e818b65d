"""Log-probabilities of rows: of one token each, and of the most likely, found as sampling finds its candidates."""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.candidates import LOWEST, collect, keys_of, largest_of, last_key, load_values, survey_part


@triton.jit
def weigh_kernel(logits, maxima, tops, sums, VOCABULARY: tl.constexpr, PART: tl.constexpr):
    """Program (i, j): what a survey finds of part j of logits[i] at temperature 1."""
    index = tl.program_id(0).to(tl.int64)
    PARTS: tl.constexpr = (VOCABULARY + PART - 1) // PART
    survey_part(
        logits + index * VOCABULARY, maxima + index * PARTS * (PART // 32), tops + index * PARTS, sums + index * PARTS,
        tl.program_id(1), 1.0, VOCABULARY, PART,
    )  # fmt: skip


@triton.jit(do_not_specialize=["count"])
def report_kernel(
    logits, tokens, maxima, tops, sums, places, values, own, ids, best, count,
    VOCABULARY: tl.constexpr, PART: tl.constexpr, PARTS_PAD: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """Program i: own[i], the log-probability of tokens[i]; ids[i], best[i]: the `count` most likely, falling, among
    equals the lowest ids first. places: (rows, 2, ROOM) int32 and values: (rows, ROOM) float32, the buffer."""
    index = tl.program_id(0).to(tl.int64)
    PARTS: tl.constexpr = (VOCABULARY + PART - 1) // PART
    COUNT: tl.constexpr = PARTS * (PART // 32)
    logits += index * VOCABULARY
    maxima += index * COUNT
    places += index * 2 * ROOM
    values += index * ROOM
    maximum, _ = largest_of(maxima, COUNT, 1024)
    maximum = tl.maximum(maximum, LOWEST)
    part = tl.arange(0, PARTS_PAD)
    top = tl.load(tops + index * PARTS + part, mask=part < PARTS, other=LOWEST)
    sum_ = tl.load(sums + index * PARTS + part, mask=part < PARTS, other=0.0)
    whole = tl.sum(sum_.to(tl.float64) * tl.exp((top - maximum).to(tl.float64)), 0)
    divisor = maximum.to(tl.float64) + tl.log(whole)
    token = tl.load(tokens + index)
    tl.store(own + index, (tl.load(logits + token).to(tl.float64) - divisor).to(tl.float32))
    if count > 0:
        cut = last_key(maxima, maxima, COUNT, count, maximum, 1.0, True, False, 16, 1024)
        found = collect(logits, maxima, places, values, places + ROOM, cut, VOCABULARY, COUNT, ROOM)
        ids += index * count
        best += index * count
        if (found >= count) & (found <= ROOM):
            rank(values, places + ROOM, found, divisor, ids, best, count, True, 256)
        else:
            rank(logits, places, VOCABULARY, divisor, ids, best, count, False, 512)


@triton.jit
def rank(values, names, length, divisor, ids, best, count, NAMED: tl.constexpr, TILE: tl.constexpr):
    """One after the other, the largest behind the one before, in the order of a key and an id in one word."""
    before = tl.full((), 0x7FFFFFFFFFFFFFFF, tl.int64)
    for nth in range(count):
        largest = tl.full((), -1, tl.int64)
        for start in tl.range(0, length, TILE):
            place = start + tl.arange(0, TILE)
            exists = place < length
            key = keys_of(load_values(values, place, exists)).to(tl.int64)
            name = tl.load(names + place, mask=exists, other=0) if NAMED else place
            word = (key << 31) | (0x7FFFFFFF - name.to(tl.int64))
            largest = tl.maximum(largest, tl.max(tl.where(exists & (word < before), word, -1), 0))
        name = 0x7FFFFFFF - (largest & 0x7FFFFFFF)
        key = (largest >> 31).to(tl.uint32).to(tl.int32, bitcast=True)
        bits = tl.where(key < 0, key & 0x7FFFFFFF, ~key)
        tl.store(ids + nth, name.to(tl.int32))
        tl.store(best + nth, (bits.to(tl.float32, bitcast=True).to(tl.float64) - divisor).to(tl.float32))
        before = largest
