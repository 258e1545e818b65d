"""The default policy: keeps what is expected back soonest, by each leaf's own rate of use and by what the cache has
seen of leaves like it. Never walks the tree or all leaves.

    index(leaf) = rate x G(age x rate) x factor x reuse hint              the lowest index goes first

rate     hits of the leaf itself in logical time, drawn towards a prior: frequency, as in LFU, GDSF; kept when evicted
G        how fast leaves of the same kind came back after waiting that long, measured in their own intervals: the best
         ratio, over all horizons, of reuses to time waited (a Gittins index; LHD and EVA rank by such ratios too)
factor   how much more or less often leaves with that many hits came back than `rate` and G had predicted
reuse hint  what the program told when it let go

How far this may part from LRU is the hedge's to say (hedge.py).

G and the factors are learned while the cache runs, from leaves that came back, evicted or not (the ghost list), and
begin as a prior that behaves like LRU among the new and like a decaying LFU among the used.
"""

from array import array
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from math import frexp
from typing import Final

from stemma.radix.ghost_list import Ghost
from stemma.radix.hedge import Hedge
from stemma.radix.leaves import Leaves
from stemma.radix.node import Node
from stemma.radix.policy import Waiting

NUM_BINS: Final = 44
UNITS: Final = 16  # bins of age count sixteenths of the leaf's own interval
TABLE_PRIOR: Final = 256.0  # how many leaves of experience the priors weigh
FACTOR_PRIOR: Final = 16.0
MEMORY: Final = 32.0  # times the prior: experience after which all before weighs half
FACTOR_MEMORY: Final = 256.0
SQRT_2: Final = 2.0**0.5
PRIOR_HITS: Final = 1.5
PRIOR_INTERVAL: Final = 3.6  # times the pool: what a leaf seen once is taken for
MIN_LEVEL: Final = -6  # of factors, as powers of two
MAX_LEVEL: Final = 2
NUM_FACTORS: Final = 33  # by hits: 0, 1, ..., 32 and more
LOWEST_KIND: Final = -3


def age_bin(age: int) -> int:
    """0, 1, 2, 3, then two bins an octave: 4-5, 6-7, 8-11, 12-15, 16-23, ..."""
    if age < 4:
        return age
    bits = age.bit_length()
    index = 2 * bits - 2 + (age >> (bits - 2) & 1)
    return index if index < NUM_BINS else NUM_BINS - 1


def bin_start(index: int) -> int:
    """The lowest age of a bin."""
    return index if index < 4 else (2 + index % 2) << (index // 2 - 1)


def best_ratios(gains: Sequence[float], costs: Sequence[float]) -> list[float]:
    """From each index on, the greatest ratio, over all horizons, of the sums of both until then: a Gittins index."""
    best_from = []
    for first in range(len(gains)):
        gain = cost = best = 0.0
        for last in range(first, len(gains)):
            gain += gains[last]
            cost += costs[last]
            if gain > best * cost:
                best = gain / cost
        best_from.append(best)
    return best_from


class ReuseTable:
    """When leaves of one kind came back, by age bin, and the index G that follows."""

    __slots__ = ("_entered", "_fresh_until", "_prior", "_reused", "index", "num_entered", "num_reused")

    def __init__(self, shape: float, share: float) -> None:
        """The prior: a `share` comes back, the waiting times are Lomax with that `shape`."""
        alive = [(1 + bin_start(index) / UNITS / shape) ** -shape for index in range(NUM_BINS + 1)]
        self._prior = [share * (alive[index] - alive[index + 1]) for index in range(NUM_BINS)]
        self._entered = [0.0] * NUM_BINS
        self._reused = [0.0] * NUM_BINS
        self._fresh_until = 0.0
        self.num_entered = 0.0
        self.num_reused = 0.0
        self.index = self._gittins(1.0)  # G by age bin

    def entered(self, age: int, weight: float) -> None:
        """A leaf begins to wait, at that age."""
        self._entered[age_bin(age)] += weight
        self.num_entered += weight

    def reused(self, age: int, weight: float) -> None:
        """A leaf came back at that age."""
        self._reused[age_bin(age)] += weight
        self.num_reused += weight

    def keep_fresh(self, prior_weight: float) -> None:
        """Make the index anew when there is a tenth more to know."""
        if self.num_entered > self._fresh_until:
            if self.num_entered > MEMORY * prior_weight:
                self._age()
            self.index = self._gittins(prior_weight)
            self._fresh_until = 1.1 * self.num_entered + prior_weight / 2

    def _age(self) -> None:
        self._entered = [weight / 2 for weight in self._entered]
        self._reused = [weight / 2 for weight in self._reused]
        self.num_entered /= 2
        self.num_reused /= 2

    def _gittins(self, prior_weight: float) -> list[float]:
        """G[age] = the greatest, over horizons, of (reuses until then) / (time waited until then)."""
        reused = [seen + prior_weight * share for seen, share in zip(self._reused, self._prior, strict=True)]
        waited, left = [], prior_weight
        for index in range(NUM_BINS):
            left += self._entered[index]
            middle = max(left - reused[index] / 2, 1e-9)
            waited.append((bin_start(index + 1) - bin_start(index)) * middle)
            left -= reused[index]
        return best_ratios(reused, waited)


class Factor:
    """Reuses seen against reuses predicted."""

    __slots__ = ("predicted", "seen")

    def __init__(self) -> None:
        self.seen = 0.0
        self.predicted = 0.0

    def value(self, prior: float) -> float:
        """Above 1 where more came back than predicted; `prior` weighs for 1."""
        return (self.seen + prior) / (self.predicted + prior)

    def keep_recent(self, prior: float) -> None:
        """Let old experience weigh half after so much of it."""
        if self.predicted > FACTOR_MEMORY * prior:
            self.seen, self.predicted = self.seen / 2, self.predicted / 2


class Bucket:
    """Leaves of one table with about the same rate and factor: only the oldest or the newest of them can be first."""

    __slots__ = ("leaves", "number", "weight")

    def __init__(self, number: int, level: int, leaves: Leaves) -> None:
        self.number = number
        self.weight = 2.0**level
        self.leaves: Waiting[int, Node] = Waiting(leaves.awake, array("q"), leaves)  # by their last use


class ReuseQueue:
    """The queue of the default policy: buckets of like leaves, and a heap of the ends of the buckets."""

    __slots__ = (
        "_buckets",
        "_ends",
        "_factor_prior",
        "_factors",
        "_last_bucket",
        "_never_again",
        "_num_blocks",
        "_numbered",
        "_recent",
        "_refresh_at",
        "_table_prior",
        "_tables",
        "_ticket",
        "_weight",
        "_weight_squared",
        "hedge",
        "leaves",
    )

    def __init__(self, num_blocks: int, *, hedged: bool = True) -> None:
        self._num_blocks = num_blocks
        self.hedge = Hedge(num_blocks) if hedged else None
        self.leaves = Leaves()
        # In the order of LRU; empty without a hedge.
        self._recent: Waiting[int, Node] = Waiting(self.leaves.awake, array("q"), self.leaves)
        self._tables: dict[int, ReuseTable] = {}
        self._factors: dict[int, Factor] = {}  # by hits
        self._buckets: dict[tuple[int, int, int], Bucket] = {}
        self._ends: list[tuple[float, int, bool, Bucket]] = []
        self._never_again = Bucket(0, 0, self.leaves)  # the program will not come back to these: they go first
        self._numbered = {0: self._never_again}  # all buckets
        self._last_bucket = 0
        self._refresh_at = -1
        self._ticket = 0
        self._weight = self._weight_squared = 0.0
        self._weigh(8.0)

    # The life of a leaf --------------------------------------------------------------------------

    def push(self, leaf: Node, logical_time: int) -> None:
        self._ticket = leaf.ticket = ticket = self._ticket + 1
        self.leaves.add(leaf)
        if not leaf.rate:
            self._enter(leaf, logical_time)
        if leaf.reuse_hint:
            factor = self._factors[leaf.kind % NUM_FACTORS]
            bucket = self._bucket(leaf, factor.value(self._factor_prior) * leaf.reuse_hint)
        else:
            bucket = self._never_again
        leaf.bucket = bucket.number
        bucket.leaves.push(leaf.used_at, ticket)
        if self.hedge is not None:
            self._recent.push(leaf.touched_at, ticket)
        self.leaves.lay_down()

    def forget(self, leaf: Node) -> None:
        if leaf.ticket:
            self._numbered[leaf.bucket].leaves.num_live -= 1
            if self.hedge is not None:
                self._recent.num_live -= 1
            self.leaves.remove(leaf)
            leaf.ticket = 0

    def used(self, node: Node, logical_time: int) -> None:
        rate = node.rate
        if rate:
            weight, kind = len(node.blocks) - node.shared, node.kind
            self._tables[kind // NUM_FACTORS].reused(int(UNITS * (logical_time - node.used_at) * rate), weight)
            self._factors[kind % NUM_FACTORS].seen += weight
            node.rate = 0.0
            if node.ticket:
                self.forget(node)

    def returned(self, ghost: Ghost, share: float, logical_time: int) -> None:
        if self.hedge is not None:
            self.hedge.returned(ghost, share)
        rate = ghost.rate
        if rate:
            weight, kind = ghost.num_blocks * share, ghost.kind
            self._tables[kind // NUM_FACTORS].reused(int(UNITS * (logical_time - ghost.used_at) * rate), weight)
            self._factors[kind % NUM_FACTORS].seen += weight

    def first(self, logical_time: int) -> Node:
        """A leaf that nobody comes back to, or the end of a bucket with the lowest index. Ends are ranked anew after
        1/32 of the pool was allocated; in between an end is looked at again when it comes first."""
        never_again = self._never_again.leaves
        if never_again.num_live and (leaf := never_again.first()) is not None:
            return leaf
        if self.hedge is None or self.hedge.may_part:
            return self._lowest(logical_time)
        oldest = self._recent.first()
        assert oldest is not None
        # LRU knows no hints: a leaf that will be used soon is not left to it.
        return oldest if oldest.reuse_hint <= 1.0 else self._lowest(logical_time)

    def _lowest(self, logical_time: int) -> Node:
        """The end of a bucket with the lowest index."""
        if logical_time >= self._refresh_at:
            self._refresh(logical_time)
        tables = self._tables
        while True:
            if not self._ends:
                self._refresh(logical_time)
            value, number, newest, bucket = self._ends[0]
            leaf = bucket.leaves.last() if newest else bucket.leaves.first()
            if leaf is None:
                heappop(self._ends)
                continue
            rate, table = leaf.rate, tables[leaf.kind // NUM_FACTORS]
            index = rate * table.index[age_bin(int(UNITS * (logical_time - leaf.used_at) * rate))] * bucket.weight
            if index <= value * 1.0001:
                return leaf
            heapreplace(self._ends, (index, number, newest, bucket))

    def oldest(self) -> float | None:
        leaves = [bucket.leaves.first() for bucket in [self._never_again, *self._buckets.values()]]
        return min((leaf.last_access for leaf in leaves if leaf is not None), default=None)

    def __len__(self) -> int:
        return len(self.leaves)

    # Learning ------------------------------------------------------------------------------------

    def _enter(self, leaf: Node, logical_time: int) -> None:
        """The leaf begins to wait: predict whether it comes back, and note in it as what."""
        weight = len(leaf.blocks) - leaf.shared or 1
        self._weigh(weight)
        hits, used_at = leaf.hits, leaf.used_at
        kind = (1 if hits == 1 else 2 if hits < 4 else 3) - LOWEST_KIND if hits else _kind_of_unused(leaf) - LOWEST_KIND
        table = self._tables.get(kind)
        if table is None:
            table = self._tables[kind] = _new_table(kind + LOWEST_KIND)
        by_hits = hits if hits < NUM_FACTORS else NUM_FACTORS - 1
        factor = self._factors.get(by_hits)
        if factor is None:
            factor = self._factors[by_hits] = Factor()
        prior = self._table_prior
        predicted = (table.num_reused + prior / 2) / (table.num_entered + prior)
        factor.predicted += weight * predicted if predicted < 1.0 else weight
        factor.keep_recent(self._factor_prior)
        rate = (hits + PRIOR_HITS) / (used_at - leaf.born_at + PRIOR_INTERVAL * self._num_blocks)
        table.entered(int(UNITS * (logical_time - used_at) * rate), weight)
        leaf.rate, leaf.kind = rate, NUM_FACTORS * kind + by_hits

    def _bucket(self, leaf: Node, value: float) -> Bucket:
        """The bucket of leaves of one kind and about one rate whose index is to be multiplied by about `value`."""
        level = frexp(value * SQRT_2)[1] - 1  # log2, rounded
        level = MIN_LEVEL if level < MIN_LEVEL else MAX_LEVEL if level > MAX_LEVEL else level
        key = (leaf.kind // NUM_FACTORS, frexp(leaf.rate * leaf.rate)[1], level)
        bucket = self._buckets.get(key)
        if bucket is None:
            self._last_bucket += 1
            bucket = self._buckets[key] = Bucket(self._last_bucket, level, self.leaves)
            self._numbered[bucket.number] = bucket
        return bucket

    def _weigh(self, weight: float) -> None:
        """Blocks come and go together: the priors count in leaves of the mean weight, by blocks."""
        self._weight += weight
        self._weight_squared += weight * weight
        mean = self._weight_squared / self._weight
        self._table_prior, self._factor_prior = TABLE_PRIOR * mean, FACTOR_PRIOR * mean
        if self.hedge is not None:
            self.hedge.leaf_blocks = mean

    # Choosing ------------------------------------------------------------------------------------

    def _refresh(self, logical_time: int) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.leaves.num_live}
        self._numbered = {bucket.number: bucket for bucket in [self._never_again, *self._buckets.values()]}
        self._refresh_at = logical_time + max(self._num_blocks // 32, 2 * len(self._buckets))
        ends: list[tuple[float, int, bool, Bucket]] = []
        for bucket in self._buckets.values():
            leaves, weight = bucket.leaves, bucket.weight
            oldest = leaves.first()
            assert oldest is not None
            ends.append((self._index(oldest, weight, logical_time), len(ends), False, bucket))
            newest = leaves.last()
            if newest is not None and newest is not oldest:
                ends.append((self._index(newest, weight, logical_time), len(ends), True, bucket))
        heapify(ends)
        self._ends = ends
        for table in self._tables.values():
            table.keep_fresh(self._table_prior)

    def _index(self, leaf: Node, weight: float, logical_time: int) -> float:
        rate, table = leaf.rate, self._tables[leaf.kind // NUM_FACTORS]
        return rate * table.index[age_bin(int(UNITS * (logical_time - leaf.used_at) * rate))] * weight


def unhedged(num_blocks: int) -> ReuseQueue:
    """The default policy without its hedge: it does as it predicts, whatever LRU would have had."""
    return ReuseQueue(num_blocks, hedged=False)


def _new_table(kind: int) -> ReuseTable:
    return ReuseTable(1.0, 0.5) if kind <= 0 else ReuseTable(1.5 * 2.0 ** (kind - 1), 0.9)


def _kind_of_unused(leaf: Node) -> int:
    """Kinds are 1 to 3: matched once, two or three times, more often. 0 to -3: never, by how its siblings fared."""
    parent = leaf.parent
    if parent is None or parent.children_born < 4:
        return 0
    share = parent.children_used / parent.children_born
    return -1 if share < 0.1 else -2 if share < 0.4 else -3
