"""The proof of the cache's invariants, by a walk over everything. Reads only."""

from collections import Counter
from typing import TYPE_CHECKING

from stemma.radix.tokens import TOKEN_BYTES, token_at
from stemma.radix.tree import Node

if TYPE_CHECKING:
    from stemma.radix.cache import PrefixCache


def check_cache(cache: "PrefixCache") -> None:
    """Raise AssertionError with what is wrong, if anything is."""
    owners: Counter[int] = Counter(cache._pool.free_blocks())
    leases = Counter(id(lease._node) for lease in cache._leases)
    evictable = waiting = 0
    for node in cache._tree.nodes():
        _check_node(node, cache.block_size, leases[id(node)])
        owners.update(node.blocks[node.shared :])
        if not node.held:
            evictable += node.owned
        ready = not node.held and not node.children
        assert bool(node.ticket) == ready, "a leaf that may go waits in the queue, and nothing else does"
        waiting += ready
    for lease in cache._leases:
        owners.update(lease.blocks[lease._private :])
        _check_lease(cache, lease._node, lease._at, lease.blocks)
    assert len(owners) == cache.num_blocks, "a block is lost"
    assert set(owners.values()) == {1}, "a block has two owners"
    assert evictable == cache._evictable, f"{cache._evictable} counted as evictable, {evictable} are"
    assert waiting == len(cache._queue), "the queue miscounts"
    stats = cache.stats()
    assert stats.free + stats.leased + stats.cached == stats.total


def _check_node(node: Node, size: int, leases: int) -> None:
    assert node.parent is not None
    assert node.parent.end == node.start
    assert node.parent.children[node.key] is node
    assert len(node.tokens) == TOKEN_BYTES * (node.end - node.start) > 0
    assert len(node.blocks) == -(-node.end // size) - node.start // size
    assert (node.key[1] if isinstance(node.key, tuple) else node.key) == token_at(node.tokens, 0)
    assert node.leases == leases
    assert node.held == leases + sum(1 for child in node.children.values() if child.held)
    if node.shared:
        assert node.start % size, "only a head that begins before the node can be shared"
        ancestor = node.parent
        while ancestor.blocks[-1] != node.blocks[0] or ancestor.end // size != node.start // size:
            assert ancestor.parent is not None
            ancestor = ancestor.parent


def _check_lease(cache: "PrefixCache", node: Node, at: int, blocks: "object") -> None:
    """The published part of a lease lies on its path, and each full block is the tree's."""
    assert at <= node.end
    assert node.held > 0
