"""A bounded memory of edges that were evicted: what a policy learns from when they come back, and what explains a miss.

The literature's ghost list (ARC, Megiddo and Modha 2003; S3-FIFO, Yang et al. 2023), of edges where theirs is of keys.

Holds token ids, never KV. Its size is bounded in tokens; the oldest are forgotten first. An edge is remembered as one
string of bytes, with its tokens at the end: cheap to keep, and nothing that a garbage collection would look at.
"""

from array import array
from struct import Struct
from typing import NamedTuple

from stemma.radix.node import Node, is_behind
from stemma.radix.tokens import TOKEN_BYTES, Packed, common_prefix

_HEAD = 4 * TOKEN_BYTES  # an edge is found by its scope, its start and its first four tokens
_EDGE = Struct("=qiiqdqqIIqdH")  # scope, start, num_blocks, touched_at, evicted_at, and the fields of Known
_PLACE = Struct("=qiiqd")
_KNOWN = Struct("=qqIIqdH")
_SCOPE = Struct("=q")
_BITS = 2**60 - 1  # of a hash: as many as an int keeps in 32 bytes
_LONG = 4096  # bytes: the tokens of longer edges are not copied but kept beside
_MOST = 2**32 - 1  # children that are told apart


class Known(NamedTuple):
    """What was known of an edge, as in Node."""

    hits: int
    born_at: int
    children_born: int
    children_used: int
    used_at: int
    rate: float
    kind: int


class Ghost(NamedTuple):
    """An edge, or the end of one, that was evicted. What is known of it is its node's where that is still there."""

    tokens: bytes
    num_blocks: int
    evicted_at: float  # by the cache's clock
    known: Known
    touched_at: int  # when it was last used or written to, by the hedge's count of that


class Return(NamedTuple):
    """What a query finds of the ghost from some position on: up to `end`, and what the last edge knew."""

    end: int
    hits: int
    born_at: int
    children_born: int
    children_used: int


class Order:
    """Numbers in the order in which they came. Those that are taken out stay as they are until they come first."""

    __slots__ = ("_begin", "_num_out", "_numbers", "_out")

    def __init__(self) -> None:
        self._numbers = array("q")
        self._begin = 0  # those before are gone
        self._num_out = 0
        self._out: dict[int, int] = {}  # how many times a number that is still there was taken out: the oldest of them

    def append(self, number: int) -> None:
        self._numbers.append(number)

    def take_out(self, number: int) -> None:
        """Take out a number that is there, the oldest of equal ones."""
        self._out[number] = self._out.get(number, 0) + 1
        self._num_out += 1
        if 2 * self._num_out > len(self._numbers) - self._begin + 64:
            self._numbers = array("q", (number for number in self._numbers[self._begin :] if not self._is_out(number)))
            self._begin = 0

    def pop(self) -> int:
        """The oldest that was not taken out."""
        begin = self._begin
        number = self._numbers[begin]
        while self._out and self._is_out(number):
            begin += 1
            number = self._numbers[begin]
        self._begin = begin + 1
        if 2 * self._begin > len(self._numbers) + 64:
            del self._numbers[: self._begin]
            self._begin = 0
        return number

    def _is_out(self, number: int) -> bool:
        """Whether a number is not to be counted; asked once for each, the oldest first."""
        times = self._out.get(number)
        if times is None:
            return False
        self._num_out -= 1
        if times == 1:
            del self._out[number]
        else:
            self._out[number] = times - 1
        return True


class GhostList:
    """Edges evicted of late, by (scope, start, first tokens)."""

    __slots__ = ("_edges", "_ends", "_ends_of", "_long", "_max_bytes", "_next_scope", "_num_bytes", "_order", "_scopes")

    def __init__(self, max_tokens: int) -> None:
        self._max_bytes = TOKEN_BYTES * max_tokens
        self.clear()

    def clear(self) -> None:
        self._edges: dict[int, bytes] = {}  # by a hash of the key
        self._long: dict[int, bytes] = {}  # the tokens of long edges
        self._order = Order()
        self._scopes: dict[str, int] = {}  # numbers for the scopes of edges, and of some that are forgotten
        self._next_scope = 0
        self._ends: dict[int, Node] = {}  # of ends of edges that are still in the tree: what they were cut off
        self._ends_of: dict[Node, dict[int, None]] = {}  # the same by node
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._edges)

    def remember(self, leaf: Node, now: float) -> None:
        """A whole leaf is about to go. The ends that it has lost before are told what was known of it in the end."""
        if leaf in self._ends_of:
            self._settle(leaf)
        self._add(leaf, leaf.start, len(leaf.blocks) - leaf.shared, now, leaf.tokens)
        self._forget_oldest()

    def remember_end(self, leaf: Node, tokens: bytes, num_blocks: int, now: float) -> None:
        """A leaf has lost these tokens at its end."""
        key = self._add(leaf, leaf.end, num_blocks, now, tokens)
        self._ends[key] = leaf
        self._ends_of.setdefault(leaf, {})[key] = None
        self._forget_oldest()

    def find(self, scope: str, start: int, data: Packed) -> Ghost | None:
        """The ghost edge that began at `start` with the tokens that `data` has there."""
        key = self._key(scope, start, data)
        return None if key is None else self._departed(key)

    def take(self, scope: str, start: int, data: Packed) -> tuple[Ghost, int] | None:
        """Find an edge, forget it, and say how many tokens of it `data` has."""
        key = self._key(scope, start, data)
        if key is None:
            return None
        found = self._departed(key)
        self._order.take_out(key)
        self._forget(key)
        return found, common_prefix(found.tokens, data, start)

    def forget_scopes(self, namespace: str, salt: str | None) -> None:
        """Forget all of a namespace and behind its salt boundaries; with a salt: only what is behind those of this."""
        whole = None if salt is not None else namespace
        names = self._scopes.items()
        numbers = {number for name, number in names if name == whole or is_behind(name, namespace, salt)}
        if numbers:
            for key in [key for key, edge in self._edges.items() if _SCOPE.unpack_from(edge)[0] in numbers]:
                self._order.take_out(key)
                self._forget(key)

    def _key(self, scope: str, start: int, data: Packed) -> int | None:
        number = self._scopes.get(scope)
        if number is None:
            return None
        head = bytes(data[TOKEN_BYTES * start : TOKEN_BYTES * start + _HEAD])
        key = hash((number, start, head)) & _BITS
        edge = self._edges.get(key)
        if edge is None or _PLACE.unpack_from(edge)[:2] != (number, start):
            return None
        begins = self._long[key].startswith(head) if len(edge) == _EDGE.size else edge.startswith(head, _EDGE.size)
        return key if begins else None

    def _tokens(self, key: int, edge: bytes) -> bytes:
        return self._long[key] if len(edge) == _EDGE.size else edge[_EDGE.size :]

    def _departed(self, key: int) -> Ghost:
        edge, node = self._edges[key], self._ends.get(key)
        known = Known._make(_KNOWN.unpack_from(edge, _PLACE.size) if node is None else _known(node))
        _, _, num_blocks, touched_at, evicted_at = _PLACE.unpack_from(edge)
        return Ghost(self._tokens(key, edge), num_blocks, evicted_at, known, touched_at)

    def _settle(self, leaf: Node) -> None:
        """Write down with the ends of a leaf what is known of it."""
        known = _KNOWN.pack(*_known(leaf))
        for key in self._ends_of.pop(leaf):
            del self._ends[key]
            edge = self._edges[key]
            self._edges[key] = edge[: _PLACE.size] + known + edge[_EDGE.size :]

    def _add(self, leaf: Node, start: int, num_blocks: int, now: float, tokens: bytes) -> int:
        number = self._scopes.get(leaf.scope)
        if number is None:
            number = self._enter(leaf.scope)
        key = hash((number, start, tokens[:_HEAD])) & _BITS
        if key in self._edges:
            self._order.take_out(key)
            self._forget(key)
        edge = _EDGE.pack(number, start, num_blocks, leaf.touched_at, now, *_known(leaf))
        if len(tokens) > _LONG:
            self._long[key] = tokens
        else:
            edge += tokens
        self._edges[key] = edge
        self._order.append(key)
        self._num_bytes += len(tokens)
        return key

    def _enter(self, scope: str) -> int:
        """A number for a scope. Those of which nothing is remembered are forgotten when they are many."""
        if len(self._scopes) > 2 * len(self._edges) + 64:
            used = {_SCOPE.unpack_from(edge)[0] for edge in self._edges.values()}
            self._scopes = {name: number for name, number in self._scopes.items() if number in used}
        self._next_scope += 1
        self._scopes[scope] = self._next_scope
        return self._next_scope

    def _forget_oldest(self) -> None:
        while self._num_bytes > self._max_bytes:
            self._forget(self._order.pop())

    def _forget(self, key: int) -> None:
        """Forget an edge that is, or is taken, out of the order."""
        edge = self._edges.pop(key)
        self._num_bytes -= len(edge) - _EDGE.size or len(self._long.pop(key))
        if key in self._ends:
            node = self._ends.pop(key)
            ends = self._ends_of[node]
            del ends[key]
            if not ends:
                del self._ends_of[node]


def _known(node: Node) -> tuple[int, int, int, int, int, float, int]:
    """The fields of Known."""
    born, used = node.children_born, node.children_used
    if born > _MOST:
        born, used = _MOST, min(used, _MOST)
    return node.hits, node.born_at, born, used, node.used_at, node.rate, node.kind
