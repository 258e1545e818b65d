"""The proof of the cache's invariants, by a walk over everything. Reads only."""

from collections import Counter

from stemma.radix.held import Held
from stemma.radix.keeper import Keeper
from stemma.radix.node import Node
from stemma.radix.spot import Spot
from stemma.radix.tokens import TOKEN_BYTES
from stemma.radix.tree import Tree


def check_held(keeper: Keeper) -> None:
    """Raise AssertionError with what is wrong in the store or with what is held of it, if anything is."""
    store = keeper.store
    size = store.tree.block_size
    owners: Counter[int] = Counter(store.pool.free_blocks())
    leases = Counter(id(held.node) for held in keeper.held)
    evictable = waiting = tokens = published = 0
    for node in store.tree.nodes():
        _check_node(node, size, leases[id(node)])
        owners.update(node.blocks[node.shared :])
        evictable += 0 if node.held else node.owned
        tokens += node.end - node.start
        published += node.owned
        ready = not node.held and not node.children
        assert bool(node.ticket) == ready, "a leaf that may go waits in the queue, and nothing else does"
        waiting += ready
    for held in keeper.held:
        owners.update(held.blocks[held.private :])
        _check_held(held, size)
    assert len(owners) == store.pool.total, "a block is lost"
    assert set(owners.values()) == {1}, "a block has two owners"
    assert evictable == store.evictable, f"{store.evictable} counted as evictable, {evictable} are"
    assert (tokens, published) == (store.published_tokens, store.published_blocks), "the published are miscounted"
    assert waiting == len(store.queue), f"{len(store.queue)} counted as waiting, {waiting} are"
    _check_elsewhere(store.tree)


def _check_node(node: Node, size: int, leases: int) -> None:
    assert node.parent is not None
    assert node.parent.end == node.start
    assert node.parent.children[node.key] is node
    assert len(node.tokens) == TOKEN_BYTES * (node.end - node.start) > 0
    assert len(node.blocks) == -(-node.end // size) - node.start // size
    assert (node.key[1] if isinstance(node.key, tuple) else node.key) == node.tokens[:TOKEN_BYTES]
    assert node.leases == leases
    assert node.held == leases + sum(1 for child in node.children.values() if child.held)
    if node.hashes is not None:
        assert len(node.hashes) == node.end // size - node.start // size
    if node.shared:
        assert node.start % size, "only a head that begins before the node can be shared"
        ancestor = node.parent
        while ancestor.blocks[-1] != node.blocks[0] or ancestor.end // size != node.start // size:
            assert ancestor.parent is not None
            ancestor = ancestor.parent


def _check_elsewhere(tree: Tree) -> None:
    """The text of all namespaces that are not looked at one by one: counted right, and nothing else is kept."""
    num_nodes: Counter[Spot] = Counter()
    num_ends: Counter[Spot] = Counter()
    top = tree.elsewhere.root
    for root in tree.roots.values():
        assert root.spot is (None if tree.alone.get(root.realm) is root else top)
    for node in tree.nodes():
        assert node.parent is not None
        entered = not node.private and not node.forgotten and node.parent.spot is not None
        assert (node.spot is not None) == entered, "a text is missing elsewhere, or too much is there"
        if node.spot is None:
            continue
        num_ends[node.spot] += 1
        spot, rest = node.spot, node.tokens
        while rest:
            assert rest.endswith(spot.tokens), "a node ends elsewhere than its text does"
            rest = rest[: -len(spot.tokens)]
            num_nodes[spot] += 1
            assert spot.parent is not None
            spot = spot.parent
        assert spot is node.parent.spot
    waiting = list((top.children or {}).values())
    while waiting:
        spot = waiting.pop()
        below = list((spot.children or {}).values())
        assert (spot.num_nodes, spot.num_ends) == (num_nodes.pop(spot, 0), num_ends[spot])
        assert spot.num_ends or len(below) > 1, "a spot ends where nothing ends"
        assert spot.parent is not None
        assert (spot.parent.children or {})[spot.tokens[:TOKEN_BYTES]] is spot
        waiting += below
    assert not num_nodes


def _check_held(held: Held, size: int) -> None:
    """Every block before the private ones is the tree's, on the lease's own path."""
    node, blocks = held.node, held.blocks
    assert held.at <= node.end
    assert node.held > 0
    assert len(blocks) * size >= held.num_tokens
    above: Node | None = node
    while above is not None:
        first = above.start // size
        for index in range(-(-above.start // size), min(-(-above.end // size), held.private, -(-held.at // size))):
            if index * size + size <= above.end or index == (held.at - 1) // size:
                assert blocks[index] == above.blocks[index - first] or _below(node, above, index, size, blocks[index])
        above = above.parent


def _below(node: Node, above: Node, index: int, size: int, block: int) -> bool:
    """Is `block` the one that a node between `node` and `above` has for block `index`?"""
    at: Node | None = node
    while at is not None and at is not above:
        first = at.start // size
        if first <= index < first + len(at.blocks) and at.blocks[index - first] == block:
            return True
        at = at.parent
    return False
