"""The leases of one cache: who holds what, and the moves that change it. Knows nothing of queries."""

from array import array

from stemma.radix.advance import Advance, advance, needs_of, settle
from stemma.radix.errors import LeaseError
from stemma.radix.lease_marks import fork_marks, leave_mark, publish_marks, release_marks
from stemma.radix.lease_state import LeaseState, NextUse
from stemma.radix.node import Node
from stemma.radix.publish import publish
from stemma.radix.retained import PinSize, Retained, RetainedLeases
from stemma.radix.store import BlockStore
from stemma.radix.tokens import TOKEN_BYTES, Packed


class LeaseTable:
    """All leases on a store, those of requests and those that are retained between requests."""

    __slots__ = ("retained", "states", "store")

    def __init__(self, store: BlockStore, pin_budget: int) -> None:
        self.store = store
        self.retained = RetainedLeases(_budget(store, pin_budget))
        self.states: set[LeaseState] = set()

    def allocate(self, count: int) -> "array[int]":
        """`count` blocks, if need be those of pins that have ended. OutOfBlocks, with nothing changed, otherwise."""
        if count > self.store.pool.num_free:
            self.expire_pins()
        return self.store.allocate(count)

    def publish(self, state: LeaseState) -> None:
        """Put what is written into the tree, and the marks that were passed."""
        if state.tokens:
            publish(self.store, state)
        if state.marks is not None:
            publish_marks(self.store, state)

    def fork(self, state: LeaseState) -> LeaseState:
        """One more lease where this one is, with all of it published."""
        at, size, node = state.at, self.store.tree.block_size, state.node
        self.store.hold(node)
        blocks = state.blocks[: -(-at // size)]
        if len(blocks) > state.private:  # the last one is a copy, made to write on: the fork gets the tree's
            while node.start >= at and node.parent is not None:
                node = node.parent
            blocks[-1] = node.blocks[at // size - node.start // size]
        fork = LeaseState(state.node, at, blocks, state.salt_boundary, None, state.priority)
        if state.marks is not None:
            fork_marks(self.store, state, fork)
        self.states.add(fork)
        return fork

    def release(self, state: LeaseState, next_use: NextUse = NextUse.UNKNOWN, shared_len: int | None = None) -> None:
        """One lease less. `next_use`: NEVER is of what lies past `shared_len` (None: of the last node alone), SOON of
        the whole path."""
        node = state.node
        if state.private < len(state.blocks):
            self.store.pool.give_back(state.blocks[state.private :])
        if state.writes:
            node.writer = False
        if next_use is NextUse.SOON:
            _hint(node, next_use, 0)
        elif next_use is NextUse.NEVER:
            _hint(node, next_use, node.start if shared_len is None else shared_len)
        self.states.remove(state)
        state.released = True
        if state.marks is not None:
            release_marks(self.store, state)
        self.store.drop(node)

    # Marks ---------------------------------------------------------------------------------------

    def advance(self, state: LeaseState, num_tokens: int, num_drafts: int) -> Advance:
        """Windows and states for a step, if need be those of pins that have ended. OutOfBlocks, with nothing changed,
        otherwise."""
        marks = self.store.marks
        assert marks is not None
        needs = needs_of(self.store, state, num_tokens, num_drafts)
        if not marks.has_room(needs.num_slots, needs.num_window_blocks + needs.is_copied):
            self.expire_pins()
            needs = needs_of(self.store, state, num_tokens, num_drafts)
            marks.check_available(needs.num_slots, needs.num_window_blocks + needs.is_copied)
        return advance(self.store, state, num_tokens, needs, len(self.states) - self.retained.num_retained)

    def settle(self, state: LeaseState, data: Packed, room: int) -> Packed:
        """A step was computed and these tokens of it are kept. Returns those that are not in the tree already."""
        marks, num_kept = self.store.marks, len(data) // TOKEN_BYTES
        assert marks is not None
        if num_kept > room:
            raise LeaseError(f"{num_kept} tokens written, room for {room}: reserve first")
        settle(self.store, state, num_kept)
        num_replayed = min(num_kept, state.replay)
        state.replay -= num_replayed
        marks.replayed_tokens += num_replayed
        return data[TOKEN_BYTES * num_replayed :]

    def mark(self, state: LeaseState) -> None:
        """The lease leaves a mark where it is."""
        if state.marks is not None:
            leave_mark(self.store, state)

    # Between requests ----------------------------------------------------------------------------

    def retain(self, retained: Retained, state: LeaseState) -> None:
        """`retained` keeps where this lease is, in place of what it kept; nothing, if it was let go or has run out.

        PinError, with nothing changed, over the budget.
        """
        self.expire_pins()
        if retained.is_released:
            return
        if state.node.forgotten:  # nobody could find it again
            self._empty(retained, NextUse.UNKNOWN)
            return
        size = self.pin_size(state.at, state.position)
        self.retained.check_budget(retained, size)
        kept = self.fork(state)
        try:
            self._empty(retained, NextUse.UNKNOWN)
            self.retained.put(retained, kept, size, self.store.clock())
        except BaseException:
            self.release(kept)
            raise

    def pin_size(self, num_tokens: int, mark_at: int) -> PinSize:
        """What a pin of so many tokens, with a mark at that position, takes."""
        marks, num_blocks = self.store.marks, -(-num_tokens // self.store.tree.block_size)
        if marks is None or not mark_at:
            return PinSize(num_blocks)
        return PinSize(num_blocks, int(marks.slots is not None), marks.window_len(mark_at))

    def share(self, retained: Retained, other: Retained) -> None:
        """`other` keeps the same path."""
        self.expire_pins()
        state = retained.state
        if state is not None:
            self.retain(other, state)
            other.shared_len = state.at

    def let_go(self, retained: Retained, next_use: NextUse) -> None:
        """Nothing is kept here any more. Twice is once."""
        retained.is_released = True
        self._empty(retained, next_use)

    def give_up_one(self) -> bool:
        """Let go of the path used longest ago that is not pinned; False if there is none. Its caller may come back."""
        retained = self.retained.longest_unused()
        if retained is None:
            return False
        self._empty(retained, NextUse.SOON)
        return True

    def expire_pins(self) -> None:
        """Let go of the pins whose time has ended."""
        if self.retained.by_expiry:
            for retained in self.retained.expired(self.store.clock()):
                self.let_go(retained, NextUse.UNKNOWN)

    def _empty(self, retained: Retained, next_use: NextUse) -> None:
        state = self.retained.take(retained)
        if state is not None:
            self.release(state, next_use, retained.shared_len)


def _budget(store: BlockStore, num_blocks: int) -> PinSize:
    """What all pins may take together: the same share of each pool."""
    if store.marks is None:
        return PinSize(num_blocks)
    room, total = store.marks.room, store.pool.total
    return PinSize(num_blocks, room.num_slots * num_blocks // total, room.num_window_blocks * num_blocks // total)


def _hint(node: Node, next_use: NextUse, shared_len: int) -> None:
    """Put the hint on the nodes of a path that begin at `shared_len` or behind it; a root has none."""
    while node.parent is not None and node.start >= shared_len:
        node.reuse_hint = next_use.value
        node = node.parent
