"""The default policy: keeps what is expected back soonest, by each leaf's own rate of use and by what the cache has
seen of leaves like it. Never walks the tree or all leaves.

    index(leaf) = rate x G(age x rate) x factor x outlook              the lowest index goes first

rate     hits per churn of the leaf itself, drawn towards a prior: frequency, as in LFU and GDSF, kept across evictions
G        how fast leaves of the same kind came back after waiting that long, measured in their own intervals: the best
         ratio, over all horizons, of reuses to time waited (a Gittins index; LHD and EVA rank by such ratios too)
factor   how much more or less often leaves with that many hits came back than `rate` and G had foretold
outlook  what the program told when it let go

G and the factors are learned while the cache runs, from leaves that came back, evicted or not (the history), and
begin as a prior that behaves like LRU among the new and like a decaying LFU among the used.
"""

from heapq import heapify, heappop, heapreplace
from math import log2
from typing import NamedTuple

from stemma.radix.history import Departed
from stemma.radix.policy import StampHeap
from stemma.radix.tree import Node

NUM_BINS = 44
UNITS = 16  # bins of age count sixteenths of the leaf's own interval
TABLE_PRIOR = 64.0  # how many leaves of experience the priors weigh
FACTOR_PRIOR = 16.0
MEMORY = 4096.0  # leaves of experience after which the old half weighs half
PRIOR_HITS = 0.5
PRIOR_CHURN = 1.2  # times the pool: what a leaf seen once is taken for
MIN_LEVEL, MAX_LEVEL = -6, 2  # factors, as powers of two


def age_bin(age: int) -> int:
    """0, 1, 2, 3, then two bins an octave: 4-5, 6-7, 8-11, 12-15, 16-23, ..."""
    if age < 4:
        return age
    bits = age.bit_length()
    return min(2 * bits - 2 + (age >> (bits - 2) & 1), NUM_BINS - 1)


def bin_start(index: int) -> int:
    """The lowest age of a bin."""
    return index if index < 4 else (2 + index % 2) << (index // 2 - 1)


class ReuseTable:
    """When leaves of one kind came back, by age bin, and the index G that follows."""

    __slots__ = ("_entered", "_fresh_until", "_index", "_prior", "_reused", "num_entered", "num_reused")

    def __init__(self, shape: float, share: float) -> None:
        """The prior: a `share` comes back, the waiting times are Lomax with that `shape`."""
        alive = [(1 + bin_start(index) / UNITS / shape) ** -shape for index in range(NUM_BINS + 1)]
        self._prior = [share * (alive[index] - alive[index + 1]) for index in range(NUM_BINS)]
        self._entered = [0.0] * NUM_BINS
        self._reused = [0.0] * NUM_BINS
        self._index: list[float] = []
        self._fresh_until = -1.0
        self.num_entered = 0.0
        self.num_reused = 0.0

    def entered(self, age: int, weight: float) -> None:
        """A leaf begins to wait, at that age."""
        self._entered[age_bin(age)] += weight
        self.num_entered += weight

    def reused(self, age: int, weight: float) -> None:
        """A leaf came back at that age."""
        self._reused[age_bin(age)] += weight
        self.num_reused += weight

    def index(self, mean_weight: float) -> list[float]:
        """G by age bin; made anew after each tenth of growth."""
        if self.num_entered > self._fresh_until:
            if self.num_entered > MEMORY * mean_weight:
                self._age()
            self._index = self._gittins(TABLE_PRIOR * mean_weight)
            self._fresh_until = 1.1 * self.num_entered + TABLE_PRIOR * mean_weight / 2
        return self._index

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
        best_from = [0.0] * NUM_BINS
        for first in range(NUM_BINS):
            gain = cost = best = 0.0
            for last in range(first, NUM_BINS):
                gain += reused[last]
                cost += waited[last]
                if gain > best * cost:
                    best = gain / cost
            best_from[first] = best
        return best_from


class Factor:
    """Reuses seen against reuses foretold."""

    __slots__ = ("foretold", "seen")

    def __init__(self) -> None:
        self.seen = 0.0
        self.foretold = 0.0

    def value(self, prior: float) -> float:
        return (self.seen + prior) / (self.foretold + prior)


class Place(NamedTuple):
    """What the policy foretold of a leaf when it began to wait."""

    table: ReuseTable
    factor: Factor
    rate: float


class Line:
    """Leaves of one table with about the same rate and factor, so that only the oldest or the newest can be first."""

    __slots__ = ("_newest", "leaves", "level")

    def __init__(self, level: int) -> None:
        self.level = level
        self.leaves = StampHeap()
        self._newest: list[tuple[int, Node]] = []

    def push(self, leaf: Node) -> None:
        self.leaves.push((leaf.used_at, leaf.stamp), leaf)
        self._newest.append((leaf.ticket, leaf))
        if len(self._newest) > 2 * self.leaves.live + 64:
            self._newest = [entry for entry in self._newest if entry[1].ticket == entry[0]]

    def newest(self) -> Node | None:
        """The leaf pushed last that still waits."""
        while self._newest:
            ticket, leaf = self._newest[-1]
            if leaf.ticket == ticket:
                return leaf
            self._newest.pop()
        return None


class ReuseQueue:
    """The queue of the default policy: lines of like leaves, and a heap of the ends of the lines."""

    __slots__ = (
        "_ends",
        "_factors",
        "_finished",
        "_lines",
        "_live",
        "_num_blocks",
        "_refresh_at",
        "_tables",
        "_ticket",
        "_weight",
        "_weight_squared",
    )

    def __init__(self, num_blocks: int) -> None:
        self._num_blocks = num_blocks
        self._tables: dict[int, ReuseTable] = {}
        self._factors: dict[int, Factor] = {}
        self._lines: dict[tuple[ReuseTable, int, int], Line] = {}
        self._ends: list[tuple[float, int, bool, Line]] = []
        self._finished = StampHeap()  # the program will not come back to these: they go first
        self._refresh_at = -1
        self._live = 0
        self._ticket = 0
        self._weight, self._weight_squared = 1.0, 8.0

    # The life of a leaf --------------------------------------------------------------------------

    def push(self, leaf: Node, churn: int) -> None:
        place = leaf.place
        if not isinstance(place, Place):
            place = leaf.place = self._enter(leaf, churn)
        self._ticket += 1
        self._live += 1
        leaf.ticket = self._ticket
        if leaf.outlook == 0.0:
            leaf.line = self._finished
            self._finished.push((leaf.used_at, leaf.stamp), leaf)
            return
        value = place.factor.value(FACTOR_PRIOR * self._mean_weight) * leaf.outlook
        level = max(MIN_LEVEL, min(MAX_LEVEL, round(log2(max(value, 1e-3)))))
        key = (place.table, round(2 * log2(place.rate)), level)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(level)
        leaf.line = line.leaves
        line.push(leaf)

    def forget(self, leaf: Node) -> None:
        if leaf.ticket:
            assert isinstance(leaf.line, StampHeap)
            leaf.line.live -= 1
            leaf.ticket = 0
            self._live -= 1

    def used(self, node: Node, churn: int) -> None:
        if isinstance(node.place, Place):
            self._came_back(node.place, churn - node.used_at, float(node.owned))
            self.forget(node)
            node.place = None

    def returned(self, departed: Departed, share: float, churn: int) -> None:
        if isinstance(departed.place, Place):
            self._came_back(departed.place, churn - departed.used_at, departed.num_blocks * share)

    def pop(self, churn: int) -> Node:
        leaf = self._finished.first()
        if leaf is None:
            leaf = self._lowest(churn)
        self.forget(leaf)
        return leaf

    def oldest(self) -> float | None:
        leaves = [line.leaves.first() for line in self._lines.values()]
        leaves.append(self._finished.first())
        return min((leaf.stamp for leaf in leaves if leaf is not None), default=None)

    def __len__(self) -> int:
        return self._live

    # Learning ------------------------------------------------------------------------------------

    @property
    def _mean_weight(self) -> float:
        """Blocks that come and go together: as many count as one leaf of experience."""
        return self._weight_squared / self._weight

    def _enter(self, leaf: Node, churn: int) -> Place:
        """The leaf begins to wait: foretell whether it comes back, and note what for."""
        weight = float(max(leaf.owned, 1))
        self._weight += weight
        self._weight_squared += weight * weight
        kind = _kind(leaf)
        table = self._tables.get(kind)
        if table is None:
            table = ReuseTable(1.0, 0.5) if kind <= 0 else ReuseTable(1.5 * 2.0 ** (kind - 1), 0.9)
            self._tables[kind] = table
        factor = self._factors.setdefault(min(leaf.hits, 32), Factor())
        prior = TABLE_PRIOR * self._mean_weight
        factor.foretold += weight * min((table.num_reused + prior / 2) / (table.num_entered + prior), 1.0)
        if factor.foretold > MEMORY * self._mean_weight:
            factor.seen, factor.foretold = factor.seen / 2, factor.foretold / 2
        rate = (leaf.hits + PRIOR_HITS) / (leaf.used_at - leaf.born_at + PRIOR_CHURN * self._num_blocks)
        table.entered(int(UNITS * (churn - leaf.used_at) * rate), weight)
        return Place(table, factor, rate)

    def _came_back(self, place: Place, age: int, weight: float) -> None:
        place.table.reused(int(UNITS * age * place.rate), weight)
        place.factor.seen += weight

    # Choosing ------------------------------------------------------------------------------------

    def _lowest(self, churn: int) -> Node:
        """The end of a line with the lowest index. Ends are ranked anew after each 1/64 of the pool of churn; in
        between an end is looked at again when it comes first."""
        if churn >= self._refresh_at:
            self._refresh(churn)
        while True:
            if not self._ends:
                self._refresh(churn)
            value, number, newest, line = self._ends[0]
            leaf = line.newest() if newest else line.leaves.first()
            if leaf is None:
                heappop(self._ends)
                continue
            index = self._index(leaf, line.level, churn)
            if index <= value * 1.0001:
                return leaf
            heapreplace(self._ends, (index, number, newest, line))

    def _refresh(self, churn: int) -> None:
        self._refresh_at = churn + max(self._num_blocks // 64, 1)
        self._lines = {key: line for key, line in self._lines.items() if line.leaves.live}
        ends: list[tuple[float, int, bool, Line]] = []
        for line in self._lines.values():
            for newest in (False, True):
                leaf = line.newest() if newest else line.leaves.first()
                assert leaf is not None
                ends.append((self._index(leaf, line.level, churn), len(ends), newest, line))
        heapify(ends)
        self._ends = ends

    def _index(self, leaf: Node, level: int, churn: int) -> float:
        place = leaf.place
        assert isinstance(place, Place)
        waited = age_bin(int(UNITS * (churn - leaf.used_at) * place.rate))
        return place.rate * place.table.index(self._mean_weight)[waited] * 2.0**level


def _kind(leaf: Node) -> int:
    """1 to 3: matched once, two or three times, more often. 0 to -3: never, by how its siblings fared."""
    if leaf.hits:
        return 1 if leaf.hits == 1 else 2 if leaf.hits < 4 else 3
    parent = leaf.parent
    if parent is None or parent.children_born < 4:
        return 0
    share = parent.children_used / parent.children_born
    return -1 if share < 0.1 else -2 if share < 0.4 else -3
