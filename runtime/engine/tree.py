"""One moment of the cache's tree as plain values, for pictures: the terminal's, the server's, a notebook's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stemma.radix import Node, PrefixCache, namespace_of_node
from stemma.runtime.engine.namespaces import owner_of


@dataclass(slots=True)
class TreeNode:
    """An edge of the tree. The roots' nodes have no tokens and carry their namespace; so do nodes with which a
    namespace goes on from a text that all share.

    blocks: physical blocks that this node owns. references: leases on it and on what is below. hits: how often it was
    matched. idle: seconds since it was last used. marks: places in it where a model with windows or states can go on,
    counted in tokens from the root.
    """

    tokens: list[int]
    blocks: list[int]
    references: int
    hits: int
    idle: float
    namespace: str | None = None
    children: list[TreeNode] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens of this node and everything below it."""
        return len(self.tokens) + sum(child.num_tokens for child in self.children)


def owner(node: Node) -> str:
    """The namespace whose text it is."""
    return owner_of(namespace_of_node(node))


def snapshot(cache: PrefixCache, now: float) -> list[TreeNode]:
    """The roots of all namespaces that hold something. `now` is a reading of the cache's clock."""
    roots: list[TreeNode] = []
    made: dict[int, TreeNode] = {}
    for node in cache.walk():
        picture = TreeNode(
            tokens=np.frombuffer(node.tokens, dtype=np.int32).tolist(),
            blocks=list(node.blocks[node.shared :]),
            references=node.ref_count,
            hits=node.hits,
            idle=max(0.0, now - node.last_access),
            marks=sorted(node.marks or ()),
            namespace=owner(node) if node.private and node.parent is not None and not node.parent.private else None,
        )
        made[id(node)] = picture
        if id(node.parent) not in made:  # the roots themselves are not walked
            roots.append(TreeNode([], [], 0, 0, 0.0, namespace=node.scope))
            made[id(node.parent)] = roots[-1]
        made[id(node.parent)].children.append(picture)
    return roots
