"""The text of many namespaces as one trie: how many have a text is known from a walk down one path.

    one namespace   |== 1 2 3 4 ==|== 5 6 ==|         spots   |== 1 2 3 ==|== 4 ==|== 5 6 ==|
    another         |== 1 2 3 ==|== 7 8 ==|                               |== 7 8 ==|

A spot is a piece of text. Each node of the tree that is entered here ends where a spot ends, so it runs along whole
spots and is counted in each. Holds nothing that no node has: text goes with its last node, and two spots become one
when nothing ends or branches between them. Where one node alone has a text, its spot shares the node's bytes.
"""

from stemma.radix.node import Node
from stemma.radix.spot import Spot
from stemma.radix.tokens import TOKEN_BYTES, Packed, common_prefix, packed_token


class Elsewhere:
    """The public text of all namespaces whose roots have its `root` as their spot."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root = Spot(None, b"", 0)

    def count(self, data: Packed, num_tokens: int) -> int:
        """How many namespaces have the first `num_tokens` (at least one) of packed tokens."""
        spot, position = self.root, 0
        while spot.children is not None:
            child = spot.children.get(packed_token(data, position))
            if child is None:
                break
            same = common_prefix(child.tokens, data, position)
            position += same
            if position >= num_tokens:
                return child.num_nodes
            if TOKEN_BYTES * same < len(child.tokens):
                break
            spot = child
        return 0

    # What happens to nodes -----------------------------------------------------------------------

    def grown(self, node: Node, above: Spot) -> None:
        """A new leaf whose parent ends at the spot `above`."""
        node.spot = _along(above, node.tokens)
        node.spot.num_ends += 1

    def lengthened(self, leaf: Node, spot: Spot, added: bytes) -> None:
        """A leaf that ended at `spot` has more tokens."""
        if spot.num_nodes == 1 and spot.children is None:
            alone = len(spot.tokens) + len(added) == len(leaf.tokens)
            spot.tokens = leaf.tokens if alone else spot.tokens + added
            return
        leaf.spot = _along(spot, added)
        leaf.spot.num_ends += 1
        spot.num_ends -= 1
        _join(spot)

    def was_split(self, upper: Node, lower: Node, spot: Spot) -> None:
        """A node that ends at `spot` is two now."""
        upper.spot = _before(spot, len(lower.tokens))
        upper.spot.num_ends += 1

    def trimmed(self, leaf: Node, spot: Spot, num_bytes: int) -> None:
        """A leaf that ended at `spot` has lost so many bytes at its end."""
        if spot.num_nodes == 1 and spot.children is None and num_bytes < len(spot.tokens):
            alone = len(spot.tokens) - num_bytes == len(leaf.tokens)
            spot.tokens = leaf.tokens if alone else spot.tokens[:-num_bytes]
            return
        leaf.spot = _before(spot, num_bytes)
        leaf.spot.num_ends += 1
        _leave(spot, num_bytes)

    def left(self, node: Node, spot: Spot) -> None:
        """A node that ends at `spot`, and below which there is nothing here, is matched no more."""
        node.spot = None
        above = spot.parent
        assert above is not None
        if spot.num_nodes > 1 or len(spot.tokens) < len(node.tokens):
            _leave(spot, len(node.tokens))
        else:
            _remove(spot, above)
            _join(above)


def _along(spot: Spot, data: bytes) -> Spot:
    """Count one more node along `data` from the end of `spot` on; returns the spot that ends where it ends."""
    at = 0
    while TOKEN_BYTES * at < len(data):
        if spot.children is None:
            spot.children = {}
        key = packed_token(data, at)
        child = spot.children.get(key)
        if child is None:
            child = spot.children[key] = Spot(spot, data[TOKEN_BYTES * at :], 1)
            return child
        same = common_prefix(child.tokens, data, at)
        if TOKEN_BYTES * same < len(child.tokens):
            child = _cut(child, TOKEN_BYTES * same)
        child.num_nodes += 1
        spot, at = child, at + same
    return spot


def _cut(spot: Spot, num_bytes: int) -> Spot:
    """Cut a spot in two; returns the upper one. `spot` stays the lower one, with what ends there."""
    above = spot.parent
    assert above is not None
    assert above.children is not None
    upper = Spot(above, spot.tokens[:num_bytes], spot.num_nodes)
    above.children[upper.tokens[:TOKEN_BYTES]] = upper
    spot.tokens = spot.tokens[num_bytes:]
    spot.parent = upper
    upper.children = {spot.tokens[:TOKEN_BYTES]: spot}
    return upper


def _before(spot: Spot, num_bytes: int) -> Spot:
    """The spot that ends so many bytes before the end of this one, made by a cut where there is none."""
    while num_bytes and num_bytes >= len(spot.tokens):
        num_bytes -= len(spot.tokens)
        assert spot.parent is not None
        spot = spot.parent
    return _cut(spot, len(spot.tokens) - num_bytes) if num_bytes else spot


def _leave(spot: Spot, num_bytes: int) -> None:
    """Count one node less along the last `num_bytes` up to the end of `spot`."""
    spot.num_ends -= 1
    lowest: Spot | None = None  # the lowest that stays
    while num_bytes:
        num_bytes -= len(spot.tokens)
        spot.num_nodes -= 1
        above = spot.parent
        assert above is not None
        if not spot.num_nodes:
            _remove(spot, above)
        elif lowest is None:
            lowest = spot
        spot = above
    _join(spot if lowest is None else lowest)


def _remove(spot: Spot, above: Spot) -> None:
    """Take out a spot along which no node runs any more."""
    siblings = above.children
    assert siblings is not None
    del siblings[spot.tokens[:TOKEN_BYTES]]
    if not siblings:
        above.children = None


def _join(spot: Spot) -> None:
    """Make one of a spot and its only child where no node ends between them."""
    if spot.parent is None or spot.num_ends or spot.children is None or len(spot.children) > 1:
        return
    (child,) = spot.children.values()
    above = spot.parent
    assert above.children is not None
    child.tokens = spot.tokens + child.tokens
    child.parent = above
    above.children[child.tokens[:TOKEN_BYTES]] = child
