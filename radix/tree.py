"""The radix tree: edges of tokens, each with the physical blocks that hold their KV. Never allocates a block.

    position   0               16              32    37          48
    upper      |---- block 4 ----|---- block 7 ----|- 9 -|              owns 4, 7, 9
    lower                                          |- 9 -|--- block 2 --| shares its head 9, owns 2
    other                                          |- 5 ------|           owns 5, which begins as a copy of 9

A node covers positions [start, end) of the path and lists every block that touches them. Edges split at any token.
Where a node starts inside a block, its first block (its head) repeats the tokens before `start`: either it is the very
block of an ancestor (`shared`, the ancestor owns it and outlives the node), or a copy of its own. So each block has
one owner, a path's block table is the concatenation in which a child's head replaces the parent's last block, and
no reference counts of blocks are needed.

SGLang's RadixAttention (Zheng et al. 2024) has such a tree with edges cut at pages; vLLM hashes each full block with
all before it instead. Here edges are cut at tokens, so a hit need not end where a block does.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from stemma.radix.beginnings import Beginnings
from stemma.radix.leaves import Leaves
from stemma.radix.mark import split_marks
from stemma.radix.namespace_trie import NamespaceTrie
from stemma.radix.node import ChildKey, Node, private_scope
from stemma.radix.tokens import TOKEN_BYTES, Packed, common_prefix, packed_token

MAX_ALONE: Final = 64  # so many namespaces are looked at one by one; what the others have is kept together as well


class SaltBoundary(NamedTuple):
    """From `position` on, the text is private to those who know the salt."""

    position: int
    salt: str


# Where a query ended: the node in which its last matching token lies, and how many tokens of the path match.
Walk: TypeAlias = "tuple[Node, int]"


class Tree:
    """Roots by namespace; descent, split, growth and removal of nodes."""

    __slots__ = ("_num_hidden", "alone", "beginnings", "block_size", "leaves", "namespace_trie", "orphans", "roots")

    def __init__(self, block_size: int, leaves: Leaves) -> None:
        """leaves: those that sleep."""
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.block_size = block_size
        self.leaves = leaves
        self.roots: dict[str, Node] = {}
        self._num_hidden = 0
        self.alone: dict[str, Node] = {}  # the roots of a few namespaces
        self.namespace_trie = NamespaceTrie()  # the public text of all others
        self.beginnings = Beginnings()
        self.orphans: dict[Node, None] = {}  # roots of what was dropped while leases still held a part of it

    def root(self, namespace: str) -> Node:
        """The root of a namespace, made when it is missing. A root is always held, so nothing evicts it."""
        root = self.roots.get(namespace)
        if root is None:
            root = self.roots[namespace] = Node(None, b"", 0, b"", array("i"), 0, namespace)
            root.ref_count = 1
            if len(self.alone) < MAX_ALONE:
                self.alone[namespace] = root
            else:
                root.trie_edge = self.namespace_trie.root
        return root

    def descend(
        self,
        node: Node,
        position: int,
        data: Packed,
        limit: int,
        path: list[Node],
        data_start: int = 0,
        salt_boundary: SaltBoundary | None = None,
    ) -> Walk:
        """Follow `data` from the token `position` (which lies in `node` or at its end) as far as it goes.

        `data` begins at position `data_start` of the path and counts up to position `limit`. Reads only; nodes
        entered are appended to `path`, the last perhaps as a picture. At a salt boundary only children under its salt
        are entered.
        """
        if salt_boundary is None or position > salt_boundary.position:
            return self.follow(node, position, data, limit, path, data_start)
        walk = self.follow(node, position, data, min(limit, salt_boundary.position), path, data_start)
        node, position = walk
        if not position == salt_boundary.position == node.end < limit:
            return walk
        child = node.children.get((salt_boundary.salt, packed_token(data, position - data_start)))
        if child is None:
            return walk
        if isinstance(child, int):
            child = self.leaves.picture(child)
        path.append(child)
        return self.follow(child, position, data, limit, path, data_start)

    def follow(self, node: Node, position: int, data: Packed, limit: int, path: list[Node], data_start: int) -> Walk:
        """As `descend`, where no salt boundary lies ahead."""
        if position < node.end:
            rest = node.tokens[TOKEN_BYTES * (position - node.start) :]
            position = min(position + common_prefix(rest, data, position - data_start), limit)
            if position < node.end:
                return node, position
        while position < limit and (node.children or node.num_apart):
            at = TOKEN_BYTES * (position - data_start)
            child = node.children.get(bytes(data[at : at + TOKEN_BYTES]))
            if child is None:
                if not node.num_apart:
                    break
                child = self.leaves.child(node, bytes(data[at : at + TOKEN_BYTES]))
                if child is None:
                    break
            node = self.leaves.picture(child) if isinstance(child, int) else child
            path.append(node)
            tokens, end = node.tokens, node.end
            if end <= limit and tokens.startswith(data[at : at + len(tokens)]):
                position = end
                continue
            position += common_prefix(tokens, data, position - data_start)
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
            node.scope,
            node.private,
        )
        upper.forgotten = node.forgotten
        upper.ref_count = 1 if node.ref_count else 0
        upper.last_access, upper.used_at, upper.born_at = node.last_access, node.used_at, node.born_at
        upper.touched_at = node.touched_at
        upper.hits, upper.priority, upper.rate, upper.kind = node.hits, node.priority, node.rate, node.kind
        upper.children_born, upper.children_used = 1, int(node.hits > 0)
        if node.hashes is not None:
            ending = position // self.block_size - first
            upper.hashes, node.hashes = node.hashes[:ending], node.hashes[ending:]
        node.parent.put(node.key, upper)
        node.parent = upper
        node.tokens = node.tokens[TOKEN_BYTES * cut :]
        node.blocks = node.blocks[position // self.block_size - first :]
        node.shared = 1 if position % self.block_size else 0
        node.start = position
        node.key = node.tokens[:TOKEN_BYTES]
        upper.put(node.key, node)
        upper.prompt = node.prompt
        if node.places is not None:
            split_marks(node, upper)
        if node.trie_edge is not None:
            self.namespace_trie.was_split(upper, node, node.trie_edge)
        return upper

    def grow(self, parent: Node, tokens: bytes, blocks: "array[int]", shared: int, salt: str | None = None) -> Node:
        """A new leaf below `parent`, starting at its end; `salt` begins private text."""
        token = tokens[:TOKEN_BYTES]
        key: ChildKey = token if salt is None else (salt, token)
        scope = parent.scope if salt is None else private_scope(parent.scope, parent.end, salt)
        private = parent.private or salt is not None
        assert key not in parent.children
        if parent.births is not None:
            self.leaves.born(parent, key)
        node = Node(parent, key, parent.end, tokens, blocks, shared, scope, private)
        parent.put(key, node)
        node.forgotten = parent.forgotten
        if salt is not None or parent in self.beginnings.of:
            self.beginnings.grown(parent, salt, token)
        if parent.trie_edge is not None and salt is None:
            self.namespace_trie.grown(node, parent.trie_edge)
        return node

    def lengthen(self, leaf: Node, tokens: bytes, blocks: "array[int]") -> None:
        """Add tokens at the end of a leaf, with the blocks past its last one."""
        assert not leaf.has_children
        leaf.tokens += tokens
        leaf.blocks.extend(blocks)
        leaf.end += len(tokens) // TOKEN_BYTES
        if leaf.trie_edge is not None:
            self.namespace_trie.lengthened(leaf, leaf.trie_edge, tokens)

    def remove(self, leaf: Node) -> Node:
        """Take a leaf out; returns its parent."""
        parent = leaf.parent
        assert parent is not None
        assert not leaf.has_children
        parent.take(leaf.key)
        if self.beginnings.of:
            self.beginnings.gone(parent, leaf.key)
            if not parent.has_children:
                self.beginnings.closed(parent)
        if parent.number:
            self.leaves.lost_child(parent)
        if leaf.trie_edge is not None:
            self.namespace_trie.left(leaf, leaf.trie_edge)
        leaf.parent = None
        return parent

    def trim(self, leaf: Node, count: int) -> "array[int]":
        """Cut the last `count` blocks (fewer than it owns) off a leaf; returns them."""
        blocks = leaf.blocks
        assert not leaf.has_children
        assert 0 < count < len(blocks) - leaf.shared
        gone = blocks[-count:]
        del blocks[-count:]
        if leaf.hashes is not None:
            del leaf.hashes[len(blocks) :]
        leaf.end = (leaf.start // self.block_size + len(blocks)) * self.block_size
        before = len(leaf.tokens)
        leaf.tokens = leaf.tokens[: TOKEN_BYTES * (leaf.end - leaf.start)]
        if leaf.trie_edge is not None:
            self.namespace_trie.trimmed(leaf, leaf.trie_edge, before - len(leaf.tokens))
        return gone

    def hide(self, node: Node) -> None:
        """Move a node under a key that no query makes, so that nothing matches it any more."""
        parent = node.parent
        assert parent is not None
        if node.is_asleep:
            self.leaves.wake(node)
        parent.take(node.key)
        self.beginnings.gone(parent, node.key)
        token = node.key[1] if isinstance(node.key, tuple) else node.key
        self._num_hidden += 1
        node.key = (self._num_hidden, token)
        parent.put(node.key, node)

    def forget(self, node: Node) -> None:
        """Nothing matches a node any more, nor anything below it."""
        node.forgotten = True
        if node.trie_edge is not None:
            self.namespace_trie.left(node, node.trie_edge)

    def forget_root(self, root: Node) -> None:
        """Nothing matches in a namespace any more. The root stays, out of reach, until nothing is below it."""
        root.forgotten = True
        self._unhook(root)
        self.orphans[root] = None

    def remove_root(self, root: Node) -> None:
        """Forget a namespace below which there is nothing."""
        assert not root.has_children
        if self.roots.get(root.scope) is root:
            self._unhook(root)
        else:
            self.orphans.pop(root, None)

    def _unhook(self, root: Node) -> None:
        del self.roots[root.scope]
        self.alone.pop(root.scope, None)
        root.trie_edge = None

    def others_have(self, root: Node, data: Packed, num_tokens: int) -> bool:
        """Whether a namespace other than that of `root` has the first `num_tokens` of packed tokens."""
        others = (other for other in self.alone.values() if other is not root)
        if any(self.descend(other, 0, data, num_tokens, [])[1] == num_tokens for other in others):
            return True
        own = root.trie_edge is not None and self.descend(root, 0, data, num_tokens, [])[1] == num_tokens
        return self.namespace_trie.count(data, num_tokens) > own

    def child(self, node: Node, key: ChildKey) -> Node | None:
        """A child, as a picture if it sleeps."""
        child = node.children.get(key)
        if child is None and isinstance(key, bytes):
            return self.leaves.child(node, key)
        return self.leaves.picture(child) if isinstance(child, int) else child

    def children_of(self, node: Node) -> list[Node]:
        """All of them, those that sleep as pictures."""
        children = self.leaves.children_of(node)
        return [self.leaves.picture(child) if isinstance(child, int) else child for child in children]

    def newest(self, node: Node, salt: str | None, count: int) -> list[bytes]:
        """The first tokens, packed, of at most so many children that can be matched under a salt or publicly."""
        if node.births is None:
            return self.beginnings.newest(node, salt, count)
        return [] if salt is not None else self.leaves.newest(node, count)

    def nodes(self) -> Iterator[Node]:
        """Every node but the roots, each after its parent."""
        for root in [*self.roots.values(), *self.orphans]:
            for top in self.leaves.children_of(root):
                yield from self.subtree(top)

    def matchable(self) -> Iterator[Node]:
        """Every node but the roots and what was forgotten, each after its parent."""
        for root in self.roots.values():
            for node in self.subtree(root):
                if node is not root and not node.forgotten:
                    yield node

    def subtree(self, top: Node | int) -> Iterator[Node]:
        """A node and all below it, each after its parent and before its parent's next child: to be read, as those that
        sleep are pictures."""
        stack: list[Node | int] = [top]
        while stack:
            last = stack.pop()
            node = self.leaves.picture(last) if isinstance(last, int) else last
            yield node
            stack += self.leaves.children_of(node)

    def awake(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """The same nodes, each to be written to until the next one is asked for."""
        for node in nodes:
            sleeps = node.is_asleep
            if sleeps:
                self.leaves.wake(node)
            yield node
            if sleeps:
                self.leaves.lay(node)
