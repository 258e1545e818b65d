"""The first tokens of what follows a node, told apart by who may read it, without a look at all its children.

Kept only for nodes behind which there is private text: the children of any other are all public.
"""

from itertools import islice

from stemma.radix.node import ChildKey, Node


class Beginnings:
    """First tokens of children, by parent and salt (None: public), oldest first."""

    __slots__ = ("of",)

    def __init__(self) -> None:
        self.of: dict[Node, dict[str | None, dict[bytes, None]]] = {}

    def newest(self, node: Node, salt: str | None, count: int) -> list[bytes]:
        """The first tokens, packed, of at most so many children that can be matched under a salt or publicly."""
        beginnings = self.of.get(node)
        if beginnings is not None:
            return list(islice(reversed(beginnings.get(salt, {})), count))
        if salt is not None:
            return []
        return [key for key in islice(reversed(node.children), count) if isinstance(key, bytes)]

    def grown(self, parent: Node, salt: str | None, token: bytes) -> None:
        """A child of a node that has private ones, or now gets its first."""
        beginnings = self.of.get(parent)
        if beginnings is None:
            public = dict.fromkeys(key for key in parent.children if isinstance(key, bytes))
            beginnings = self.of[parent] = {None: public}
            parent.has_private_children = True
        beginnings.setdefault(salt, {})[token] = None

    def gone(self, parent: Node, key: ChildKey) -> None:
        """A child is there no more, or cannot be matched any more."""
        beginnings = self.of.get(parent)
        salt, token = key if isinstance(key, tuple) else (None, key)
        if beginnings is None or isinstance(salt, int):
            return
        del beginnings[salt][token]
        if salt is not None and not beginnings[salt]:
            del beginnings[salt]

    def closed(self, parent: Node) -> None:
        """A node has no children any more."""
        if self.of.pop(parent, None) is not None:
            parent.has_private_children = False
