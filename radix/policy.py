"""What goes first when memory is short: the queue that every policy is, and the classic ones by rank.

A queue holds the leaves that nobody holds. It never sees the tree, the pool or a token. Times called `churn` count
the blocks ever allocated, the clock that eviction runs by; times called `stamp` are the cache's clock.
"""

from collections import deque
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeAlias, TypeVar

from stemma.radix.history import Departed
from stemma.radix.node import Node


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


RankT = TypeVar("RankT", int, Rank)


class Waiting(Generic[RankT]):
    """Leaves by rank, with lazy deletion: an entry counts while its leaf carries its ticket.

    Ranks mostly come in rising order, as times do: those go to the end of a deque, O(1), and the others to a heap.
    """

    __slots__ = ("_in_order", "_late", "num_live")

    def __init__(self) -> None:
        self._in_order: deque[tuple[RankT, int, Node]] = deque()
        self._late: list[tuple[RankT, int, Node]] = []
        self.num_live = 0

    def push(self, rank: RankT, leaf: Node) -> None:
        """The leaf carries a new ticket."""
        self.num_live += 1
        in_order = self._in_order
        if not in_order or in_order[-1][0] <= rank:
            in_order.append((rank, leaf.ticket, leaf))
        else:
            heappush(self._late, (rank, leaf.ticket, leaf))
        if len(in_order) + len(self._late) > 2 * self.num_live + 64:
            self._in_order = deque(entry for entry in in_order if entry[2].ticket == entry[1])
            self._late = [entry for entry in self._late if entry[2].ticket == entry[1]]
            heapify(self._late)

    def first(self) -> Node | None:
        """The leaf of the lowest rank, left where it is."""
        in_order, late = self._in_order, self._late
        while in_order and in_order[0][2].ticket != in_order[0][1]:
            in_order.popleft()
        while late and late[0][2].ticket != late[0][1]:
            heappop(late)
        if late and (not in_order or late[0][0] < in_order[0][0]):
            return late[0][2]
        return in_order[0][2] if in_order else None

    def last(self) -> Node | None:
        """The leaf of the highest rank that came in order."""
        in_order = self._in_order
        while in_order:
            _, ticket, leaf = in_order[-1]
            if leaf.ticket == ticket:
                return leaf
            in_order.pop()
        return None


class Ranked:
    """A policy that gives each leaf a rank when it becomes evictable; the lowest goes first."""

    __slots__ = ("_leaves", "_rank", "_ticket")

    def __init__(self, rank: Callable[[Node], Rank]) -> None:
        self._rank = rank
        self._leaves: Waiting[Rank] = Waiting()
        self._ticket = 0

    def push(self, leaf: Node, churn: int) -> None:
        self._ticket += 1
        leaf.ticket = self._ticket
        self._leaves.push(self._rank(leaf) if leaf.outlook else (float("-inf"), leaf.stamp), leaf)

    def forget(self, leaf: Node) -> None:
        if leaf.ticket:
            leaf.ticket = 0
            self._leaves.num_live -= 1

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
        return self._leaves.num_live


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
