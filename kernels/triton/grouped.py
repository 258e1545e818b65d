"""Mixtures of experts: each row chooses some; entries, the pairs of a row and an expert that it chose, sorted by
expert on the device; one launch for the matrices of all experts; the sum of each row.

    chosen     row 0: 5 2    row 1: 2 7    row 2: 5 2          entries 0 to 5
    order      1 2 5 | 0 4 | 3                                 expert 2, 5, 7; of equal ones the lower entry first
    tiles      (2, 0, 3)  (5, 3, 2)  (7, 5, 1)  (., ., 0) ...  expert, first place in `order`, entries of it

How many tiles there are is known to the device alone; the grid has as many as there can be, and those that are empty
end at once. So nobody waits for the device, and the launches can be captured as a graph.
"""

from __future__ import annotations

import triton
import triton.language as tl

from stemma.kernels.triton.linear import packed_product


@triton.jit
def first_largest(values, indices, among):
    """The largest of the values that are `among` those asked for, and the lowest of its indices; 1-D or 2-D."""
    left = tl.where(among, values, float("-inf"))
    largest = tl.max(left)
    return largest, tl.min(tl.where(among & (left == largest), indices, 1 << 30))


@triton.jit
def group_scores(choice, exists, member, TWO_BEST: tl.constexpr):
    """Of each group, (GROUPS, members) -> (GROUPS,): its best choice, or the sum of its two best."""
    choice = tl.where(exists, choice, float("-inf"))
    best = tl.max(choice, 1)
    if TWO_BEST:
        place = tl.min(tl.where(choice == best[:, None], member, 1 << 30), 1)
        best += tl.max(tl.where(member == place[:, None], float("-inf"), choice), 1)
    return best


@triton.jit
def choose_experts_kernel(
    outputs, correction, scales, chosen, weights, scaling,
    EXPERTS: tl.constexpr, TOP_K: tl.constexpr, CHOSEN: tl.constexpr, SCORE: tl.constexpr, GROUPS: tl.constexpr,
    GROUPS_PAD: tl.constexpr, MEMBERS_PAD: tl.constexpr, TOP_GROUPS: tl.constexpr, TWO_BEST: tl.constexpr,
    CORRECTION: tl.constexpr, RENORMALISE: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """Program t: the experts of row t and their weights, best choice first; see `ExpertsSpec`, `expert_weights`.

    outputs: (rows, EXPERTS), the router's. correction, scales: (EXPERTS,) float32. chosen: (rows, TOP_K) int32.
    weights: (rows, TOP_K) float32. CHOSEN >= TOP_K.
    """
    row = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, GROUPS_PAD)
    member = tl.arange(0, MEMBERS_PAD)[None, :]
    expert = group[:, None] * (EXPERTS // GROUPS) + member
    exists = (member < EXPERTS // GROUPS) & (group < GROUPS)[:, None]
    output = tl.load(outputs + row * EXPERTS + expert, mask=exists, other=float("-inf")).to(tl.float32)
    scores = output
    if SCORE == "softmax":
        powers = tl.exp(output - tl.max(output))
        scores = powers / tl.sum(powers)
    if SCORE == "sigmoid":
        scores = 1.0 / (1.0 + tl.exp(-output))
    choice = scores
    if CORRECTION:
        choice += tl.load(correction + expert, mask=exists, other=0.0)
    among = exists
    if GROUPS > 1:
        of_groups = group_scores(choice, exists, member, TWO_BEST)
        left = group < GROUPS
        for _ in tl.static_range(TOP_GROUPS):
            _largest, best = first_largest(of_groups, group, left)
            left = left & (group != best)
        among = exists & ((group < GROUPS) & ~left)[:, None]
    nth = tl.arange(0, CHOSEN)
    indices = tl.zeros((CHOSEN,), tl.int32)
    values = tl.full((CHOSEN,), float("-inf"), tl.float32)
    for place in tl.static_range(TOP_K):
        _largest, best = first_largest(choice, expert, among)
        best = tl.minimum(best, EXPERTS - 1)  # where nothing is a number
        among = among & (expert != best)
        indices = tl.where(nth == place, best, indices)
        values = tl.where(nth == place, tl.sum(tl.where(expert == best, tl.where(exists, scores, 0.0), 0.0)), values)
    if SCORE == "softmax of the chosen":
        values = tl.exp(values - tl.max(values))
        values /= tl.sum(values)
    if RENORMALISE:
        values /= tl.sum(tl.where(nth < TOP_K, values, 0.0))
    values *= scaling
    if SCALES:
        values *= tl.load(scales + indices)
    tl.store(chosen + row * TOP_K + nth, indices, mask=nth < TOP_K)
    tl.store(weights + row * TOP_K + nth, values, mask=nth < TOP_K)


@triton.jit(do_not_specialize=["num_entries", "num_tiles"])
def sort_entries_kernel(
    chosen, order, tiles, num_entries, num_tiles, EXPERTS: tl.constexpr, BINS: tl.constexpr, ROWS: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Program e: the entries and tiles of expert e; the last one: the tiles that are left empty.

    chosen: (num_entries,), experts. order: (num_entries,) int32. tiles: (num_tiles, 3) int32. BINS > EXPERTS.
    Every program counts all entries: they are few, and this way no program waits for another.
    """
    expert = tl.program_id(0)
    bins = tl.arange(0, BINS)
    counts = tl.zeros((BINS,), tl.int32)
    for start in tl.range(0, num_entries, TILE):
        entry = start + tl.arange(0, TILE)
        which = tl.load(chosen + entry, mask=entry < num_entries, other=EXPERTS).to(tl.int32)
        counts += tl.histogram(which, BINS)
    place = tl.sum(tl.where(bins < expert, counts, 0))
    tile = tl.sum(tl.where(bins < expert, (counts + ROWS - 1) // ROWS, 0))
    count = tl.sum(tl.where((bins == expert) & (bins < EXPERTS), counts, 0))
    end = num_tiles if expert == EXPERTS else tile + (count + ROWS - 1) // ROWS
    for start in tl.range(tile, end, TILE):
        at = start + tl.arange(0, TILE)
        before = (at - tile) * ROWS
        record = tiles + at * 3
        tl.store(record, tl.zeros((TILE,), tl.int32) + expert, mask=at < end)
        tl.store(record + 1, place + before, mask=at < end)
        tl.store(record + 2, tl.maximum(tl.minimum(count - before, ROWS), 0), mask=at < end)
    if count > 0:
        for start in tl.range(0, num_entries, TILE):
            entry = start + tl.arange(0, TILE)
            which = tl.load(chosen + entry, mask=entry < num_entries, other=EXPERTS).to(tl.int32)
            own = (which == expert).to(tl.int32)
            tl.store(order + place + tl.cumsum(own, 0) - 1, entry, mask=own > 0)
            place += tl.sum(own)


@triton.jit
def dense_product(
    x, x_row, weights, weight_row,
    IN: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """weights[weight_row] @ x[x_row].T, (OUTPUTS, ROWS) float32."""
    inner = tl.arange(0, DEPTH)
    accumulator = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for step in tl.range(0, (IN + DEPTH - 1) // DEPTH):
        exists = step * DEPTH + inner < IN
        weight_at = weight_row[:, None] * IN + step * DEPTH + inner[None, :]
        x_at = x_row[None, :] * IN + step * DEPTH + inner[:, None]
        weight = tl.load(weights + weight_at, mask=exists[None, :], other=0.0).to(DOT)
        part = tl.load(x + x_at, mask=exists[:, None], other=0.0).to(DOT)
        accumulator = tl.dot(weight, part, accumulator, input_precision="ieee")
    return accumulator


@triton.jit
def grouped_linear_kernel(
    x, row_scales, weights, scales, minima, bias, order, tiles, places, out,
    PLACED: tl.constexpr, SHARED_BY: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr, FORMAT: tl.constexpr,
    GROUP: tl.constexpr, MINIMA: tl.constexpr, BIAS: tl.constexpr, FLOAT16: tl.constexpr, PTX: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr, SLOTS: tl.constexpr, STAGES: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """Program (n, t): outputs [n * OUTPUTS, ...) of the entries of tile t.

    x: (entries / SHARED_BY, IN): SHARED_BY entries beside each other have one row. weights: (experts, OUT, IN) in
    FORMAT "dense", else codes as `packed_linear_kernel` has them, and row_scales. out: (entries, OUT). places: where
    PLACED, which of the weights are an expert's, -1 for none: another launch has that one's.
    """
    expert = tl.load(tiles + tl.program_id(1) * 3).to(tl.int64)
    first = tl.load(tiles + tl.program_id(1) * 3 + 1)
    count = tl.load(tiles + tl.program_id(1) * 3 + 2)
    if PLACED:
        expert = tl.load(places + expert, mask=count > 0, other=-1).to(tl.int64)
        count = tl.where(expert < 0, 0, count)
    if count > 0:
        output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
        output_exists = output < OUT
        nth = tl.arange(0, ROWS)
        entry = tl.load(order + first + tl.minimum(nth, count - 1)).to(tl.int64)
        if FORMAT == "dense":
            weight_row = expert * OUT + tl.minimum(output, OUT - 1)
            accumulator = dense_product(x, entry // SHARED_BY, weights, weight_row, IN, ROWS, OUTPUTS, DEPTH, DOT)
        else:
            accumulator = packed_product(
                x, entry // SHARED_BY, row_scales, weights, scales, minima, expert, tl.program_id(0), 0, IN, OUT,
                FORMAT, GROUP, MINIMA, FLOAT16, PTX, ROWS, OUTPUTS, DEPTH, SLOTS, 1, STAGES, DOT,
            )  # fmt: skip
        if BIAS:
            added = tl.load(bias + expert * OUT + output, mask=output_exists, other=0.0)
            accumulator += added.to(tl.float32)[:, None]
        exists = (nth < count)[None, :] & output_exists[:, None]
        tl.store(out + entry[None, :] * OUT + output[:, None], accumulator.to(out.dtype.element_ty), mask=exists)


@triton.jit
def sum_experts_kernel(
    parts, weights, shared, gate, residual, out, factor,
    EXPERTS: tl.constexpr, FEATURES: tl.constexpr, TILE: tl.constexpr, SHARED: tl.constexpr, GATE: tl.constexpr,
    RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Program (t, i), features of tile i: out[t] = residual[t] + factor * (sum of weights[t, n] * parts[t, n] over n,
    in this order, + shared[t] * sigmoid(gate[t])).

    parts: (rows, EXPERTS, FEATURES). weights: (rows, EXPERTS) float32. `out` may be `residual`.
    """
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    exists = feature < FEATURES
    total = tl.zeros((TILE,), tl.float32)
    for nth in tl.static_range(EXPERTS):
        part = tl.load(parts + (row * EXPERTS + nth) * FEATURES + feature, mask=exists, other=0.0).to(tl.float32)
        total += tl.load(weights + row * EXPERTS + nth) * part
    if SHARED:
        part = tl.load(shared + row * FEATURES + feature, mask=exists, other=0.0).to(tl.float32)
        if GATE:
            part *= 1.0 / (1.0 + tl.exp(-tl.load(gate + row).to(tl.float32)))
        total += part
    total *= factor
    if RESIDUAL:
        total += tl.load(residual + row * FEATURES + feature, mask=exists, other=0.0).to(tl.float32)
    tl.store(out + row * FEATURES + feature, total.to(out.dtype.element_ty), mask=exists)
