"""Blocks, tree and eviction queue kept in step: holds, allocation, eviction. Knows nothing of requests.

A held node and all above it cannot be evicted. A hold goes up only as far as nodes become held by it, so that the
number of evictable blocks is exact at any time and holding a path that is held already costs one step.

    root 2 --- A 2 --- B 1 --- C 0      `ref_count` with a lease on A and one on B: leases on a node, and held children.
                                        C may be evicted; when the lease on B ends, B may too, and A counts 1.
"""

import time
from array import array
from collections.abc import Callable
from typing import Final

from stemma.radix.errors import OutOfBlocks
from stemma.radix.events import EventLog
from stemma.radix.ghost_list import GhostList
from stemma.radix.leaves import Leaves
from stemma.radix.mark import MarkRoom
from stemma.radix.marks import MarkStore
from stemma.radix.node import Node
from stemma.radix.policy import EvictionQueue, Ranked
from stemma.radix.pool import BlockPool
from stemma.radix.reuse import ReuseQueue
from stemma.radix.tree import SaltBoundary, Tree

SPARE_BLOCKS: Final = 64  # so many at most, and 1/256 of the pool: leaves are not cut anew for every request


class BlockStore:
    """The state of a cache and the moves that keep it consistent."""

    __slots__ = (
        "clock",
        "events",
        "evictable",
        "evicted_blocks",
        "ghosts",
        "hedge",
        "logical_time",
        "marks",
        "pool",
        "published_blocks",
        "published_tokens",
        "queue",
        "spare",
        "tree",
    )

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        queue: EvictionQueue,
        ghost_tokens: int,
        clock: Callable[[], float] = time.monotonic,
        marks: MarkRoom | None = None,
    ) -> None:
        self.pool = BlockPool(num_blocks)
        leaves = queue.leaves if isinstance(queue, (ReuseQueue, Ranked)) else Leaves()
        if marks is not None:
            leaves.keep_awake(None)  # their nodes have marks and places
        self.tree = Tree(block_size, leaves)
        self.queue = queue
        self.hedge = queue.hedge if isinstance(queue, ReuseQueue) else None
        self.ghosts = GhostList(ghost_tokens)
        self.events = EventLog(block_size)
        self.marks = None if marks is None else MarkStore(marks, block_size, self.events)
        self.clock = clock
        self.logical_time = 0  # blocks ever allocated
        self.spare = min(num_blocks // 256, SPARE_BLOCKS)  # how many are evicted at once at least
        self.evictable = 0  # blocks of nodes that nobody holds
        self.evicted_blocks = 0
        self.published_blocks = 0  # blocks in the tree
        self.published_tokens = 0  # tokens in the tree

    @property
    def available(self) -> int:
        return self.pool.num_free + self.evictable

    def allocate(self, count: int) -> "array[int]":
        """`count` blocks, evicting what is missing or a little more.

        OutOfBlocks, with nothing changed, when there are not so many.
        """
        free = self.pool.num_free
        if count > free:
            if count > free + self.evictable:
                raise OutOfBlocks(count, free + self.evictable)
            self._evict(min(max(count - free, self.spare), self.evictable))
        self.logical_time += count
        return self.pool.take(count)

    # Holds ---------------------------------------------------------------------------------------

    def hold(self, node: Node) -> None:
        """One more lease on `node`."""
        node.leases += 1
        node.ref_count += 1
        while node.ref_count == 1:
            self.evictable -= len(node.blocks) - node.shared
            if node.ticket:
                self.queue.forget(node)
            assert node.parent is not None  # a root is always held
            node = node.parent
            node.ref_count += 1

    def drop(self, node: Node) -> None:
        """One lease less on `node`."""
        node.leases -= 1
        node.ref_count -= 1
        while node.ref_count == 0:
            self.evictable += len(node.blocks) - node.shared
            parent = node.parent
            assert parent is not None
            if node.forgotten:
                self.cut(node)
            elif not node.has_children:
                self.queue.push(node, self.logical_time)
            node = parent
            node.ref_count -= 1
        if node.parent is None:
            self._leave(node)

    def _leave(self, root: Node) -> None:
        """A namespace with nothing in it goes."""
        if not root.has_children and not root.leases:
            self.tree.remove_root(root)

    # Growth --------------------------------------------------------------------------------------

    def grow(self, parent: Node, tokens: bytes, blocks: "array[int]", shared: int, salt: str | None) -> Node:
        """A new leaf that one lease holds. Its parent is, or is below, what that lease holds already."""
        if parent.ticket:
            self.queue.forget(parent)
        leaf = self.tree.grow(parent, tokens, blocks, shared, salt)
        owned = len(blocks) - shared
        if self.hedge is not None:
            self.hedge.written(leaf, owned)
        self.published_blocks += owned
        self.published_tokens += leaf.end - leaf.start
        self.evictable += owned  # until it is held, on the next line
        self.hold(leaf)
        if self.events.listeners and not leaf.forgotten:
            self.events.stored(leaf, leaf.start)
        return leaf

    def lengthen(self, leaf: Node, tokens: bytes, blocks: "array[int]") -> None:
        """Add to a held leaf."""
        before = leaf.end
        self.tree.lengthen(leaf, tokens, blocks)
        if self.hedge is not None:
            self.hedge.written(leaf, len(blocks))
        self.published_blocks += len(blocks)
        self.published_tokens += leaf.end - before
        if self.events.listeners and not leaf.forgotten:
            self.events.stored(leaf, before)
        else:
            leaf.hashes = None

    # Eviction ------------------------------------------------------------------------------------

    def _evict(self, count: int) -> None:
        """Free `count` blocks from the leaves inwards; so many are evictable."""
        self.evicted_blocks += count
        now, logical_time, queue = self.clock(), self.logical_time, self.queue
        while count:
            leaf = queue.first(logical_time)
            owned = len(leaf.blocks) - leaf.shared
            if owned > count:
                self._trim(leaf, count, now)
                return
            count -= owned
            self._remove(leaf, now)

    def _trim(self, leaf: Node, count: int, now: float) -> None:
        """Shorten a leaf; it goes on waiting where it is."""
        old_end, old_tokens, tree = leaf.end, leaf.tokens, self.tree
        if leaf.is_asleep:
            tree.leaves.wake(leaf)
        if self.hedge is not None:
            self.hedge.evicted(leaf, count)
        if self.events.listeners:
            self.events.removed(leaf, leaf.start // tree.block_size + len(leaf.blocks) - count)
        if leaf.places is not None and self.marks is not None:
            size = tree.block_size
            self.marks.cut(leaf, (leaf.start // size + len(leaf.blocks) - count) * size)
        self.pool.give_back(tree.trim(leaf, count))
        self.evictable -= count
        self.published_blocks -= count
        self.published_tokens -= old_end - leaf.end
        self.ghosts.remember_end(leaf, old_tokens[len(leaf.tokens) :], count, now)

    def _remove(self, leaf: Node, now: float) -> None:
        self.queue.forget(leaf)
        if self.hedge is not None:
            self.hedge.evicted(leaf, len(leaf.blocks) - leaf.shared)
        self.ghosts.remember(leaf, now)
        parent = self.cut(leaf)
        if parent.parent is None:
            self._leave(parent)
        elif parent.ref_count == 0 and not parent.has_children:
            self.queue.push(parent, self.logical_time)

    def cut(self, leaf: Node) -> Node:
        """Free a whole leaf that nobody holds and that waits no more; returns its parent."""
        if leaf.places is not None and self.marks is not None:
            self.marks.cut(leaf, leaf.start)
        gone = leaf.blocks[1:] if leaf.shared else leaf.blocks
        owned = len(gone)
        if self.events.listeners:
            self.events.removed(leaf, leaf.start // self.tree.block_size)
        self.pool.give_back(gone)
        self.evictable -= owned
        self.published_blocks -= owned
        self.published_tokens -= leaf.end - leaf.start
        return self.tree.remove(leaf)

    # Forgetting ----------------------------------------------------------------------------------

    def forget(self, namespace: str, salt_boundary: SaltBoundary | None) -> None:
        """Unhook a namespace, or the private part behind salt boundaries of one salt, and free what nobody holds of it.

        What leases hold stays, out of reach of every match and of every event, and goes when it is released.
        """
        self.ghosts.forget_scopes(namespace, None if salt_boundary is None else salt_boundary.salt)
        root = self.tree.roots.get(namespace)
        if root is None:
            return
        if salt_boundary is None:
            tops = self.tree.children_of(root)
            self.tree.forget_root(root)
        else:
            nodes, salt = self.tree.subtree(root), salt_boundary.salt
            tops = [node for node in nodes if isinstance(node.key, tuple) and node.key[0] == salt]
        for top in tops:
            self.tree.hide(top)
            self._free_subtree(top)
        self._leave(root)

    def _free_subtree(self, top: Node) -> None:
        parent = top.parent
        assert parent is not None
        for node in reversed(list(self.tree.subtree(top))):
            self.tree.forget(node)
            if self.marks is not None:
                self.marks.forget(node)
            self.events.forgotten(node)
            if not node.ref_count:
                if node.ticket:
                    self.queue.forget(node)
                self.cut(node)
        if not parent.ref_count and not parent.has_children:
            self.queue.push(parent, self.logical_time)
