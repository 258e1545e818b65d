"""The prefix cache: tree, pool and eviction behind leases. Never touches KV bytes, knows nothing of models."""

import time
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

from stemma.radix.check import check_cache
from stemma.radix.errors import OutOfBlocks
from stemma.radix.eviction import EvictionQueue
from stemma.radix.lease import Lease
from stemma.radix.policy import LRU, Policy
from stemma.radix.pool import BlockPool
from stemma.radix.tokens import TOKEN_BYTES, Tokens, pack
from stemma.radix.tree import Node, Tree


class Match(NamedTuple):
    """How much of a query is cached, and in which blocks."""

    hit_len: int
    blocks: "array[int]"


class CacheStats(NamedTuple):
    """`free + leased + cached == total`, in blocks: leased are held by a lease, cached can be evicted."""

    total: int
    free: int
    leased: int
    cached: int
    hit_tokens: int
    miss_tokens: int
    evicted_blocks: int


class PrefixCache:
    """Token-granular prefix cache over `num_blocks` physical blocks of `block_size` tokens."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.block_size = block_size
        self._pool = BlockPool(num_blocks)
        self._tree = Tree(block_size)
        self._queue = EvictionQueue(policy or LRU())
        self._clock = clock
        self._evictable = 0  # blocks in the tree that nobody holds
        self._leases: set[Lease] = set()
        self._hit_tokens = self._miss_tokens = self._evicted_blocks = 0

    @property
    def num_blocks(self) -> int:
        return self._pool.total

    @property
    def available(self) -> int:
        """Blocks that a reserve can get: free ones and those that may be evicted."""
        return self._pool.num_free + self._evictable

    def match(self, tokens: Tokens, namespace: str = "") -> Match:
        """The longest cached prefix. Changes nothing: neither recency nor the shape of the tree."""
        root = self._tree.roots.get(namespace)
        if root is None:
            return Match(0, array("i"))
        data = pack(tokens)
        walk = self._tree.descend(root, 0, data, len(data) // TOKEN_BYTES, [])
        return Match(walk.position, self._table(walk.path, walk.position))

    def acquire(self, tokens: Tokens, namespace: str = "", *, max_hit: int | None = None) -> Lease:
        """Hold the longest cached prefix of `tokens`, at most `max_hit` tokens of it. Allocates nothing."""
        data = pack(tokens)
        num_tokens = len(data) // TOKEN_BYTES
        if max_hit is None or max_hit > num_tokens:
            max_hit = num_tokens
        elif max_hit < 0:
            raise ValueError(f"max_hit must not be negative, got {max_hit}")
        walk = self._tree.descend(self._tree.root(namespace), 0, data, min(num_tokens, max_hit + 1), [])
        node = walk.node
        if walk.position < node.end:
            walk.path[-1] = node = self._tree.split(node, walk.position)
        now = self._clock()
        for used in walk.path:
            used.stamp = now
            used.hits += 1
        hit_len = min(walk.position, max_hit)
        self._hit_tokens += hit_len
        self._miss_tokens += num_tokens - hit_len
        self._hold(node)
        lease = Lease(self, node, hit_len, self._table(walk.path, hit_len))
        self._leases.add(lease)
        return lease

    def stats(self) -> CacheStats:
        free = self._pool.num_free
        return CacheStats(
            self._pool.total,
            free,
            self._pool.total - free - self._evictable,
            self._evictable,
            self._hit_tokens,
            self._miss_tokens,
            self._evicted_blocks,
        )

    # What leases ask for -------------------------------------------------------------------------

    def _allocate(self, count: int) -> "array[int]":
        if count > self.available:
            raise OutOfBlocks(count, self.available)
        if count > self._pool.num_free:
            self._evict(count - self._pool.num_free)
        return self._pool.take(count)

    def _free_private(self, blocks: "array[int]") -> None:
        self._pool.give_back(blocks)

    def _publish(self, lease: Lease) -> None:
        """Put the written tokens of a lease into the tree.

        position        at           met          num_tokens
        lease     ======|------------|-------------|
        tree      ======|-- has it --|
        becomes         | adopted    | a new leaf  |
        """
        at, end, size = lease._at, lease.num_tokens, self.block_size
        data = bytes(lease._tokens)
        node = lease._node
        while node.parent is not None and node.start >= at:
            node = node.parent
        path = [node]
        walk = self._tree.descend(node, at, data, end, path, data_start=at)
        node, met = walk.node, walk.position
        self._adopt(lease, path, at, -(-met // size) if met == end else met // size)
        if met < node.end:
            node = self._tree.split(node, met)
        leaf = None
        if met < end:
            head = met // size
            shared = 1 if met % size and head < lease._private else 0
            self._queue.forget(node)
            rest = data[TOKEN_BYTES * (met - at) :]
            node = leaf = self._tree.grow(node, rest, lease.blocks[head : -(-end // size)], shared)
            self._evictable += leaf.owned  # until the lease holds it, a few lines below
        self._move(lease, node, end, leaf)

    def _adopt(self, lease: Lease, path: list[Node], at: int, last: int) -> None:
        """Take the tree's blocks from the one of position `at` up to block index `last`; free the private ones."""
        first = at // self.block_size
        if last <= first:
            return
        theirs = self._table(path, last * self.block_size, first)
        self._pool.give_back(lease.blocks[max(first, lease._private) : last])
        lease.blocks[first:last] = theirs

    def _move(self, lease: Lease, node: Node, end: int, leaf: Node | None) -> None:
        """The lease now holds `node`, up to position `end`; it may write on in a leaf of its own making."""
        now = self._clock()
        before = lease._node
        if lease._writes:
            before.writer = False
        lease._writes = leaf is not None and end % self.block_size != 0
        node.writer = node.writer or lease._writes
        node.stamp = now
        if node is not before:
            self._hold(node)
            self._drop(before)
        lease._node, lease._at = node, end
        lease._private = -(-end // self.block_size)
        lease._tokens.clear()

    def _fork(self, lease: Lease) -> Lease:
        self._hold(lease._node)
        at, size, node = lease._at, self.block_size, lease._node
        blocks = lease.blocks[: -(-at // size)]
        if len(blocks) > lease._private:  # the last one is a copy, made to write on: the fork gets the tree's
            while node.start >= at and node.parent is not None:
                node = node.parent
            blocks[-1] = node.blocks[at // size - node.start // size]
        fork = Lease(self, lease._node, at, blocks)
        fork.hit_len = lease.hit_len
        self._leases.add(fork)
        return fork

    def _release(self, lease: Lease) -> None:
        self._pool.give_back(lease.blocks[lease._private :])
        if lease._writes:
            lease._node.writer = False
        lease._node.stamp = self._clock()
        self._drop(lease._node)
        self._leases.remove(lease)
        lease._released = True

    # Holds and eviction --------------------------------------------------------------------------

    def _hold(self, node: Node) -> None:
        """One more lease on `node`. Goes up only as far as nodes become held by it."""
        node.leases += 1
        node.held += 1
        while node.held == 1:
            self._evictable -= node.owned
            self._queue.forget(node)
            assert node.parent is not None  # a root is always held
            node = node.parent
            node.held += 1

    def _drop(self, node: Node) -> None:
        """One lease less on `node`. Goes up only as far as nodes become free by it."""
        node.leases -= 1
        node.held -= 1
        while node.held == 0:
            self._evictable += node.owned
            if not node.children:
                self._queue.push(node)
            assert node.parent is not None
            node = node.parent
            node.held -= 1

    def _evict(self, count: int) -> None:
        """Free `count` blocks from the leaves inwards; the caller has made sure that so many are evictable."""
        self._evicted_blocks += count
        self._evictable -= count
        while count:
            leaf = self._queue.pop()
            if leaf.owned > count:
                self._pool.give_back(self._tree.trim(leaf, count))
                self._queue.push(leaf)
                return
            count -= leaf.owned
            self._pool.give_back(leaf.blocks[leaf.shared :])
            parent = self._tree.remove(leaf)
            if not parent.held and not parent.children:
                self._queue.push(parent)

    def _table(self, path: list[Node], end: int, first: int = 0) -> "array[int]":
        """The blocks of a path from block index `first` up to position `end`: a child's head replaces its parent's."""
        size = self.block_size
        table = array("i")
        for node in path:
            start = node.start // size - first
            if start < 0:
                table = node.blocks[-start:]
            else:
                del table[start:]
                table.extend(node.blocks)
        del table[-(-end // size) - first :]
        return table

    # Looking in ----------------------------------------------------------------------------------

    def walk(self) -> Iterator[Node]:
        """Every node of the tree, parents first. Read them, do not write to them."""
        return self._tree.nodes()

    def check(self) -> None:
        """Prove every invariant: each block has one owner, holds and counts are right. Costs a walk over the cache."""
        check_cache(self)
