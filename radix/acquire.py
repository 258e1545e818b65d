"""What a request does first: find its prefix, tell the policy, and hold it. Allocates nothing."""

from stemma.radix.ghost_list import Ghost, Return
from stemma.radix.lease_state import LeaseState
from stemma.radix.lease_table import LeaseTable
from stemma.radix.node import Node, private_scope
from stemma.radix.publish import path_blocks
from stemma.radix.store import BlockStore
from stemma.radix.tokens import TOKEN_BYTES, Packed
from stemma.radix.tree import SaltBoundary


def acquire(
    leases: LeaseTable, data: Packed, name: str, salt_boundary: SaltBoundary | None, max_hit: int, priority: int
) -> LeaseState:
    """Hold the longest cached prefix of packed tokens, at most `max_hit` tokens of it (no more than there are)."""
    limit = min(len(data) // TOKEN_BYTES, max_hit + 1)
    store, path = leases.store, list[Node]()
    tree = store.tree
    node, position = tree.descend(tree.root(name), 0, data, limit, path, 0, salt_boundary)
    if node.is_asleep:
        tree.leaves.wake(node)
    if position < node.end:
        path[-1] = node = tree.split(node, position)
    _use(store, path)
    back = _returned(store, data, position, name, salt_boundary) if position < limit else None
    store.hold(node)
    hit_len = min(position, max_hit)
    state = LeaseState(node, hit_len, path_blocks(path, hit_len, tree.block_size), salt_boundary, back, priority)
    leases.states.add(state)
    return state


def _use(store: BlockStore, path: list[Node]) -> None:
    """A request matched these nodes."""
    now, logical_time, queue = store.clock(), store.logical_time, store.queue
    if store.hedge is not None:
        store.hedge.asked(path, logical_time)
    for node in path:
        if node.rate:
            queue.used(node, logical_time)
        hits = node.hits
        if not hits:
            node.parent.children_used += 1  # type: ignore[union-attr]  # a path is below its root
        node.hits = hits + 1
        node.last_access = now
        node.used_at = logical_time
        node.reuse_hint = 1.0


def _returned(
    store: BlockStore, data: Packed, position: int, name: str, salt_boundary: SaltBoundary | None
) -> Return | None:
    """What is remembered of the text behind `position`, which was evicted; the policy learns from it."""
    best: Ghost | None = None
    num_tokens = len(data) // TOKEN_BYTES
    while position < num_tokens:
        scope = name
        if salt_boundary is not None and position >= salt_boundary.position:
            scope = private_scope(name, *salt_boundary)
        taken = store.ghosts.take(scope, position, data)
        if taken is None:
            break
        ghost, same = taken
        share = same / ghost.num_tokens
        store.queue.returned(ghost, share, store.logical_time)
        position += same
        if best is None or ghost.hits >= best.hits:
            best = ghost
        if share < 1.0:
            return Return(position, best.hits, best.born_at, 1, 0)
    if best is None:
        return None
    return Return(position, best.hits, best.born_at, best.children_born, best.children_used)
