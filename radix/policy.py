"""What goes first when memory is short: the queue that every policy is, and the classic ones by rank.

A queue holds the leaves that nobody holds. It never sees the tree, the pool or a token. Times called `churn` count
the blocks ever allocated, the clock that eviction runs by; times called `stamp` are the cache's clock.
"""

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from typing import Protocol, TypeAlias

from stemma.radix.history import Departed
from stemma.radix.tree import Node


class EvictionQueue(Protocol):
    """A policy at work in one cache. An entry counts while the leaf carries the ticket it was given."""

    def push(self, leaf: Node, churn: int) -> None:
        """The leaf may go from now on."""

    def forget(self, leaf: Node) -> None:
        """The leaf may not go any more: it is held, or it has children."""

    def used(self, node: Node, churn: int) -> None:
        """A request matched this node; called before its hits and times change."""

    def returned(self, departed: Departed, share: float, churn: int) -> None:
        """A request asked for this share of an edge that was evicted."""

    def first(self, churn: int) -> Node:
        """The leaf that goes first, left where it is; there is one."""

    def oldest(self) -> float | None:
        """The earliest stamp among the leaves that wait."""

    def __len__(self) -> int: ...


Policy: TypeAlias = Callable[[int], EvictionQueue]  # makes the queue of a cache with that many blocks
Rank: TypeAlias = tuple[float, float]


class StampHeap:
    """Leaves by a rank: lazy deletion, each operation O(log n). Outdated entries are at most half, or 64."""

    __slots__ = ("_heap", "live")

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, int, Node]] = []
        self.live = 0

    def push(self, rank: Rank, leaf: Node) -> None:
        heappush(self._heap, (rank, leaf.ticket, leaf))
        self.live += 1
        if len(self._heap) > 2 * self.live + 64:
            self._heap = [entry for entry in self._heap if entry[2].ticket == entry[1]]
            heapify(self._heap)

    def first(self) -> Node | None:
        """The leaf of the lowest rank, left where it is."""
        while self._heap:
            _, ticket, leaf = self._heap[0]
            if leaf.ticket == ticket:
                return leaf
            heappop(self._heap)
        return None


class Ranked:
    """A policy that gives each leaf a rank when it becomes evictable; the lowest goes first."""

    __slots__ = ("_leaves", "_rank", "_ticket")

    def __init__(self, rank: Callable[[Node], Rank]) -> None:
        self._rank = rank
        self._leaves = StampHeap()
        self._ticket = 0

    def push(self, leaf: Node, churn: int) -> None:
        self._ticket += 1
        leaf.ticket = self._ticket
        self._leaves.push(self._rank(leaf) if leaf.outlook else (float("-inf"), leaf.stamp), leaf)

    def forget(self, leaf: Node) -> None:
        if leaf.ticket:
            leaf.ticket = 0
            self._leaves.live -= 1

    def used(self, node: Node, churn: int) -> None:
        """Ranks follow from what the node itself carries."""

    def returned(self, departed: Departed, share: float, churn: int) -> None:
        """Ranks know nothing of what is gone."""

    def first(self, churn: int) -> Node:
        leaf = self._leaves.first()
        assert leaf is not None
        return leaf

    def oldest(self) -> float | None:
        leaf = self._leaves.first()
        return None if leaf is None else leaf.stamp

    def __len__(self) -> int:
        return self._leaves.live


def lru(num_blocks: int) -> Ranked:
    """The least recently used goes first."""
    return Ranked(lambda leaf: (0.0, leaf.stamp))


def lfu(num_blocks: int) -> Ranked:
    """The least often matched goes first, among equals the least recently used."""
    return Ranked(lambda leaf: (leaf.hits, leaf.stamp))


def slru(num_blocks: int) -> Ranked:
    """Segmented LRU: what was never matched goes before what was (Karedla et al., 1994)."""
    return Ranked(lambda leaf: (min(leaf.hits, 1), leaf.stamp))


def by_priority(num_blocks: int) -> Ranked:
    """The lowest priority goes first, among equals the least recently used."""
    return Ranked(lambda leaf: (leaf.priority, leaf.stamp))


def time_to_live(seconds: Mapping[int, float]) -> Policy:
    """What runs out first goes first: a leaf lives so many seconds after its last use, by its priority."""

    def policy(num_blocks: int) -> Ranked:
        return Ranked(lambda leaf: (leaf.stamp + seconds.get(leaf.priority, 0.0), leaf.stamp))

    return policy
