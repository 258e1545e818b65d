"""The marks of one cache kept in step: slots, window blocks, the queue of those that may go. Knows nothing of requests.

A slot has one owner: the free list, one mark, or one lease. Window blocks are counted (window_pool). A mark that a
lease goes on from is held, and so is its node; whoever holds a mark refers to its window blocks himself.
"""

from array import array
from typing import NamedTuple

from stemma.radix.errors import OutOfBlocks
from stemma.radix.events import EventLog
from stemma.radix.mark import MarkRoom, check_room, covering_mark, last_mark, node_at
from stemma.radix.mark_policy import MarkPolicy
from stemma.radix.node import NO_SLOT, Mark, Node
from stemma.radix.placement import Plan
from stemma.radix.pool import BlockPool
from stemma.radix.window_pool import WindowPool

RESTORED = Plan(0, 0, [], frozenset(), 0, None, None)


class MarkStats(NamedTuple):
    """`free + leased + cached == total`, in slots and in window blocks; cached can be evicted."""

    num_marks: int  # in the tree, held or not
    slots: int
    free_slots: int
    leased_slots: int
    cached_slots: int
    window_blocks: int
    free_window_blocks: int
    leased_window_blocks: int
    cached_window_blocks: int
    evicted: int  # marks that went for want of room, not with the KV under them
    refused: int  # marks wanted that were not worth it, or found no room without evicting one of more worth
    given_back: int  # marks that went though there was room: nobody was expected to go on from them again
    replayed_tokens: int


class MarkStore:
    """All marks of a tree, and the moves that keep them and the pools consistent."""

    __slots__ = (
        "_block_size",
        "_events",
        "evicted",
        "given_back",
        "num_marks",
        "policy",
        "queue",
        "refused",
        "replayed_tokens",
        "room",
        "slots",
        "windows",
    )

    def __init__(self, room: MarkRoom, block_size: int, events: EventLog) -> None:
        check_room(room)
        self.room = room
        self.slots = BlockPool(room.num_slots) if room.num_slots else None
        self.windows = None if room.window is None else WindowPool(room.num_window_blocks)
        self.policy = MarkPolicy(room.num_slots or room.num_window_blocks)
        self.queue = self.policy.queue
        self._block_size = block_size
        self._events = events
        self.num_marks = 0
        self.evicted = self.refused = self.given_back = self.replayed_tokens = 0

    # Room ----------------------------------------------------------------------------------------

    @property
    def available_slots(self) -> int:
        """Free ones, and those of marks that may be evicted."""
        return self.slots.num_free + len(self.queue) if self.slots is not None else 0

    @property
    def available_window_blocks(self) -> int:
        return self.windows.num_free + self.windows.num_cached if self.windows is not None else 0

    def has_room(self, num_slots: int, num_window_blocks: int) -> bool:
        """Whether marks, all evicted, would make room for so many."""
        return (self.slots is None or num_slots <= self.available_slots) and (
            self.windows is None or num_window_blocks <= self.available_window_blocks
        )

    def check_available(self, num_slots: int, num_window_blocks: int) -> None:
        """Raises OutOfBlocks if they would not."""
        if self.slots is not None and num_slots > self.available_slots:
            raise OutOfBlocks(num_slots, self.available_slots, "slots")
        if self.windows is not None and num_window_blocks > self.available_window_blocks:
            raise OutOfBlocks(num_window_blocks, self.available_window_blocks, "window blocks")

    def take_slots(self, count: int) -> "array[int]":
        """So many slots, available by `check_available`, evicting what is missing."""
        assert self.slots is not None
        while self.slots.num_free < count:
            self._evict()
        return self.slots.take(count)

    def take_window_blocks(self, count: int) -> "array[int]":
        """The same with window blocks, for a lease."""
        assert self.windows is not None
        while self.windows.num_free < count:
            self._evict()
        return self.windows.take(count)

    def take_slot_for_mark(self, plan: Plan, position: int, saved: int, num_others: int) -> int:
        """A slot for a mark that is wanted and saves so many tokens, or NO_SLOT: no mark of more worth goes for it, and
        it takes none that so many leases may need for their next step."""
        assert self.slots is not None
        if self.available_slots > num_others and (
            self.slots.num_free or self.policy.is_admitted(plan, position, saved)
        ):
            return self.take_slots(1)[0]
        self.refused += 1
        return NO_SLOT

    def first_block(self, position: int) -> int:
        """The index of the first block that a window ending at `position` needs."""
        assert self.room.window is not None
        return max(0, position - self.room.window + 1) // self._block_size

    @property
    def most_window_blocks(self) -> int:
        """How many window blocks a mark needs where that is most."""
        return 0 if self.room.window is None else -(-(self.room.window - 1) // self._block_size) + 1

    def window_len(self, position: int) -> int:
        """How many window blocks a mark there needs."""
        return 0 if self.windows is None else -(-position // self._block_size) - self.first_block(position)

    def going_on(self, node: Node, match_len: int) -> tuple[int, Mark | None]:
        """Where all layers can go on at or before `match_len` on the path that ends in `node`, and from which mark. A
        state is of one position; a window serves any that it reaches."""
        mark = last_mark(node, match_len)
        if self.slots is None and match_len and (mark is None or mark.position < match_len):
            covering = covering_mark(node, match_len, self.first_block(match_len))
            if covering is not None:
                return match_len, covering
        return (0, None) if mark is None else (mark.position, mark)

    # The life of a mark --------------------------------------------------------------------------

    def attach(self, node: Node, mark: Mark, plan: Plan) -> Mark:
        """Put a lease's mark into the tree, on the path that ends in `node`; returns the one that is there then.

        Where the tree has one at that position, it stays, and the other is the caller's to take apart.
        """
        node = node_at(node, mark.position)
        if node.marks is None:
            node.marks = {}
        elif mark.position in node.marks:
            return node.marks[mark.position]
        node.marks[mark.position] = mark
        mark.node = node
        self.policy.attached(mark, plan)
        self.num_marks += 1
        if self.windows is not None:
            self.windows.keep(mark.window_blocks)
            self.windows.let_go(mark.window_blocks)  # while it was the lease's, the lease referred to them
        if self._events.listeners and not node.forgotten:
            self._events.mark_stored(node, mark.position)
        self._may_go(mark)
        return mark

    def hold(self, mark: Mark) -> None:
        """One more lease goes on from it."""
        mark.holds += 1
        self.queue.forget(mark)

    def used(self, mark: Mark, logical_time: int) -> None:
        """A request matched it as the last before its end."""
        mark.hits += 1
        mark.used_at = logical_time
        if mark.ticket:  # it is counted as another kind now
            self.queue.forget(mark)
            self.queue.push(mark)

    def let_go(self, mark: Mark) -> None:
        """One lease less."""
        mark.holds -= 1
        if mark.node is not None:
            self._may_go(mark)

    def _may_go(self, mark: Mark) -> None:
        assert mark.node is not None
        if mark.holds:
            return
        if mark.node.forgotten:
            self._remove(mark)
        else:
            self.queue.push(mark)

    def cut(self, node: Node, end: int) -> None:
        """The node loses its text behind `end`: the marks there, which nobody holds, go with it."""
        for mark in [mark for mark in (node.marks or {}).values() if mark.position > end]:
            self._remove(mark)
        self.policy.cut(node, end)

    def forget(self, node: Node) -> None:
        """Nothing matches the node any more. Marks that leases hold stay until they let go."""
        for mark in list((node.marks or {}).values()):
            if self._events.listeners:
                self._events.mark_removed(node, mark.position)
            if not mark.holds:
                self._remove(mark)
        self.policy.cut(node, node.start)

    def give_back_spent(self) -> None:
        """Marks go that nobody is expected to go on from again."""
        for mark in self.policy.spent():
            self.given_back += 1
            self._remove(mark)

    def _evict(self) -> None:
        self.evicted += 1
        self._remove(self.queue.first()[0])

    def _remove(self, mark: Mark) -> None:
        """A mark that nobody holds goes; its text may stay."""
        node = mark.node
        assert node is not None
        assert not mark.holds
        if self._events.listeners and not node.forgotten:
            self._events.mark_removed(node, mark.position)
        self.queue.forget(mark)
        assert node.marks is not None
        del node.marks[mark.position]
        if not node.marks:
            node.marks = None
        self.policy.detached(mark)
        if node.forgotten:
            self.policy.cut(node, node.start)
        mark.node = None
        self.num_marks -= 1
        if self.slots is not None:
            self.slots.give_back((mark.slot,))
        if self.windows is not None:
            self.windows.drop(mark.window_blocks)

    def restore(self, found: list[tuple[Node, Mark]]) -> None:
        """Take over the marks of a snapshot, none of which is there yet, least recently used first."""
        if self.slots is not None:
            self.slots.claim(mark.slot for _, mark in found)
        if self.windows is not None:
            self.windows.claim(block for _, mark in found for block in mark.window_blocks)
        for node, mark in sorted(found, key=lambda pair: pair[1].used_at):
            if self.windows is not None:
                self.windows.hold(mark.window_blocks)
            self.attach(node, mark, RESTORED)

    def stats(self) -> MarkStats:
        slots, windows, cached = self.slots, self.windows, len(self.queue)
        total, free = (slots.total, slots.num_free) if slots is not None else (0, 0)
        blocks, free_blocks, cached_blocks = (
            (windows.total, windows.num_free, windows.num_cached) if windows is not None else (0, 0, 0)
        )
        return MarkStats(
            self.num_marks,
            total,
            free,
            total - free - cached if slots is not None else 0,
            cached if slots is not None else 0,
            blocks,
            free_blocks,
            blocks - free_blocks - cached_blocks,
            cached_blocks,
            self.evicted,
            self.refused,
            self.given_back,
            self.replayed_tokens,
        )
