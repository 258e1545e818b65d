"""The radix tree: edges of tokens, each with the physical blocks that hold their KV. Never allocates a block.

    position   0               16              32    37          48
    upper      |---- block 4 ----|---- block 7 ----|- 9 -|              owns 4, 7, 9
    lower                                          |- 9 -|--- block 2 --| shares its head 9, owns 2
    other                                          |- 5 ------|           owns 5, which begins as a copy of 9

A node covers positions [start, end) of the path and lists every block that touches them. Edges split at any token.
Where a node starts inside a block, its first block (its head) repeats the tokens before `start`: either it is the very
block of an ancestor (`shared`, the ancestor owns it and outlives the node), or a copy of its own. So each block has
one owner, a path's block table is the concatenation in which a child's head replaces the parent's last block, and
no reference counts are needed.
"""

from array import array
from collections.abc import Iterator
from typing import TypeAlias

from stemma.radix.tokens import TOKEN_BYTES, common_prefix, token_at

ChildKey: TypeAlias = "int | tuple[str, int]"  # the first token; with a salt where private text begins


class Node:
    """One edge of the tree and what hangs below it."""

    __slots__ = (
        "blocks",
        "children",
        "end",
        "held",
        "hits",
        "key",
        "leases",
        "parent",
        "shared",
        "stamp",
        "start",
        "ticket",
        "tokens",
        "writer",
    )

    def __init__(
        self, parent: "Node | None", key: ChildKey, start: int, tokens: bytes, blocks: "array[int]", shared: int
    ) -> None:
        self.parent = parent
        self.key = key
        self.start = start
        self.end = start + len(tokens) // TOKEN_BYTES
        self.tokens = tokens
        self.blocks = blocks
        self.shared = shared  # 1: blocks[0] belongs to an ancestor
        self.children: dict[ChildKey, Node] = {}
        self.held = 0  # leases on this node + children that are held
        self.leases = 0  # leases on this node itself
        self.writer = False  # a lease writes on in the last block, past `end`
        self.stamp = 0.0  # when it was last used
        self.hits = 0  # how often it was matched
        self.ticket = 0  # which entry of the eviction queue is about this node; 0: none

    @property
    def owned(self) -> int:
        """How many blocks come free when this node goes."""
        return len(self.blocks) - self.shared


class Walk:
    """Where a query ended: `position` tokens matched, the last of them in `node`."""

    __slots__ = ("node", "path", "position")

    def __init__(self, node: Node, position: int, path: list[Node]) -> None:
        self.node = node
        self.position = position
        self.path = path


class Tree:
    """Roots by namespace, descent, split, growth and removal of nodes."""

    __slots__ = ("block_size", "roots")

    def __init__(self, block_size: int) -> None:
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.block_size = block_size
        self.roots: dict[str, Node] = {}

    def root(self, namespace: str) -> Node:
        """The root of a namespace, made when it is missing. A root is always held, so nothing evicts it."""
        root = self.roots.get(namespace)
        if root is None:
            root = self.roots[namespace] = Node(None, 0, 0, b"", array("i"), 0)
            root.held = 1
        return root

    def descend(
        self, node: Node, position: int, data: bytes, limit: int, path: list[Node], data_start: int = 0
    ) -> Walk:
        """Follow `data` from the token `position` (which lies in `node` or at its end) as far as it goes.

        `data` begins at position `data_start` of the path and counts up to position `limit`. Reads only; nodes
        entered are appended to `path`.
        """
        if position < node.end:
            rest = node.tokens[TOKEN_BYTES * (position - node.start) :]
            position = min(position + common_prefix(rest, data, position - data_start), limit)
        while node.end <= position < limit:
            child = node.children.get(token_at(data, position - data_start))
            if child is None:
                break
            node = child
            path.append(node)
            position = min(position + common_prefix(node.tokens, data, position - data_start), limit)
        return Walk(node, position, path)

    def split(self, node: Node, position: int) -> Node:
        """Cut `node` at `position`; returns the new upper part. `node` stays the lower part, with its leases."""
        assert node.start < position < node.end
        assert node.parent is not None
        cut, first = position - node.start, node.start // self.block_size
        upper = Node(
            node.parent,
            node.key,
            node.start,
            node.tokens[: TOKEN_BYTES * cut],
            node.blocks[: -(-position // self.block_size) - first],
            node.shared,
        )
        upper.held = 1 if node.held else 0
        upper.stamp, upper.hits = node.stamp, node.hits
        node.parent.children[node.key] = upper
        node.parent = upper
        node.tokens = node.tokens[TOKEN_BYTES * cut :]
        node.blocks = node.blocks[position // self.block_size - first :]
        node.shared = 1 if position % self.block_size else 0
        node.start = position
        node.key = token_at(node.tokens, 0)
        upper.children[node.key] = node
        return upper

    def grow(self, parent: Node, tokens: bytes, blocks: "array[int]", shared: int) -> Node:
        """A new leaf below `parent`, starting at its end."""
        key = token_at(tokens, 0)
        assert key not in parent.children
        node = parent.children[key] = Node(parent, key, parent.end, tokens, blocks, shared)
        return node

    def remove(self, leaf: Node) -> Node:
        """Take a leaf out; returns its parent."""
        parent = leaf.parent
        assert parent is not None
        assert not leaf.children
        del parent.children[leaf.key]
        leaf.parent = None
        return parent

    def trim(self, leaf: Node, count: int) -> "array[int]":
        """Cut the last `count` blocks (fewer than it owns) off a leaf; returns them."""
        assert not leaf.children
        assert 0 < count < leaf.owned
        gone = leaf.blocks[-count:]
        del leaf.blocks[-count:]
        leaf.end = (leaf.start // self.block_size + len(leaf.blocks)) * self.block_size
        leaf.tokens = leaf.tokens[: TOKEN_BYTES * (leaf.end - leaf.start)]
        return gone

    def nodes(self) -> Iterator[Node]:
        """Every node but the roots, parents first."""
        stack = list(self.roots.values())
        while stack:
            node = stack.pop()
            if node.parent is not None:
                yield node
            stack.extend(node.children.values())
