"""The text of many namespaces as one trie: how many have a text is known from a walk down one path.

    one namespace   |== 1 2 3 4 ==|== 5 6 ==|         edges   |== 1 2 3 ==|== 4 ==|== 5 6 ==|
    another         |== 1 2 3 ==|== 7 8 ==|                               |== 7 8 ==|

An edge is a piece of text. Each node of the tree that is entered here ends where an edge ends, so it runs along whole
edges and is counted in each. Holds nothing that no node has: text goes with its last node, and two edges become one
when nothing ends or branches between them. Where one node alone has a text, its edge shares the node's bytes.
"""

from stemma.radix.node import Node
from stemma.radix.tokens import TOKEN_BYTES, Packed, common_prefix, packed_token
from stemma.radix.trie_edge import TrieEdge


class NamespaceTrie:
    """The public text of all namespaces whose roots have its `root` as their trie edge."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root = TrieEdge(None, b"", 0)

    def count(self, data: Packed, num_tokens: int) -> int:
        """How many namespaces have the first `num_tokens` (at least one) of packed tokens."""
        trie_edge, position = self.root, 0
        while trie_edge.children is not None:
            child = trie_edge.children.get(packed_token(data, position))
            if child is None:
                break
            same = common_prefix(child.tokens, data, position)
            position += same
            if position >= num_tokens:
                return child.num_nodes
            if TOKEN_BYTES * same < len(child.tokens):
                break
            trie_edge = child
        return 0

    # What happens to nodes -----------------------------------------------------------------------

    def grown(self, node: Node, above: TrieEdge) -> None:
        """A new leaf whose parent ends at the trie edge `above`."""
        node.trie_edge = _along(above, node.tokens)
        node.trie_edge.num_ends += 1

    def lengthened(self, leaf: Node, trie_edge: TrieEdge, added: bytes) -> None:
        """A leaf that ended at `trie_edge` has more tokens."""
        if trie_edge.num_nodes == 1 and trie_edge.children is None:
            alone = len(trie_edge.tokens) + len(added) == len(leaf.tokens)
            trie_edge.tokens = leaf.tokens if alone else trie_edge.tokens + added
            return
        leaf.trie_edge = _along(trie_edge, added)
        leaf.trie_edge.num_ends += 1
        trie_edge.num_ends -= 1
        _join(trie_edge)

    def was_split(self, upper: Node, lower: Node, trie_edge: TrieEdge) -> None:
        """A node that ends at `trie_edge` is two now."""
        upper.trie_edge = _before(trie_edge, len(lower.tokens))
        upper.trie_edge.num_ends += 1

    def trimmed(self, leaf: Node, trie_edge: TrieEdge, num_bytes: int) -> None:
        """A leaf that ended at `trie_edge` has lost so many bytes at its end."""
        if trie_edge.num_nodes == 1 and trie_edge.children is None and num_bytes < len(trie_edge.tokens):
            alone = len(trie_edge.tokens) - num_bytes == len(leaf.tokens)
            trie_edge.tokens = leaf.tokens if alone else trie_edge.tokens[:-num_bytes]
            return
        leaf.trie_edge = _before(trie_edge, num_bytes)
        leaf.trie_edge.num_ends += 1
        _leave(trie_edge, num_bytes)

    def left(self, node: Node, trie_edge: TrieEdge) -> None:
        """A node that ends at `trie_edge`, and below which there is nothing here, is matched no more."""
        node.trie_edge = None
        above = trie_edge.parent
        assert above is not None
        if trie_edge.num_nodes > 1 or len(trie_edge.tokens) < len(node.tokens):
            _leave(trie_edge, len(node.tokens))
        else:
            _remove(trie_edge, above)
            _join(above)


def _along(trie_edge: TrieEdge, data: bytes) -> TrieEdge:
    """Count one more node along `data` from the end of `trie_edge` on; returns the edge that ends where it ends."""
    at = 0
    while TOKEN_BYTES * at < len(data):
        if trie_edge.children is None:
            trie_edge.children = {}
        key = packed_token(data, at)
        child = trie_edge.children.get(key)
        if child is None:
            child = trie_edge.children[key] = TrieEdge(trie_edge, data[TOKEN_BYTES * at :], 1)
            return child
        same = common_prefix(child.tokens, data, at)
        if TOKEN_BYTES * same < len(child.tokens):
            child = _cut(child, TOKEN_BYTES * same)
        child.num_nodes += 1
        trie_edge, at = child, at + same
    return trie_edge


def _cut(trie_edge: TrieEdge, num_bytes: int) -> TrieEdge:
    """Cut a trie edge in two; returns the upper one. `trie_edge` stays the lower one, with what ends there."""
    above = trie_edge.parent
    assert above is not None
    assert above.children is not None
    upper = TrieEdge(above, trie_edge.tokens[:num_bytes], trie_edge.num_nodes)
    above.children[upper.tokens[:TOKEN_BYTES]] = upper
    trie_edge.tokens = trie_edge.tokens[num_bytes:]
    trie_edge.parent = upper
    upper.children = {trie_edge.tokens[:TOKEN_BYTES]: trie_edge}
    return upper


def _before(trie_edge: TrieEdge, num_bytes: int) -> TrieEdge:
    """The trie edge that ends so many bytes before the end of this one, made by a cut where there is none."""
    while num_bytes and num_bytes >= len(trie_edge.tokens):
        num_bytes -= len(trie_edge.tokens)
        assert trie_edge.parent is not None
        trie_edge = trie_edge.parent
    return _cut(trie_edge, len(trie_edge.tokens) - num_bytes) if num_bytes else trie_edge


def _leave(trie_edge: TrieEdge, num_bytes: int) -> None:
    """Count one node less along the last `num_bytes` up to the end of `trie_edge`."""
    trie_edge.num_ends -= 1
    lowest: TrieEdge | None = None  # the lowest that stays
    while num_bytes:
        num_bytes -= len(trie_edge.tokens)
        trie_edge.num_nodes -= 1
        above = trie_edge.parent
        assert above is not None
        if not trie_edge.num_nodes:
            _remove(trie_edge, above)
        elif lowest is None:
            lowest = trie_edge
        trie_edge = above
    _join(trie_edge if lowest is None else lowest)


def _remove(trie_edge: TrieEdge, above: TrieEdge) -> None:
    """Take out a trie edge along which no node runs any more."""
    siblings = above.children
    assert siblings is not None
    del siblings[trie_edge.tokens[:TOKEN_BYTES]]
    if not siblings:
        above.children = None


def _join(trie_edge: TrieEdge) -> None:
    """Make one of a trie edge and its only child where no node ends between them."""
    if trie_edge.parent is None or trie_edge.num_ends or trie_edge.children is None or len(trie_edge.children) > 1:
        return
    (child,) = trie_edge.children.values()
    above = trie_edge.parent
    assert above.children is not None
    child.tokens = trie_edge.tokens + child.tokens
    child.parent = above
    above.children[child.tokens[:TOKEN_BYTES]] = child
