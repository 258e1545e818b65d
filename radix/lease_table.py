"""The leases of one cache: who holds what, and the moves that change it. Knows nothing of queries."""

from array import array

from stemma.radix.lease_state import LeaseState, NextUse
from stemma.radix.pins import Pin, Pins
from stemma.radix.publish import publish
from stemma.radix.store import BlockStore


class LeaseTable:
    """All that is held of a store, by leases and by pins."""

    __slots__ = ("pins", "states", "store")

    def __init__(self, store: BlockStore, pins: Pins) -> None:
        self.store = store
        self.pins = pins
        self.states: set[LeaseState] = set()

    def hold(self, state: LeaseState) -> None:
        """One more lease, on a node that is held for it."""
        self.states.add(state)

    def allocate(self, count: int) -> "array[int]":
        """`count` blocks, if need be those that were pinned until now. OutOfBlocks, with nothing changed, otherwise."""
        if count > self.store.pool.num_free:
            self.expire_pins()
        return self.store.allocate(count)

    def give_back(self, blocks: "array[int]") -> None:
        """These private blocks are free."""
        self.store.pool.give_back(blocks)

    def publish(self, state: LeaseState) -> None:
        """Put what is written into the tree."""
        if state.tokens:
            publish(self.store, state)

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
        self.hold(fork)
        return fork

    def release(self, state: LeaseState, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """One lease less."""
        node = state.node
        self.store.pool.give_back(state.blocks[state.private :])
        if state.writes:
            node.writer = False
        if next_use is not NextUse.UNKNOWN and node.parent is not None:
            node.reuse_hint = next_use.value
        self.states.remove(state)
        state.released = True
        self.store.drop(node)

    def unpin(self, pin: Pin) -> None:
        """Let go of a pin. PinError when it has run out."""
        self.release(self.pins.remove(pin))

    def expire_pins(self) -> None:
        """Let go of the pins that have run out."""
        if len(self.pins):
            for state in self.pins.expire(self.store.clock()):
                self.release(state)
