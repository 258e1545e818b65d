"""The proof of the cache's invariants, by a walk over everything. Reads only."""

from collections import Counter

from stemma.radix.check_marks import check_marks
from stemma.radix.lease_state import LeaseState
from stemma.radix.lease_table import LeaseTable
from stemma.radix.node import Node
from stemma.radix.tokens import TOKEN_BYTES
from stemma.radix.tree import Tree
from stemma.radix.trie_edge import TrieEdge


def check_state(lease_table: LeaseTable) -> None:
    """Raise AssertionError with what is wrong in the store or with what is held of it, if anything is."""
    store = lease_table.store
    size = store.tree.block_size
    owners: Counter[int] = Counter(store.pool.free_blocks())
    leases = Counter(id(state.node) for state in lease_table.states)
    evictable = waiting = tokens = published = asleep = 0
    for node in store.tree.nodes():
        _check_node(node, size, leases[id(node)])
        assert node.parent is not None
        if node.is_asleep:
            assert store.tree.leaves.ticket_of(node.parent, node.key) == node.ticket, "what sleeps is not found"
        else:
            assert node.parent.children[node.key] is node
        owners.update(node.blocks[node.shared :])
        evictable += 0 if node.ref_count else node.owned
        tokens += node.end - node.start
        published += node.owned
        ready = not node.ref_count and not node.has_children
        assert bool(node.ticket) == ready, "a leaf that may go waits in the queue, and nothing else does"
        waiting += ready
        asleep += node.is_asleep
    for state in lease_table.states:
        owners.update(state.blocks[state.private :])
        _check_state(state, size)
    assert len(owners) == store.pool.total, "a block is lost"
    assert set(owners.values()) == {1}, "a block has two owners"
    assert evictable == store.evictable, f"{store.evictable} counted as evictable, {evictable} are"
    assert (tokens, published) == (store.published_tokens, store.published_blocks), "the published are miscounted"
    assert waiting == len(store.queue), f"{len(store.queue)} counted as waiting, {waiting} are"
    store.tree.leaves.check(asleep)
    _check_namespace_trie(store.tree)
    check_marks(lease_table)


def _check_node(node: Node, size: int, leases: int) -> None:
    assert node.parent is not None
    assert node.parent.end == node.start
    assert len(node.tokens) == TOKEN_BYTES * (node.end - node.start) > 0
    assert len(node.blocks) == -(-node.end // size) - node.start // size
    assert (node.key[1] if isinstance(node.key, tuple) else node.key) == node.tokens[:TOKEN_BYTES]
    assert node.leases == leases
    held = sum(isinstance(child, Node) and child.ref_count > 0 for child in node.children.values())
    assert node.ref_count == leases + held
    if node.hashes is not None:
        assert len(node.hashes) == node.end // size - node.start // size
    if node.shared:
        assert node.start % size, "only a head that begins before the node can be shared"
        ancestor = node.parent
        while ancestor.blocks[-1] != node.blocks[0] or ancestor.end // size != node.start // size:
            assert ancestor.parent is not None
            ancestor = ancestor.parent


def _check_namespace_trie(tree: Tree) -> None:
    """The text of all namespaces that are not looked at one by one: counted right, and nothing else is kept."""
    num_nodes: Counter[TrieEdge] = Counter()
    num_ends: Counter[TrieEdge] = Counter()
    top = tree.namespace_trie.root
    for root in tree.roots.values():
        assert root.trie_edge is (None if tree.alone.get(root.scope) is root else top)
    for node in tree.nodes():
        assert node.parent is not None
        entered = not node.private and not node.forgotten and node.parent.trie_edge is not None
        assert (node.trie_edge is not None) == entered, "a text is missing elsewhere, or too much is there"
        if node.trie_edge is None:
            continue
        num_ends[node.trie_edge] += 1
        trie_edge, rest = node.trie_edge, node.tokens
        while rest:
            assert rest.endswith(trie_edge.tokens), "a node ends elsewhere than its text does"
            rest = rest[: -len(trie_edge.tokens)]
            num_nodes[trie_edge] += 1
            assert trie_edge.parent is not None
            trie_edge = trie_edge.parent
        assert trie_edge is node.parent.trie_edge
    waiting = list((top.children or {}).values())
    while waiting:
        trie_edge = waiting.pop()
        below = list((trie_edge.children or {}).values())
        assert (trie_edge.num_nodes, trie_edge.num_ends) == (num_nodes.pop(trie_edge, 0), num_ends[trie_edge])
        assert trie_edge.num_ends or len(below) > 1, "a trie_edge ends where nothing ends"
        assert trie_edge.parent is not None
        assert (trie_edge.parent.children or {})[trie_edge.tokens[:TOKEN_BYTES]] is trie_edge
        waiting += below
    assert not num_nodes


def _check_state(state: LeaseState, size: int) -> None:
    """Every block before the private ones is the tree's, on the lease's own path."""
    node, blocks = state.node, state.blocks
    assert state.at <= node.end
    assert node.ref_count > 0
    assert len(blocks) * size >= state.num_tokens
    above: Node | None = node
    while above is not None:
        first = above.start // size
        for index in range(-(-above.start // size), min(-(-above.end // size), state.private, -(-state.at // size))):
            if index * size + size <= above.end or index == (state.at - 1) // size:
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
