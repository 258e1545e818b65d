"""Putting what a lease has written into the tree. Never copies KV, never allocates: it moves ownership of blocks.

position        at           met          end
lease     ======|------------|------------|
tree      ======|-- has it --|
becomes         | adopted    | a new leaf |      or, where the lease alone holds a leaf that ends at `at`,
becomes   ======== the leaf, longer ======|

What is published goes in pieces (a salt boundary, the end of remembered text). Where a piece ends inside a block and
more of the lease's own tokens follow, that block holds those already: it stays the lease's, whatever the tree has.
"""

from array import array
from typing import Final

from stemma.radix.lease_state import LeaseState
from stemma.radix.node import Node
from stemma.radix.store import BlockStore
from stemma.radix.tokens import TOKEN_BYTES

EDGE_TOKENS: Final = 8192  # longer texts become a chain of nodes, so that no cut ever copies more than this


def publish(store: BlockStore, state: LeaseState) -> None:
    """Publish all written tokens, piece by piece; afterwards the lease holds the node in which they end."""
    data, begin, end = bytes(state.tokens), state.at, state.num_tokens
    state.tokens = b""
    while state.at < end:
        at, stop = state.at, _next_stop(state, end, store.tree.block_size)
        piece = data[TOKEN_BYTES * (at - begin) : TOKEN_BYTES * (stop - begin)]
        _publish_piece(store, state, piece, stop, is_last=stop == end)


def path_blocks(path: list[Node], end: int, size: int, first: int = 0) -> "array[int]":
    """The blocks of a path from block index `first` up to position `end`: a child's head replaces its parent's last."""
    most = -(-end // size) - first
    if not path or most <= 0:
        return array("i")
    start = path[0].start // size - first
    table = path[0].blocks[max(-start, 0) :]
    for node in path[1:]:
        start = node.start // size - first
        if start < 0:
            table = node.blocks[-start:]
        else:
            if start < len(table):
                del table[start:]
            table += node.blocks
    if most < len(table):
        del table[most:]
    return table


def _next_stop(state: LeaseState, end: int, size: int) -> int:
    """Where the next piece ends: at the salt boundary, where remembered text ends, where an edge is long."""
    at = state.at
    longest = EDGE_TOKENS // size * size or size
    stop = (at // longest + 1) * longest
    if end < stop:
        stop = end
    if state.salt_boundary is None and state.back is None:
        return stop
    if state.salt_boundary is not None and at < state.salt_boundary.position:
        stop = min(stop, state.salt_boundary.position)
    if state.back is not None and at < state.back.end:
        stop = min(stop, state.back.end)
    return stop


def _publish_piece(store: BlockStore, state: LeaseState, data: bytes, stop: int, *, is_last: bool) -> None:
    at, size = state.at, store.tree.block_size
    num_blocks = -(-stop // size)
    node = state.node
    if node.end == at and not node.has_children and _can_lengthen(state, stop, size):
        store.lengthen(node, data, state.blocks[state.private : num_blocks])
        _settle(store, state, node, stop, num_blocks, writes=stop % size != 0)
        return
    while node.start >= at and node.parent is not None:
        node = node.parent
    met = at
    if at < node.end or node.has_children:
        path = [node]
        node, met = store.tree.descend(node, at, memoryview(data), stop, path, at, state.salt_boundary)
        if node.is_asleep:
            store.tree.leaves.wake(node)
        last = num_blocks if met == stop and is_last else met // size
        _adopt(store, state, path, last)
        if met < node.end:
            node = store.tree.split(node, met)
    if met == stop:
        if node is not state.node:
            store.hold(node)
        _settle(store, state, node, stop, max(last, min(state.private, num_blocks)), writes=False)
        return
    head = met // size
    shared = 1 if met % size and head < state.private else 0
    salt = state.salt_boundary.salt if state.salt_boundary is not None and state.salt_boundary.position == met else None
    leaf = store.grow(node, data[TOKEN_BYTES * (met - at) :], state.blocks[head:num_blocks], shared, salt)
    _remember(store, state, leaf, stop)
    _settle(store, state, leaf, stop, num_blocks, writes=stop % size != 0)


def _can_lengthen(state: LeaseState, stop: int, size: int) -> bool:
    """Is the lease alone on a leaf, which ends where it goes on, and may the new tokens belong to the same node?"""
    node, at = state.node, state.at
    return (
        node.leases == 1
        and node.parent is not None
        and (state.writes or at % size == 0)
        and stop - node.start <= EDGE_TOKENS
        and (state.salt_boundary is None or state.salt_boundary.position != at)
        and (state.back is None or state.back.end != at)
    )


def _adopt(store: BlockStore, state: LeaseState, path: list[Node], last: int) -> None:
    """Take the tree's blocks from the one of position `_at` up to block index `last`; free the private ones."""
    size = store.tree.block_size
    first = state.at // size
    if last > first:
        theirs = path_blocks(path, last * size, size, first)
        store.pool.give_back(state.blocks[max(first, state.private) : last])
        state.blocks[first:last] = theirs


def _remember(store: BlockStore, state: LeaseState, leaf: Node, stop: int) -> None:
    """A new leaf knows what was known of its text: from before its eviction, or from the text it goes on with, unless
    that is another's too."""
    parent, back = leaf.parent, state.back
    assert parent is not None
    parent.children_born += 1
    leaf.priority = state.priority
    if state.marks is not None:
        leaf.prompt = state.marks.plan.match_len, state.marks.plan.prompt_len
    leaf.used_at = leaf.born_at = store.logical_time
    if back is not None and state.at < back.end:
        leaf.hits, leaf.born_at = back.hits + 1, back.born_at
        if stop == back.end:
            leaf.children_born, leaf.children_used = back.children_born, back.children_used
    elif parent.children_born == 1 and parent.parent is not None and parent.private == leaf.private:
        leaf.hits, leaf.born_at = parent.hits, parent.born_at


def _settle(store: BlockStore, state: LeaseState, node: Node, stop: int, private: int, *, writes: bool) -> None:
    """The lease is now on `node` (which is held already, if it is another than before), up to `stop`; its blocks from
    index `private` on are its own."""
    before = state.node
    if state.writes:
        before.writer = False
    if writes:
        node.writer = True
    state.writes = writes
    node.last_access = store.clock()
    state.node, state.at = node, stop
    state.private = private
    size = store.tree.block_size
    state.room_end = len(state.blocks) * size if writes or stop % size == 0 else 0
    if before is not node:
        store.drop(before)
