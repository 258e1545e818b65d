"""Putting what a lease has written into the tree. Never copies KV, never allocates: it moves ownership of blocks.

position        at           met          end
lease     ======|------------|------------|
tree      ======|-- has it --|
becomes         | adopted    | a new leaf |      or, where the lease alone holds a leaf that ends at `at`,
becomes   ======== the leaf, longer ======|

What is published goes in pieces (a fence, the end of remembered text). Where a piece ends inside a block and more of
the lease's own tokens follow, that block holds those already: it stays the lease's, whatever the tree has of it.
"""

from array import array
from typing import TYPE_CHECKING

from stemma.radix.node import Node
from stemma.radix.store import BlockStore
from stemma.radix.tokens import TOKEN_BYTES

if TYPE_CHECKING:
    from stemma.radix.lease import Lease

EDGE_TOKENS = 8192  # longer texts become a chain of nodes, so that no cut ever copies more than this


def publish(store: BlockStore, lease: "Lease") -> None:
    """Publish all written tokens, piece by piece; afterwards the lease holds the node in which they end."""
    data, begin, end = bytes(lease._tokens), lease._at, lease.num_tokens
    lease._tokens.clear()
    while lease._at < end:
        at, stop = lease._at, _next_stop(lease, end, store.tree.block_size)
        piece = data[TOKEN_BYTES * (at - begin) : TOKEN_BYTES * (stop - begin)]
        _publish_piece(store, lease, piece, stop, is_last=stop == end)


def path_blocks(path: list[Node], end: int, size: int, first: int = 0) -> "array[int]":
    """The blocks of a path from block index `first` up to position `end`: a child's head replaces its parent's last."""
    table = array("i")
    for node in path:
        start = node.start // size - first
        if start < 0:
            table = node.blocks[-start:]
        else:
            del table[start:]
            table.extend(node.blocks)
    del table[max(-(-end // size) - first, 0) :]
    return table


def _next_stop(lease: "Lease", end: int, size: int) -> int:
    """Where the next piece ends: at the fence, where the memory of evicted text ends, or where an edge is long."""
    at = lease._at
    longest = EDGE_TOKENS // size * size or size
    stop = (at // longest + 1) * longest
    if end < stop:
        stop = end
    if lease._fence is not None and at < lease._fence.position:
        stop = min(stop, lease._fence.position)
    if lease._back is not None and at < lease._back.end:
        stop = min(stop, lease._back.end)
    return stop


def _publish_piece(store: BlockStore, lease: "Lease", data: bytes, stop: int, *, is_last: bool) -> None:
    at, size = lease._at, store.tree.block_size
    num_blocks = -(-stop // size)
    if _can_lengthen(lease, stop, size):
        leaf = lease._node
        store.lengthen(leaf, data, lease.blocks[lease._private : num_blocks])
        _settle(store, lease, leaf, stop, num_blocks, writes=stop % size != 0)
        return
    node = lease._node
    while node.parent is not None and node.start >= at:
        node = node.parent
    met = at
    if at < node.end or node.children:
        path = [node]
        node, met = store.tree.descend(node, at, memoryview(data), stop, path, at, lease._fence)
        last = num_blocks if met == stop and is_last else met // size
        _adopt(store, lease, path, last)
        if met < node.end:
            node = store.tree.split(node, met)
    if met == stop:
        if node is not lease._node:
            store.hold(node)
        _settle(store, lease, node, stop, max(last, min(lease._private, num_blocks)), writes=False)
        return
    head = met // size
    shared = 1 if met % size and head < lease._private else 0
    salt = lease._fence.salt if lease._fence is not None and lease._fence.position == met else None
    leaf = store.grow(node, data[TOKEN_BYTES * (met - at) :], lease.blocks[head:num_blocks], shared, salt)
    _remember(store, lease, leaf, stop)
    _settle(store, lease, leaf, stop, num_blocks, writes=stop % size != 0)


def _can_lengthen(lease: "Lease", stop: int, size: int) -> bool:
    """Is the lease alone on a leaf that ends where it goes on, and may the new tokens belong to the same node?"""
    node, at = lease._node, lease._at
    return (
        node.end == at
        and not node.children
        and node.leases == 1
        and node.parent is not None
        and (lease._writes or at % size == 0)
        and stop - node.start <= EDGE_TOKENS
        and (lease._fence is None or lease._fence.position != at)
        and (lease._back is None or lease._back.end != at)
    )


def _adopt(store: BlockStore, lease: "Lease", path: list[Node], last: int) -> None:
    """Take the tree's blocks from the one of position `_at` up to block index `last`; free the private ones."""
    size = store.tree.block_size
    first = lease._at // size
    if last > first:
        theirs = path_blocks(path, last * size, size, first)
        store.pool.give_back(lease.blocks[max(first, lease._private) : last])
        lease.blocks[first:last] = theirs


def _remember(store: BlockStore, lease: "Lease", leaf: Node, stop: int) -> None:
    """A new leaf knows what was known of its text: from before its eviction, or from the text it goes on with."""
    parent, back = leaf.parent, lease._back
    assert parent is not None
    parent.children_born += 1
    leaf.priority = lease.priority
    leaf.used_at = leaf.born_at = store.churn
    if back is not None and lease._at < back.end:
        leaf.hits, leaf.born_at = back.hits + 1, back.born_at
        if stop == back.end:
            leaf.children_born, leaf.children_used = back.children_born, back.children_used
    elif parent.children_born == 1 and parent.parent is not None:
        leaf.hits, leaf.born_at = parent.hits, parent.born_at


def _settle(store: BlockStore, lease: "Lease", node: Node, stop: int, private: int, *, writes: bool) -> None:
    """The lease is now on `node` (held for it already, when it is another one than before), up to `stop`; its blocks
    from index `private` on are its own."""
    before, size = lease._node, store.tree.block_size
    if lease._writes:
        before.writer = False
    if writes:
        node.writer = True
    lease._writes = writes
    node.stamp = store.clock()
    lease._node, lease._at = node, stop
    lease._private = private
    lease._room_end = len(lease.blocks) * size if writes or stop % size == 0 else 0
    if before is not node:
        store.drop(before)
