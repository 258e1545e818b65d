"""The packed token mask, and sampling: one program a row finds its token without a sort, without leaving the device.

Top-k and top-p keep a prefix of the row in descending order, ties by ascending id. Its end is found by bisection over
the 2^32 float32 keys, sixteen ways at a time: eight passes over the row, which lies in the L2 cache.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["vocabulary", "num_words"])
def mask_kernel(logits, words, rows, vocabulary, num_words, TILE: tl.constexpr):
    """Program (i, j): logits[rows[i], t] = -inf where bit t % 32 of words[i, t // 32] is 0, for t in tile j."""
    token = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = token < vocabulary
    row = tl.load(rows + tl.program_id(0)).to(tl.int64)
    word = tl.load(words + tl.program_id(0).to(tl.int64) * num_words + token // 32, mask=exists, other=0)
    refused = ((word >> (token % 32)) & 1) == 0
    lowest = tl.full((TILE,), float("-inf"), tl.float32)
    tl.store(logits + row * vocabulary + token, lowest.to(logits.dtype.element_ty), mask=exists & refused)


@triton.jit
def keys_of(row):
    """float32 -> int64 in the same order."""
    bits = row.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)


@triton.jit
def load_row(logits, start, vocabulary, TILE: tl.constexpr):
    """A tile of a row in float32, -inf beyond the end; minus zero becomes zero."""
    token = start + tl.arange(0, TILE)
    return tl.load(logits + token, mask=token < vocabulary, other=float("-inf")).to(tl.float32) + 0.0


@triton.jit
def weigh(row, maximum, temperature):
    """Probabilities without their divisor."""
    return tl.exp((row - maximum) / temperature)


@triton.jit
def largest_key(logits, goal, floor, maximum, temperature, COUNT: tl.constexpr, vocabulary, TILE: tl.constexpr):
    """The largest key such that the count (or else the weight) of all that is at least as large reaches the goal.

    Keys up to `floor` count as reaching it.
    """
    best = tl.full((), -2147483648, tl.int64)
    way = tl.arange(0, 16)
    step = tl.full((), 268435456, tl.int64)
    for _ in range(8):
        pivots = best + step * way
        reached = tl.zeros((16,), tl.float64)
        for start in tl.range(0, vocabulary, TILE):
            row = load_row(logits, start, vocabulary, TILE)
            inside = (start + tl.arange(0, TILE) < vocabulary)[:, None] & (keys_of(row)[:, None] >= pivots[None, :])
            if COUNT:
                reached += tl.sum(inside.to(tl.int32), 0).to(tl.float64)
            else:
                reached += tl.sum(tl.where(inside, weigh(row, maximum, temperature)[:, None], 0.0), 0).to(tl.float64)
        ways = tl.sum(((reached >= goal) | (pivots <= floor)).to(tl.int32), 0)
        best += step * tl.maximum(ways - 1, 0)
        step = step // 16
    return best


@triton.jit
def above(logits, key, maximum, temperature, vocabulary, TILE: tl.constexpr):
    """Count and weight of what is larger than `key`, and the weight of one token at `key`."""
    count = tl.full((), 0, tl.int32)
    weight = tl.full((), 0.0, tl.float64)
    at_key = tl.full((), 0.0, tl.float64)
    for start in tl.range(0, vocabulary, TILE):
        row = load_row(logits, start, vocabulary, TILE)
        keys = keys_of(row)
        weights = weigh(row, maximum, temperature)
        larger = keys > key
        count += tl.sum(larger.to(tl.int32), 0)
        weight += tl.sum(tl.where(larger, weights, 0.0), 0).to(tl.float64)
        at_key = tl.maximum(at_key, tl.max(tl.where(keys == key, weights, 0.0), 0).to(tl.float64))
    return count, weight, at_key


@triton.jit
def kept_weights(row, start, key, ties, passed, least, maximum, temperature, vocabulary, TILE: tl.constexpr):
    """Weights of a tile, 0 for what top-k, top-p and min-p drop; and the number of ties at `key` up to its end."""
    keys = keys_of(row)
    inside = start + tl.arange(0, TILE) < vocabulary
    tied = ((keys == key) & inside).to(tl.int32)
    rank = passed + tl.cumsum(tied, 0)
    weights = weigh(row, maximum, temperature)
    kept = inside & ((keys > key) | ((tied == 1) & (rank <= ties))) & (weights >= least)
    return tl.where(kept, weights, 0.0).to(tl.float64), passed + tl.sum(tied, 0)


@triton.jit(do_not_specialize=["vocabulary"])
def sample_kernel(logits, temperatures, top_ks, top_ps, min_ps, uniforms, tokens, vocabulary, TILE: tl.constexpr):
    """Program i: tokens[i], sampled from logits[i] as `SamplingRows` says. logits: (rows, vocabulary)."""
    index = tl.program_id(0)
    logits += index.to(tl.int64) * vocabulary
    temperature = tl.load(temperatures + index)
    maximum = tl.full((), float("-inf"), tl.float32)
    for start in tl.range(0, vocabulary, TILE):
        maximum = tl.maximum(maximum, tl.max(load_row(logits, start, vocabulary, TILE), 0))
    if temperature == 0.0:
        chosen = vocabulary
        for start in tl.range(0, vocabulary, TILE):
            token = start + tl.arange(0, TILE)
            largest = (load_row(logits, start, vocabulary, TILE) == maximum) & (token < vocabulary)
            chosen = tl.minimum(chosen, tl.min(tl.where(largest, token, vocabulary), 0))
        tl.store(tokens + index, tl.where(chosen < vocabulary, chosen, 0))
        return

    key = tl.full((), -2147483648, tl.int64)
    ties = vocabulary
    top_k = tl.minimum(tl.load(top_ks + index), vocabulary)
    if top_k > 0:
        key = largest_key(logits, top_k.to(tl.float64), key - 1, maximum, temperature, True, vocabulary, TILE)
        larger, _, _ = above(logits, key, maximum, temperature, vocabulary, TILE)
        ties = top_k - larger
    top_p = tl.load(top_ps + index).to(tl.float64)
    if top_p < 1.0:
        _, weight, at_key = above(logits, key, maximum, temperature, vocabulary, TILE)
        goal = top_p * (weight + at_key * ties)
        end = largest_key(logits, goal, key, maximum, temperature, False, vocabulary, TILE)
        _, weight, at_key = above(logits, end, maximum, temperature, vocabulary, TILE)
        wanted = tl.ceil((goal - weight) / tl.maximum(at_key, 1.0e-300))
        wanted = tl.maximum(tl.minimum(wanted, vocabulary * 1.0), 1.0).to(tl.int32)
        ties = tl.where(end == key, tl.minimum(ties, wanted), wanted)
        key = end

    least = tl.load(min_ps + index)
    total = tl.full((), 0.0, tl.float64)
    passed = tl.full((), 0, tl.int32)
    for start in tl.range(0, vocabulary, TILE):
        row = load_row(logits, start, vocabulary, TILE)
        weights, passed = kept_weights(row, start, key, ties, passed, least, maximum, temperature, vocabulary, TILE)
        total += tl.sum(weights, 0)
    goal = tl.load(uniforms + index) * total
    reached = tl.full((), 0.0, tl.float64)
    passed = tl.full((), 0, tl.int32)
    chosen = vocabulary
    last = tl.full((), 0, tl.int32)
    for start in tl.range(0, vocabulary, TILE):
        token = start + tl.arange(0, TILE)
        row = load_row(logits, start, vocabulary, TILE)
        weights, passed = kept_weights(row, start, key, ties, passed, least, maximum, temperature, vocabulary, TILE)
        exceeded = (reached + tl.cumsum(weights, 0) > goal) & (weights > 0.0)
        chosen = tl.minimum(chosen, tl.min(tl.where(exceeded, token, vocabulary), 0))
        last = tl.maximum(last, tl.max(tl.where(weights > 0.0, token, 0), 0))
        reached += tl.sum(weights, 0)
    # The sum of a tile and its running sum may differ in their last bits: then the last kept token is the one.
    tl.store(tokens + index, tl.where(chosen < vocabulary, chosen, last))
