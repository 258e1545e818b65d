"""What goes first when memory is short: the queue that every policy is, and the classic ones by rank.

A queue holds the leaves that nobody holds. It never sees the tree, the pool or a token. `logical_time` counts the
blocks ever allocated, the clock that eviction runs by; `last_access` is by the cache's clock.
"""

from array import array
from collections.abc import Callable, Mapping, MutableSequence
from heapq import heapify, heappop, heappush
from itertools import compress
from typing import Generic, Protocol, TypeAlias, TypeVar, cast

from stemma.radix.ghost_list import Ghost
from stemma.radix.leaves import Leaves
from stemma.radix.node import Node


class EvictionQueue(Protocol):
    """A policy at work in one cache. An entry counts while the leaf carries the ticket it was given. Leaves
    of Ranked and ReuseQueue may sleep (leaves.py), those of any other queue never do."""

    def push(self, leaf: Node, logical_time: int) -> None:
        """The leaf may go from now on."""

    def forget(self, leaf: Node) -> None:
        """The leaf may not go any more: it is held, or it has children."""

    def used(self, node: Node, logical_time: int) -> None:
        """A request matched this node; called before its hits and times change."""

    def returned(self, ghost: Ghost, share: float, logical_time: int) -> None:
        """A request asked for this share of an edge that was evicted."""

    def first(self, logical_time: int) -> Node:
        """The leaf that goes first, left where it is; there is one."""

    def oldest(self) -> float | None:
        """The earliest last access among the leaves that wait."""

    def __len__(self) -> int: ...


Policy: TypeAlias = Callable[[int], EvictionQueue]  # makes the queue of a cache with that many blocks
Rank: TypeAlias = tuple[float, float]


RankT = TypeVar("RankT", int, Rank)
ItemT = TypeVar("ItemT")


class Waiting(Generic[RankT, ItemT]):
    """Leaves (or marks) by rank, with lazy deletion: an entry counts while its ticket is among `leaves`, which the
    owner keeps, or is that of another leaf of `others`.

    Ranks mostly come in rising order, as times do: those go to the end of two arrays, O(1), and the others to a heap.
    Holds numbers only: what is evicted is not kept by an entry that does not count, and a garbage collection does not
    look at them.
    """

    __slots__ = ("_begin", "_late", "_leaves", "_others", "_ranks", "_tickets", "num_live")

    def __init__(self, leaves: dict[int, ItemT], ranks: MutableSequence[RankT], others: Leaves | None = None) -> None:
        """`ranks` is empty: an array where ranks are numbers."""
        self._leaves = leaves
        self._others = others
        self._ranks: MutableSequence[RankT] = ranks
        self._tickets = array("q")
        self._begin = 0  # entries before this are gone
        self._late: list[tuple[RankT, int]] = []
        self.num_live = 0

    def push(self, rank: RankT, ticket: int) -> None:
        """The leaf with this new ticket waits here."""
        self.num_live += 1
        ranks = self._ranks
        if len(ranks) == self._begin or ranks[-1] <= rank:
            ranks.append(rank)
            self._tickets.append(ticket)
        else:
            heappush(self._late, (rank, ticket))
        if len(ranks) + len(self._late) > 1.5 * self.num_live + 64:
            self._purge()

    def first(self) -> ItemT | None:
        """The leaf of the lowest rank, left where it is; perhaps a picture of it."""
        tickets, late, begin = self._tickets, self._late, self._begin
        leaf: ItemT | None = None
        while begin < len(tickets) and (leaf := self._get(tickets[begin])) is None:
            begin += 1
        self._begin = begin
        while late and not self._waits(late[0][1]):
            heappop(late)
        if late and (leaf is None or late[0][0] < self._ranks[begin]):
            return self._get(late[0][1])
        return leaf

    def last(self) -> ItemT | None:
        """The leaf of the highest rank that came in order."""
        tickets = self._tickets
        while len(tickets) > self._begin:
            leaf = self._get(tickets[-1])
            if leaf is not None:
                return leaf
            tickets.pop()
            self._ranks.pop()
        return None

    def _waits(self, ticket: int) -> bool:
        return ticket in self._leaves or (self._others is not None and self._others.has(ticket))

    def _get(self, ticket: int) -> ItemT | None:
        leaf = self._leaves.get(ticket)
        if leaf is None and self._others is not None:
            return cast("ItemT | None", self._others.get(ticket))
        return leaf

    def _purge(self) -> None:
        """Forget the entries that do not count."""
        counts = [self._waits(ticket) for ticket in self._tickets]
        ranks = self._ranks[:0]
        ranks.extend(compress(self._ranks, counts))
        self._ranks, self._tickets = ranks, array("q", compress(self._tickets, counts))
        self._begin = 0
        self._late = [entry for entry in self._late if self._waits(entry[1])]
        heapify(self._late)


class Ranked:
    """A policy that gives each leaf a rank when it becomes evictable; the lowest goes first."""

    __slots__ = ("_rank", "_ticket", "_waiting", "leaves")

    def __init__(self, rank: Callable[[Node], Rank]) -> None:
        self._rank = rank
        self.leaves = Leaves()
        self._waiting: Waiting[Rank, Node] = Waiting(self.leaves.awake, [], self.leaves)
        self._ticket = 0

    def push(self, leaf: Node, logical_time: int) -> None:
        self._ticket += 1
        leaf.ticket = self._ticket
        self.leaves.add(leaf)
        self._waiting.push(self._rank(leaf) if leaf.reuse_hint else (float("-inf"), leaf.last_access), leaf.ticket)
        self.leaves.lay_down()

    def forget(self, leaf: Node) -> None:
        if leaf.ticket:
            self.leaves.remove(leaf)
            leaf.ticket = 0
            self._waiting.num_live -= 1

    def used(self, node: Node, logical_time: int) -> None:
        """Ranks follow from what the node itself carries."""

    def returned(self, ghost: Ghost, share: float, logical_time: int) -> None:
        """Ranks know nothing of what is gone."""

    def first(self, logical_time: int) -> Node:
        leaf = self._waiting.first()
        assert leaf is not None
        return leaf

    def oldest(self) -> float | None:
        leaf = self._waiting.first()
        return None if leaf is None else leaf.last_access

    def __len__(self) -> int:
        return len(self.leaves)


def lru(num_blocks: int) -> Ranked:
    """The least recently used goes first."""
    return Ranked(lambda leaf: (0.0, leaf.last_access))


def lfu(num_blocks: int) -> Ranked:
    """The least often matched goes first, among equals the least recently used."""
    return Ranked(lambda leaf: (leaf.hits, leaf.last_access))


def slru(num_blocks: int) -> Ranked:
    """Segmented LRU: what was never matched goes before what was (Karedla et al., 1994)."""
    return Ranked(lambda leaf: (min(leaf.hits, 1), leaf.last_access))


def by_priority(num_blocks: int) -> Ranked:
    """The lowest priority goes first, among equals the least recently used."""
    return Ranked(lambda leaf: (leaf.priority, leaf.last_access))


def time_to_live(seconds: Mapping[int, float]) -> Policy:
    """What runs out first goes first: a leaf lives so many seconds after its last use, by its priority."""

    def policy(num_blocks: int) -> Ranked:
        return Ranked(lambda leaf: (leaf.last_access + seconds.get(leaf.priority, 0.0), leaf.last_access))

    return policy
