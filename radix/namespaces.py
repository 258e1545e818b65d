"""Namespaces: whose text it is. A string, or two parts of which the second is under a salt of its own."""

from typing import NamedTuple, TypeAlias

from stemma.radix.node import Node, parts_of_private
from stemma.radix.tree import SaltBoundary


class Segments(NamedTuple):
    """A namespace in two parts: the first `public_len` tokens are shared by all who name `public`, what follows is
    shared only by those who give the same `salt` too."""

    public: str
    public_len: int
    salt: str


Namespace: TypeAlias = str | Segments


def namespace_of_node(node: Node) -> Namespace:
    """The namespace in which a node is matched."""
    return Segments(*parts_of_private(node.scope)) if node.private else node.scope


def parts_of(namespace: Namespace) -> "tuple[str, SaltBoundary | None]":
    """The name of the root, and where its salt begins."""
    if isinstance(namespace, str):
        return namespace, None
    return namespace.public, SaltBoundary(namespace.public_len, namespace.salt)
