"""The queue of leaves that may be evicted: a heap whose outdated entries are skipped, O(log n) each.

Never walks the tree: a leaf enters when its last lease or its last child goes, and its entry dies when it is used.
"""

from heapq import heapify, heappop, heappush

from stemma.radix.policy import Policy
from stemma.radix.tree import Node


class EvictionQueue:
    """Lazy heap of (rank, ticket, node); an entry counts while the node still carries its ticket."""

    __slots__ = ("_heap", "_live", "_next_ticket", "_policy")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._heap: list[tuple[float, int, Node]] = []
        self._next_ticket = 1
        self._live = 0

    def push(self, leaf: Node) -> None:
        """The leaf may go from now on."""
        if leaf.ticket == 0:
            self._live += 1
        leaf.ticket = self._next_ticket
        self._next_ticket += 1
        heappush(self._heap, (self._policy.rank(leaf), leaf.ticket, leaf))
        if len(self._heap) > 2 * self._live + 64:
            self._heap = [entry for entry in self._heap if entry[2].ticket == entry[1]]
            heapify(self._heap)

    def forget(self, node: Node) -> None:
        """The node is used again, or has children: its entry no longer counts."""
        if node.ticket:
            node.ticket = 0
            self._live -= 1

    def pop(self) -> Node:
        """The leaf that goes first; the caller has made sure that there is one."""
        while True:
            _, ticket, node = heappop(self._heap)
            if node.ticket == ticket:
                node.ticket = 0
                self._live -= 1
                return node

    def __len__(self) -> int:
        return self._live
