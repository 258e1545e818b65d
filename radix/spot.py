"""A spot: one edge of the trie of the text of all namespaces (`elsewhere`). Never changes anything by itself."""


class Spot:
    """An edge of the trie."""

    __slots__ = ("children", "num_ends", "num_nodes", "parent", "tokens")

    def __init__(self, parent: "Spot | None", tokens: bytes, num_nodes: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.children: dict[bytes, Spot] | None = None
        self.num_nodes = num_nodes  # nodes of the tree that run along it, at most one of each namespace
        self.num_ends = 0  # how many of them end where it ends
