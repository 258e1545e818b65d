"""One edge of the trie of the text of all namespaces (`namespace_trie`). Never changes anything by itself."""


class TrieEdge:
    """An edge of the trie."""

    __slots__ = ("children", "num_ends", "num_nodes", "parent", "tokens")

    def __init__(self, parent: "TrieEdge | None", tokens: bytes, num_nodes: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.children: dict[bytes, TrieEdge] | None = None
        self.num_nodes = num_nodes  # nodes of the tree that run along it, at most one of each namespace
        self.num_ends = 0  # how many of them end where it ends
