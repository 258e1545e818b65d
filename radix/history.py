"""A bounded memory of edges that were evicted: what a policy learns from when they come back, and what explains a miss.

Holds token ids, never KV. Its size is bounded in tokens; the oldest are forgotten first.
"""

from collections import OrderedDict
from typing import NamedTuple

from stemma.radix.node import Node, is_behind
from stemma.radix.tokens import TOKEN_BYTES, Packed, common_prefix

_HEAD = 4 * TOKEN_BYTES  # an edge is found by its realm, its start and its first four tokens


class Departed(NamedTuple):
    """An edge, or the end of one, that was evicted."""

    tokens: bytes
    num_blocks: int
    evicted_at: float  # by the cache's clock
    node: Node  # out of the tree, or still there where only its end went
    touched_at: int  # when it was last used or written to, by the hedge's count of that


class Return(NamedTuple):
    """What a query finds of the departed from some position on: up to `end`, and what the last edge knew."""

    end: int
    hits: int
    born_at: int
    children_born: int
    children_used: int


class History:
    """Edges evicted of late, by (realm, start, first tokens)."""

    __slots__ = ("_edges", "_max_bytes", "_num_bytes")

    def __init__(self, max_tokens: int) -> None:
        self._edges: OrderedDict[tuple[str, int, bytes], Departed] = OrderedDict()
        self._max_bytes = TOKEN_BYTES * max_tokens
        self._num_bytes = 0

    def remember(self, node: Node, start: int, tokens: bytes, num_blocks: int, now: float) -> None:
        """`tokens` of `node`, from position `start` on, are gone."""
        key = (node.realm, start, tokens[:_HEAD])
        before = self._edges.pop(key, None)
        if before is not None:
            self._num_bytes -= len(before.tokens)
        self._edges[key] = Departed(tokens, num_blocks, now, node, node.touched_at)
        self._num_bytes += len(tokens)
        while self._num_bytes > self._max_bytes:
            _, forgotten = self._edges.popitem(last=False)
            self._num_bytes -= len(forgotten.tokens)

    def find(self, realm: str, start: int, data: Packed) -> Departed | None:
        """The departed edge that began at `start` with the tokens that `data` has there."""
        first = TOKEN_BYTES * start
        return self._edges.get((realm, start, bytes(data[first : first + _HEAD])))

    def take(self, realm: str, start: int, data: Packed) -> tuple[Departed, int] | None:
        """Find an edge, forget it, and say how many tokens of it `data` has."""
        first = TOKEN_BYTES * start
        found = self._edges.pop((realm, start, bytes(data[first : first + _HEAD])), None)
        if found is None:
            return None
        self._num_bytes -= len(found.tokens)
        return found, common_prefix(found.tokens, data, start)

    def clear(self) -> None:
        self._edges.clear()
        self._num_bytes = 0

    def forget_realms(self, namespace: str, salt: str | None) -> None:
        """Forget everything of a namespace and behind its fences; with a salt: only what is behind fences of this."""
        whole = None if salt is not None else namespace
        for key in [key for key in self._edges if key[0] == whole or is_behind(key[0], namespace, salt)]:
            self._num_bytes -= len(self._edges.pop(key).tokens)
