"""A bounded memory of edges that were evicted: what a policy learns from when they come back, and what explains a miss.

The literature's ghost list (ARC, Megiddo and Modha 2003; S3-FIFO, Yang et al. 2023), of edges where theirs is of keys.

Holds token ids, never KV. Its size is bounded in tokens; the oldest are forgotten first. An edge is remembered as one
string of bytes: cheap to keep, and nothing that a garbage collection would look at. Of each token of a short edge the
lower 16 bits are kept, as two strings of bytes, one behind the other: where a query parts from the edge by tokens that
are the same in these, it is believed to go along with it a little further, and so more of it to have come back.
"""

import sys
from array import array
from struct import Struct
from typing import Final, NamedTuple

from stemma.radix.node import Node, is_behind
from stemma.radix.records import Records
from stemma.radix.tokens import TOKEN_BYTES, Packed, common_prefix

_HEAD: Final = 4 * TOKEN_BYTES  # an edge is found by its scope, its start and its first four tokens
_EDGE: Final = Struct("=qiiiqdIqIIqdH")  # scope, start, and the fields of Ghost
_SCOPE: Final = Struct("=q")
_BITS: Final = 2**60 - 1  # of a hash: as many as an int keeps in 32 bytes
_LONG: Final = 4096  # bytes: the tokens of longer edges are not copied but kept beside
_MOST: Final = 2**32 - 1  # hits and children that are told apart
MOST_RECENT: Final = 4096  # edges that are not packed
# Where the lower bytes of a packed token are.
_LOWEST: Final = 0 if sys.byteorder == "little" else 3
_NEXT: Final = 1 if sys.byteorder == "little" else 2


class Ghost(NamedTuple):
    """An edge, or the end of one, that was evicted, and what was known of it, as in Node: its node's where that is
    still there."""

    num_tokens: int
    num_blocks: int
    touched_at: int  # when it was last used or written to, by the hedge's count of that
    evicted_at: float  # by the cache's clock
    hits: int
    born_at: int
    children_born: int
    children_used: int
    used_at: int
    rate: float
    kind: int


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

    __slots__ = (
        "_edges",
        "_ends",
        "_ends_of",
        "_long",
        "_max_bytes",
        "_most_recent",
        "_next_scope",
        "_num_bytes",
        "_order",
        "_scopes",
    )

    def __init__(self, max_tokens: int, most_recent: int = MOST_RECENT) -> None:
        self._most_recent = most_recent
        self._max_bytes = TOKEN_BYTES * max_tokens
        self._ends_of: dict[Node, dict[int, None]] = {}  # as `_ends`, by node
        self.clear()

    def clear(self) -> None:
        self._edges = Records(self._most_recent)  # by a hash of the key
        self._long: dict[int, bytes] = {}  # the tokens of long edges
        self._order = Order()
        self._scopes: dict[str, int] = {}  # numbers for the scopes of edges, and of some that are forgotten
        self._next_scope = 0
        self._ends: dict[int, Node] = {}  # of ends of edges that are still in the tree: what they were cut off
        for node in self._ends_of:
            node.has_lost_ends = False
        self._ends_of = {}
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._edges)

    def remember(self, leaf: Node, now: float) -> None:
        """A whole leaf is about to go. The ends that it has lost before are told what was known of it in the end."""
        if leaf.has_lost_ends:
            self._settle(leaf)
        self._add(leaf, leaf.start, len(leaf.blocks) - leaf.shared, now, leaf.tokens)

    def remember_end(self, leaf: Node, tokens: bytes, num_blocks: int, now: float) -> None:
        """A leaf has lost these tokens at its end."""
        key = self._add(leaf, leaf.end, num_blocks, now, tokens)
        if self._edges.has(key):
            self._ends[key] = leaf
            ends = self._ends_of.get(leaf)
            if ends is None:
                self._ends_of[leaf] = {key: None}
                leaf.has_lost_ends = True
            else:
                ends[key] = None

    def find(self, scope: str, start: int, data: Packed) -> tuple[Ghost, int] | None:
        """The edge that began at `start` with the tokens that `data` has there, and how many of them `data` has."""
        found = self._look_up(scope, start, data)
        return None if found is None else found[1:]

    def take(self, scope: str, start: int, data: Packed) -> tuple[Ghost, int] | None:
        """Find an edge and forget it."""
        found = self._look_up(scope, start, data)
        if found is None:
            return None
        self._order.take_out(found[0])
        self._forget(found[0])
        return found[1:]

    def forget_scopes(self, namespace: str, salt: str | None) -> None:
        """Forget all of a namespace and behind its salt boundaries; with a salt: only what is behind those of this."""
        whole = None if salt is not None else namespace
        names = self._scopes.items()
        numbers = {number for name, number in names if name == whole or is_behind(name, namespace, salt)}
        if numbers:
            for key in [key for key, edge in self._edges.items() if _SCOPE.unpack_from(edge)[0] in numbers]:
                self._order.take_out(key)
                self._forget(key)

    def _look_up(self, scope: str, start: int, data: Packed) -> tuple[int, Ghost, int] | None:
        number = self._scopes.get(scope)
        if number is None:
            return None
        at = TOKEN_BYTES * start
        key = hash((number, start, bytes(data[at : at + _HEAD]))) & _BITS
        edge = self._edges.get(key)
        if edge is None:
            return None
        fields = _EDGE.unpack_from(edge)
        if fields[1] != start or fields[0] != number:
            return None
        if len(edge) == _EDGE.size:
            same = common_prefix(self._long[key], data, start)
        else:
            same = _common_prefix_of_halves(edge[_EDGE.size :], bytes(data[at : at + TOKEN_BYTES * fields[2]]))
        if same < fields[2] and same < _HEAD // TOKEN_BYTES:
            return None
        if key in self._ends:
            return key, Ghost._make((*fields[2:6], *_known(self._ends[key]))), same
        return key, Ghost._make(fields[2:]), same

    def _settle(self, leaf: Node) -> None:
        """Write down with the ends of a leaf what is known of it."""
        leaf.has_lost_ends = False
        for key in self._ends_of.pop(leaf):
            del self._ends[key]
            edge = self._edges.pop(key)
            fields = _EDGE.unpack_from(edge)
            self._edges.put(key, _EDGE.pack(*fields[:6], *_known(leaf)) + edge[_EDGE.size :])

    def _add(self, leaf: Node, start: int, num_blocks: int, now: float, tokens: bytes) -> int:
        number = self._scopes.get(leaf.scope)
        if number is None:
            number = self._enter(leaf.scope)
        key, num_bytes, edges = hash((number, start, tokens[:_HEAD])) & _BITS, len(tokens), self._edges
        if edges.has(key):
            self._order.take_out(key)
            self._forget(key)
        num_tokens = num_bytes // TOKEN_BYTES
        edge = _EDGE.pack(number, start, num_tokens, num_blocks, leaf.touched_at, now, *_known(leaf))
        if num_bytes > _LONG:
            self._long[key] = tokens
        else:
            edge += tokens[_LOWEST::TOKEN_BYTES] + tokens[_NEXT::TOKEN_BYTES]
        edges.put(key, edge)
        self._order.append(key)
        self._num_bytes += num_bytes
        while self._num_bytes > self._max_bytes:
            self._forget(self._order.pop())
        return key

    def _enter(self, scope: str) -> int:
        """A number for a scope. Those of which nothing is remembered are forgotten when they are many."""
        if len(self._scopes) > 2 * len(self._edges) + 64:
            used = {_SCOPE.unpack_from(edge)[0] for _, edge in self._edges.items()}
            self._scopes = {name: number for name, number in self._scopes.items() if number in used}
        self._next_scope += 1
        self._scopes[scope] = self._next_scope
        return self._next_scope

    def _forget(self, key: int) -> None:
        """Forget an edge that is, or is taken, out of the order."""
        edge = self._edges.pop(key)
        if len(edge) == _EDGE.size:
            self._num_bytes -= len(self._long.pop(key))
        else:
            self._num_bytes -= TOKEN_BYTES // 2 * (len(edge) - _EDGE.size)
        if key in self._ends:
            node = self._ends.pop(key)
            ends = self._ends_of[node]
            del ends[key]
            if not ends:
                del self._ends_of[node]
                node.has_lost_ends = False


def _known(node: Node) -> tuple[int, int, int, int, int, float, int]:
    """The fields of Ghost from `hits` on."""
    hits, born, used = node.hits, node.children_born, node.children_used
    if born > _MOST:
        born, used = _MOST, min(used, _MOST)
    return hits if hits < _MOST else _MOST, node.born_at, born, used, node.used_at, node.rate, node.kind


def _common_prefix_of_halves(halves: bytes, tokens: bytes) -> int:
    """How many tokens have these lower bytes (first the lowest of all, then the next of all)."""
    lowest, other = tokens[_LOWEST::TOKEN_BYTES], tokens[_NEXT::TOKEN_BYTES]
    if halves == lowest + other:
        return len(lowest)
    middle = len(halves) // 2
    return min(_common_bytes(halves[:middle], lowest), _common_bytes(halves[middle:], other))


def _common_bytes(ours: bytes, theirs: bytes) -> int:
    length = min(len(ours), len(theirs))
    different = int.from_bytes(ours[:length], "little") ^ int.from_bytes(theirs[:length], "little")
    return ((different & -different).bit_length() - 1) // 8 if different else length
