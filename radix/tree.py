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
from typing import NamedTuple, TypeAlias

from stemma.radix.tokens import TOKEN_BYTES, Packed, common_prefix, packed_token

# The first token, packed; with a salt where private text begins; with a number where it was forgotten.
ChildKey: TypeAlias = "bytes | tuple[str | int, bytes]"


def private_realm(namespace: str, position: int, salt: str) -> str:
    """The realm of the text behind a fence: no two fences have the same, whatever stands in their names."""
    return f"{_before_salt(namespace)}{position}\x1f{salt}"


def is_behind(realm: str, namespace: str, salt: str | None) -> bool:
    """Whether a private realm lies behind a fence of this namespace; with a salt: behind one of this salt."""
    before = _before_salt(namespace)
    return realm.startswith(before) and (salt is None or realm[len(before) :].partition("\x1f")[2] == salt)


def _before_salt(namespace: str) -> str:
    return namespace.replace("\x1f", "\x1f\x1f") + "\x1f"


class Node:
    """One edge of the tree and what hangs below it."""

    __slots__ = (
        "blocks",
        "born_at",
        "children",
        "children_born",
        "children_used",
        "end",
        "forgotten",
        "hashes",
        "held",
        "hits",
        "key",
        "leases",
        "line",
        "outlook",
        "parent",
        "place",
        "priority",
        "private",
        "realm",
        "shared",
        "stamp",
        "start",
        "ticket",
        "tokens",
        "touched_at",
        "used_at",
        "writer",
    )

    def __init__(
        self,
        parent: "Node | None",
        key: ChildKey,
        start: int,
        tokens: bytes,
        blocks: "array[int]",
        shared: int,
        realm: str,
        private: bool = False,
    ) -> None:
        self.realm = realm  # whose text this is: the namespace, with fence and salt where the text is private
        self.private = private  # behind a fence
        self.forgotten = False  # nothing matches it any more; it goes when nobody holds it
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
        self.hashes: list[bytes] | None = None  # of the blocks that end in this node; while somebody listens
        # What a policy may know. Churn counts the blocks ever allocated: the clock that eviction runs by.
        self.stamp = 0.0  # when it was last used, by the cache's clock
        self.used_at = 0  # the same in churn
        self.touched_at = 0  # when it was last used or written to, by the hedge's count of that
        self.born_at = 0  # when it was first computed, in churn; survives eviction while that is remembered
        self.hits = 0  # how often it was matched; survives eviction likewise
        self.children_born = 0
        self.children_used = 0  # how many of the children born were matched later
        self.priority = 0  # the highest of the leases that published it
        self.outlook = 1.0  # what the program said when it let go: 0.0 never again, above 1.0 soon
        self.ticket = 0  # the number of its entry in the eviction queue; 0: none
        self.place: object = None  # what the policy keeps about it since its last use
        self.line: object = None  # where in the policy's queue it waits

    @property
    def owned(self) -> int:
        """How many blocks come free when this node goes."""
        return len(self.blocks) - self.shared


class Fence(NamedTuple):
    """From `position` on, the text is private to those who know the salt."""

    position: int
    salt: str


# Where a query ended: the node in which its last matching token lies, and how many tokens of the path match.
Walk: TypeAlias = "tuple[Node, int]"


class Tree:
    """Roots by namespace; descent, split, growth and removal of nodes."""

    __slots__ = ("_num_hidden", "block_size", "orphans", "roots")

    def __init__(self, block_size: int) -> None:
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.block_size = block_size
        self.roots: dict[str, Node] = {}
        self._num_hidden = 0
        self.orphans: dict[Node, None] = {}  # roots of what was dropped while leases still held a part of it

    def root(self, namespace: str) -> Node:
        """The root of a namespace, made when it is missing. A root is always held, so nothing evicts it."""
        root = self.roots.get(namespace)
        if root is None:
            root = self.roots[namespace] = Node(None, b"", 0, b"", array("i"), 0, namespace)
            root.held = 1
        return root

    def descend(
        self,
        node: Node,
        position: int,
        data: Packed,
        limit: int,
        path: list[Node],
        data_start: int = 0,
        fence: Fence | None = None,
    ) -> Walk:
        """Follow `data` from the token `position` (which lies in `node` or at its end) as far as it goes.

        `data` begins at position `data_start` of the path and counts up to position `limit`. Reads only; nodes
        entered are appended to `path`. At a fence only children under its salt are entered.
        """
        if fence is None or position > fence.position:
            return self._follow(node, position, data, limit, path, data_start)
        walk = self._follow(node, position, data, min(limit, fence.position), path, data_start)
        node, position = walk
        if not position == fence.position == node.end < limit:
            return walk
        child = node.children.get((fence.salt, packed_token(data, position - data_start)))
        if child is None:
            return walk
        path.append(child)
        return self._follow(child, position, data, limit, path, data_start)

    def _follow(self, node: Node, position: int, data: Packed, limit: int, path: list[Node], data_start: int) -> Walk:
        if position < node.end:
            rest = node.tokens[TOKEN_BYTES * (position - node.start) :]
            position = min(position + common_prefix(rest, data, position - data_start), limit)
        while node.end <= position < limit:
            at = TOKEN_BYTES * (position - data_start)
            child = node.children.get(bytes(data[at : at + TOKEN_BYTES]))
            if child is None:
                break
            node = child
            path.append(node)
            if node.end <= limit and node.tokens.startswith(data[at : at + len(node.tokens)]):
                position = node.end
                continue
            position += common_prefix(node.tokens, data, position - data_start)
            return node, position if position < limit else limit
        return node, position

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
            node.realm,
            node.private,
        )
        upper.forgotten = node.forgotten
        upper.held = 1 if node.held else 0
        upper.stamp, upper.used_at, upper.born_at = node.stamp, node.used_at, node.born_at
        upper.touched_at = node.touched_at
        upper.hits, upper.priority, upper.place = node.hits, node.priority, node.place
        upper.children_born, upper.children_used = 1, int(node.hits > 0)
        if node.hashes is not None:
            ending = position // self.block_size - first
            upper.hashes, node.hashes = node.hashes[:ending], node.hashes[ending:]
        node.parent.children[node.key] = upper
        node.parent = upper
        node.tokens = node.tokens[TOKEN_BYTES * cut :]
        node.blocks = node.blocks[position // self.block_size - first :]
        node.shared = 1 if position % self.block_size else 0
        node.start = position
        node.key = node.tokens[:TOKEN_BYTES]
        upper.children[node.key] = node
        return upper

    def grow(self, parent: Node, tokens: bytes, blocks: "array[int]", shared: int, salt: str | None = None) -> Node:
        """A new leaf below `parent`, starting at its end; `salt` begins private text."""
        token = tokens[:TOKEN_BYTES]
        key: ChildKey = token if salt is None else (salt, token)
        realm = parent.realm if salt is None else private_realm(parent.realm, parent.end, salt)
        private = parent.private or salt is not None
        assert key not in parent.children
        node = parent.children[key] = Node(parent, key, parent.end, tokens, blocks, shared, realm, private)
        node.forgotten = parent.forgotten
        return node

    def lengthen(self, leaf: Node, tokens: bytes, blocks: "array[int]") -> None:
        """Add tokens at the end of a leaf, with the blocks past its last one."""
        assert not leaf.children
        leaf.tokens += tokens
        leaf.blocks.extend(blocks)
        leaf.end += len(tokens) // TOKEN_BYTES

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
        if leaf.hashes is not None:
            del leaf.hashes[len(leaf.blocks) :]
        leaf.end = (leaf.start // self.block_size + len(leaf.blocks)) * self.block_size
        leaf.tokens = leaf.tokens[: TOKEN_BYTES * (leaf.end - leaf.start)]
        return gone

    def hide(self, node: Node) -> None:
        """Move a node under a key that no query makes, so that nothing matches it any more."""
        parent = node.parent
        assert parent is not None
        del parent.children[node.key]
        token = node.key[1] if isinstance(node.key, tuple) else node.key
        self._num_hidden += 1
        node.key = (self._num_hidden, token)
        parent.children[node.key] = node

    def remove_root(self, root: Node) -> None:
        """Forget a namespace below which there is nothing."""
        assert not root.children
        if self.roots.get(root.realm) is root:
            del self.roots[root.realm]
        else:
            self.orphans.pop(root, None)

    def nodes(self) -> Iterator[Node]:
        """Every node but the roots, each after its parent."""
        for root in [*self.roots.values(), *self.orphans]:
            for top in root.children.values():
                yield from subtree(top)

    def matchable(self) -> Iterator[Node]:
        """Every node but the roots and what was forgotten, each after its parent."""
        for root in self.roots.values():
            for node in subtree(root):
                if node is not root and not node.forgotten:
                    yield node


def subtree(top: Node) -> Iterator[Node]:
    """A node and all below it, each after its parent and before its parent's next child."""
    stack = [top]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())
