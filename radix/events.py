"""What the cache tells others: blocks stored, removed, all cleared, with hashes that are the same in every process.

A block's hash covers its scope and all tokens up to its end (a chain of BLAKE2b), so equal hashes mean equal
prefixes. Only full blocks are told of. Callers ask for nothing while nobody listens.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from stemma.radix.node import Node
from stemma.radix.tokens import TOKEN_BYTES, unpack

_PRIVATE = b"behind a fence"  # sets the hashes of private scopes apart from those of any namespace


class BlocksStored(NamedTuple):
    """Blocks that follow each other; `parent` is the hash of the block before them, b"" at a root."""

    parent: bytes
    hashes: list[bytes]
    tokens: list[int]  # block_size for each hash
    block_size: int
    scope: str


class BlocksRemoved(NamedTuple):
    hashes: list[bytes]


class MarksStored(NamedTuple):
    """Positions of one text at which all layers can go on. `parent` is the hash of the last full block that ends at or
    before them, b"" where there is none; a mark's hash covers that and the tokens between."""

    parent: bytes
    hashes: list[bytes]
    positions: list[int]
    scope: str


class MarksRemoved(NamedTuple):
    hashes: list[bytes]
    positions: list[int]
    scope: str


class AllCleared(NamedTuple):
    """Nothing told before holds any more."""


Event: TypeAlias = BlocksStored | BlocksRemoved | MarksStored | MarksRemoved | AllCleared
Listener: TypeAlias = Callable[[Event], None]


def hash_key(scope: str, private: bool) -> bytes:
    """The key of the hashes of a scope: a namespace's, or that of text behind a salt boundary (`private_scope`)."""
    name = scope.encode("utf-8", "surrogatepass")
    return blake2b(name, digest_size=32, person=_PRIVATE if private else b"").digest()


def scope_key(node: Node) -> bytes:
    """The key of the hashes of a node's scope."""
    return hash_key(node.scope, node.private)


def chain_hash(parent: bytes, key: bytes, tokens: bytes) -> bytes:
    """The hash of a block of packed tokens after `parent`."""
    return blake2b(parent + tokens, digest_size=16, key=key).digest()


class EventLog:
    """Hashes the blocks of nodes and passes events to the listeners, in the order in which things happened."""

    __slots__ = ("_block_size", "listeners")

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self.listeners: list[Listener] = []

    def join(self, listener: Listener, nodes: Iterable[Node]) -> None:
        """One more listener; it is told of all nodes (parents first) as if they were stored now."""
        heard = list(self.listeners)
        self.listeners = [listener]
        for node in nodes:
            node.hashes = None
            self.stored(node, node.start)
            for position in node.marks or ():
                self.mark_stored(node, position)
        self.listeners = [*heard, listener]

    def leave(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def take_over(self, other: "EventLog", nodes: Iterable[Node]) -> None:
        """Go on for another log's listeners, with a cache that was cleared and now has these nodes."""
        self.listeners = list(other.listeners)
        self.cleared()
        for node in nodes:
            if self.listeners:
                self.stored(node, node.start)
                for position in node.marks or ():
                    self.mark_stored(node, position)

    def stored(self, node: Node, start: int) -> None:
        """The node has new tokens from position `start` on."""
        size = self._block_size
        first, last = start // size, node.end // size
        known = node.hashes if node.hashes is not None else []
        parent = known[-1] if known else _hash_before(node)
        data = _path_tokens(node, first * size, last * size)
        event, key = BlocksStored(parent, [], unpack(data), size, node.scope), scope_key(node)
        for begin in range(0, len(data), TOKEN_BYTES * size):
            parent = chain_hash(parent, key, data[begin : begin + TOKEN_BYTES * size])
            event.hashes.append(parent)
        node.hashes = known + event.hashes
        self._tell(event)

    def removed(self, node: Node, first_block: int) -> None:
        """The node loses its blocks from index `first_block` (counted from the root) on."""
        if node.hashes is not None:
            self._tell(BlocksRemoved(node.hashes[first_block - node.start // self._block_size :]))

    def mark_stored(self, node: Node, position: int) -> None:
        """The node has a new mark."""
        parent, mark = self._mark_hash(node, position)
        self._tell(MarksStored(parent, [mark], [position], node.scope))

    def mark_removed(self, node: Node, position: int) -> None:
        """The node loses a mark; its text is still there."""
        if node.hashes is not None:
            _, mark = self._mark_hash(node, position)
            self._tell(MarksRemoved([mark], [position], node.scope))

    def _mark_hash(self, node: Node, position: int) -> tuple[bytes, bytes]:
        """The hash of the last full block that ends at or before a position of the node, and that of a mark there."""
        size = self._block_size
        num_ended = position // size - node.start // size
        parent = node.hashes[num_ended - 1] if num_ended and node.hashes else _hash_before(node)
        tail = _path_tokens(node, position // size * size, position)
        return parent, chain_hash(parent, scope_key(node), tail)

    def forgotten(self, node: Node) -> None:
        """The node is matched no more: from now on nothing is told of it."""
        self.removed(node, node.start // self._block_size)
        node.hashes = None

    def clearing(self, nodes: Iterable[Node]) -> None:
        """All nodes are about to be forgotten at once: no word of each."""
        for node in nodes:
            node.hashes = None

    def cleared(self) -> None:
        self._tell(AllCleared())

    def _tell(self, event: Event) -> None:
        if isinstance(event, AllCleared) or event.hashes:
            for listener in self.listeners:
                listener(event)


def _hash_before(node: Node) -> bytes:
    """The hash of the last full block that ends at or before the node's start."""
    above = node.parent
    while above is not None:
        if above.hashes:
            return above.hashes[-1]
        above = above.parent
    return b""


def _path_tokens(node: Node, start: int, end: int) -> bytes:
    """The packed tokens of positions [start, end) of the node's path; `start` may lie above the node."""
    parts: list[bytes] = []
    above: Node | None = node
    first = node.end
    while above is not None and first > start:
        parts.append(above.tokens)
        first = above.start
        above = above.parent
    data = b"".join(reversed(parts))
    return data[TOKEN_BYTES * (start - first) : TOKEN_BYTES * (max(end, start) - first)]
