"""What cached text goes on with behind a place. Reads only: neither recency nor the shape of the tree changes.

position     0 ......... at ......... limit .................. end
the lease    |== tree ===|-- written ---|
the tree     |===========|==============|--- the branch used last ---|
"""

from stemma.radix.node import Node
from stemma.radix.tokens import TOKEN_BYTES, Packed, unpack
from stemma.radix.tree import SaltBoundary, Tree

MAX_BRANCHES = 32
"""So many of the newest ways to go on are compared at a junction."""


def continuation(
    tree: Tree, node: Node, at: int, data: Packed, num_wanted: int, salt_boundary: SaltBoundary | None
) -> list[int]:
    """At most `num_wanted` tokens that follow `data`, which begins at position `at` of a path; `at` lies in `node` or
    at its end. At each junction the branch that was used last, of equals the one used more often."""
    if node.forgotten:
        return []
    while node.start >= at and node.parent is not None:
        node = node.parent
    position = at + len(data) // TOKEN_BYTES
    node, met = tree.descend(node, at, data, position, [], at, salt_boundary)
    found: list[int] = []
    if met < position:
        return found
    while len(found) < num_wanted:
        end = _end(node, salt_boundary)
        if position < end:
            end = min(end, position + num_wanted - len(found))
            found += unpack(node.tokens[TOKEN_BYTES * (position - node.start) : TOKEN_BYTES * (end - node.start)])
            position = end
            continue
        child = None if position < node.end else _branch(tree, node, salt_boundary)
        if child is None:
            break
        node = child
    return found


def _end(node: Node, salt_boundary: SaltBoundary | None) -> int:
    """Up to where its tokens may be read: public text goes no further than to where private text begins."""
    if salt_boundary is None or node.private:
        return node.end
    return min(node.end, salt_boundary.position)


def _branch(tree: Tree, node: Node, salt_boundary: SaltBoundary | None) -> Node | None:
    """One of the children that may be entered here."""
    salt = salt_boundary.salt if salt_boundary is not None and node.end == salt_boundary.position else None
    best: Node | None = None
    for token in tree.newest(node, salt, MAX_BRANCHES):
        child = tree.child(node, token if salt is None else (salt, token))
        assert child is not None
        if best is None or (child.last_access, child.hits) > (best.last_access, best.hits):
            best = child
    return best
