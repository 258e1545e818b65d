"""The leases of one cache: who holds what, and the moves that change it. Knows nothing of queries."""

from array import array

from stemma.radix.held import Held, NextUse
from stemma.radix.pins import Pin, Pins
from stemma.radix.publish import publish
from stemma.radix.store import BlockStore


class Keeper:
    """All that is held of a store, by leases and by pins."""

    __slots__ = ("held", "pins", "store")

    def __init__(self, store: BlockStore, pins: Pins) -> None:
        self.store = store
        self.pins = pins
        self.held: set[Held] = set()

    def hold(self, held: Held) -> None:
        """One more lease, on a node that is held for it."""
        self.held.add(held)

    def allocate(self, count: int) -> "array[int]":
        """`count` blocks, if need be those that were pinned until now. OutOfBlocks, with nothing changed, otherwise."""
        if count > self.store.pool.num_free:
            self.expire_pins()
        return self.store.allocate(count)

    def give_back(self, blocks: "array[int]") -> None:
        """These private blocks are free."""
        self.store.pool.give_back(blocks)

    def publish(self, held: Held) -> None:
        """Put what is written into the tree."""
        if held.tokens:
            publish(self.store, held)

    def fork(self, held: Held) -> Held:
        """One more lease where this one is, with all of it published."""
        at, size, node = held.at, self.store.tree.block_size, held.node
        self.store.hold(node)
        blocks = held.blocks[: -(-at // size)]
        if len(blocks) > held.private:  # the last one is a copy, made to write on: the fork gets the tree's
            while node.start >= at and node.parent is not None:
                node = node.parent
            blocks[-1] = node.blocks[at // size - node.start // size]
        fork = Held(held.node, at, blocks, held.fence, None, held.priority)
        self.hold(fork)
        return fork

    def release(self, held: Held, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """One lease less."""
        node = held.node
        self.store.pool.give_back(held.blocks[held.private :])
        if held.writes:
            node.writer = False
        if next_use is not NextUse.UNKNOWN and node.parent is not None:
            node.outlook = next_use.value
        self.held.remove(held)
        held.released = True
        self.store.drop(node)

    def unpin(self, pin: Pin) -> None:
        """Let go of a pin. PinError when it has run out."""
        self.release(self.pins.remove(pin))

    def expire_pins(self) -> None:
        """Let go of the pins that have run out."""
        if len(self.pins):
            for held in self.pins.expire(self.store.clock()):
                self.release(held)
