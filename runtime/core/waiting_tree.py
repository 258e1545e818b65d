"""A tree of those who wait, by the tokens that they begin with: who shares a beginning stands below one place.

    root -- "system prompt" (cached: known == end) --+-- "question 1"   entry
                                                     +-- "question 2"   entry, entry

Each place knows the first of all entries below it, so that the first of any part of the tree is found without a look at
the others: an entry that comes or goes costs O(depth * log n). A place can be shut, with all below it. What is cached
of a beginning (`known`) is what was last heard of it; who starts a sequence looks again. Never touches the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple, TypeAlias

from stemma.radix.tokens import TOKEN_BYTES, common_prefix
from stemma.runtime.core.sequence import Sequence

MAX_HEIGHT = 48
"""Places on one path; where more would be needed, who differs stands at the place before."""

Key = tuple[float, int]
Item: TypeAlias = "Entry | Place"
_serial = count()


class Stands(Enum):
    """How a waiting one stands: OPEN may be chosen, the others may not."""

    OPEN = "open"
    PASSED = "passed over in this round"
    LACKING = "without room"
    BEHIND = "behind one that computes its beginning"


class Entry:
    """One waiting sequence. key: its deadline (infinite without), then its arrival: less goes first among equals.

    urgent_from: when it must start to meet its deadline. place: None when it waits no more.
    """

    __slots__ = ("key", "line", "place", "sequence", "stands", "urgent_from")

    def __init__(self, sequence: Sequence, line: Line, urgent_from: float) -> None:
        self.sequence = sequence
        self.line = line
        self.key: Key = (sequence.deadline, sequence.arrival)
        self.urgent_from = urgent_from
        self.stands = Stands.PASSED
        self.place: Place | None = None


class Place:
    """Tokens [start, end) of a beginning, what is below, and how much of it is cached: start <= known <= end."""

    __slots__ = (
        "best",
        "children",
        "end",
        "heap",
        "height",
        "is_shut",
        "known",
        "name",
        "num_entries",
        "parent",
        "start",
        "tokens",
    )

    def __init__(self, parent: Place | None, start: int, tokens: bytes, name: bytes | str) -> None:
        self.parent = parent
        self.name = name  # what its parent has it under
        self.start = self.known = start
        self.end = start + len(tokens) // TOKEN_BYTES
        self.tokens = tokens
        self.height = 0  # places below it on the longest path
        self.children: dict[bytes | str, Place] = {}
        self.heap: list[tuple[Key, int, Item]] = []  # of entries here and of the best below, stale ones among them
        self.best: Key | None = None  # of the open entries here and below, behind no shut place
        self.num_entries = 0  # here and below, open or not
        self.is_shut = False

    def first(self) -> Item | None:
        """What has the least key; forgets what is stale above it."""
        heap = self.heap
        while heap:
            key, _, item = heap[0]
            if isinstance(item, Entry):
                if item.stands is Stands.OPEN and item.place is self:
                    return item
            elif item.best == key and item.parent is self and not item.is_shut:
                return item
            heappop(heap)
        return None

    def above(self) -> Iterator[Place]:
        """It and the places that it stands below."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.parent

    @property
    def is_behind_shut(self) -> bool:
        """Whether it is shut, or one above it is."""
        return any(place.is_shut for place in self.above())


def known_to(place: Place) -> int:
    """How many tokens on the way to its end are known to be cached."""
    return next((each.known for each in place.above() if each.known > each.start), 0)


class _Covered(NamedTuple):
    """A place of which something is cached, as it was then: the longest first, of equals the first to be chosen."""

    less_known: int
    best: Key
    serial: int
    place: Place


class Line:
    """Those of one tenant and priority: the tree, and who is first in it by one measure or another."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.root = Place(None, 0, b"", "")
        self.last: Place = self.root  # where the last one stood that was started
        self._covered: list[_Covered] = []
        self._urgent: list[tuple[float, int, Entry]] = []

    def __len__(self) -> int:
        return self.root.num_entries

    # Who comes and goes ----------------------------------------------------------------
    def add(self, entry: Entry, namespace: str, data: bytes, hit_len: int) -> None:
        """Put an entry in its place: behind `data`, packed tokens, of which `hit_len` are cached."""
        place = entry.place = self._place_of(namespace, data)
        for each in place.above():
            each.num_entries += 1
        self.learn(place, hit_len)
        self.allow(entry)

    def remove(self, entry: Entry) -> None:
        """Take an entry out, and the places where nobody is left."""
        place = entry.place
        assert place is not None
        self.close(entry, Stands.PASSED)
        entry.place = None
        for each in place.above():
            each.num_entries -= 1
        while place.parent is not None and not place.num_entries:
            del place.parent.children[place.name]
            place = place.parent

    def allow(self, entry: Entry) -> None:
        """It may be chosen. What waits no more, or may be already, is left alone."""
        if entry.place is None or entry.stands is Stands.OPEN:
            return
        entry.stands = Stands.OPEN
        heappush(entry.place.heap, (entry.key, next(_serial), entry))
        if entry.urgent_from < math.inf:
            heappush(self._urgent, (entry.urgent_from, next(_serial), entry))
        self._changed(entry.place)

    def close(self, entry: Entry, stands: Stands) -> None:
        """It may not be chosen, and why."""
        was_open = entry.stands is Stands.OPEN
        entry.stands = stands
        if was_open:
            assert entry.place is not None
            self._changed(entry.place)

    def shut(self, place: Place) -> None:
        """Nobody below is chosen."""
        place.is_shut = True
        if place.parent is not None:
            self._changed(place.parent)

    def reopen(self, place: Place) -> None:
        """Those below may be chosen again."""
        place.is_shut = False
        if place.best is not None and place.parent is not None and place.num_entries:
            heappush(place.parent.heap, (place.best, next(_serial), place))
            self._changed(place.parent)

    # What is cached ----------------------------------------------------------------
    def learn(self, place: Place, hit_len: int) -> None:
        """So many tokens of the way to the end of a place are cached."""
        for each in place.above():
            known = min(max(hit_len, each.start), each.end)
            if known != each.known:
                each.known = known
                self._note(each)

    def published(self, namespace: str, data: bytes, num_tokens: int) -> None:
        """The first so many packed tokens are cached now."""
        found = self._descend(namespace, data[: TOKEN_BYTES * num_tokens])
        if found is not None:
            place, position, _ = found
            self.learn(place, max(position, place.known))

    # Who is first ----------------------------------------------------------------
    def first_below(self, place: Place) -> Entry | None:
        """Of those who may be chosen there, the one with the least key."""
        item: Item | None = place
        while isinstance(item, Place):
            item = item.first()
        return item

    def longest(self) -> Place | None:
        """The place of which most is cached, below which somebody may be chosen."""
        covered = self._covered
        aside: list[_Covered] = []
        found = None
        while covered:
            top = covered[0]
            place = top.place
            is_fresh = place.best == top.best and -place.known == top.less_known and place.num_entries > 0
            if is_fresh and not place.is_behind_shut:
                found = place
                break
            heappop(covered)
            if is_fresh:
                aside.append(top)
        for each in aside:
            heappush(covered, each)
        return found

    def urgent(self, now: float) -> Entry | None:
        """One that must start now to be in time: of these, the one whose time came first."""
        heap = self._urgent
        aside = []
        found = None
        while heap and heap[0][0] <= now:
            entry = heap[0][2]
            if entry.stands is not Stands.OPEN or entry.place is None:
                heappop(heap)  # opened again, it is put there again
            elif entry.place.is_behind_shut:
                aside.append(heappop(heap))
            else:
                found = entry
                break
        for each in aside:
            heappush(heap, each)
        return found

    # The tree ----------------------------------------------------------------
    def _changed(self, place: Place) -> None:
        """Tell those above what is first here now, as far as that changes anything for them."""
        for each in place.above():
            item = each.first()
            best = item if item is None else (item.key if isinstance(item, Entry) else item.best)
            if best == each.best:
                return
            each.best = best
            if best is None:
                continue
            self._note(each)
            if each.parent is not None and not each.is_shut:
                heappush(each.parent.heap, (best, next(_serial), each))

    def _note(self, place: Place) -> None:
        if place.best is not None and (place.known > place.start or place.parent is None):
            heappush(self._covered, _Covered(-place.known, place.best, next(_serial), place))

    def _descend(self, namespace: str, data: bytes) -> tuple[Place, int, int] | None:
        """The place in which the way along these tokens ends, how many of them led there, how deep that is."""
        place = self.root.children.get(namespace)
        if place is None:
            return None
        position, depth, end = 0, 1, len(data) // TOKEN_BYTES
        while position < end:
            child = place.children.get(data[TOKEN_BYTES * position : TOKEN_BYTES * (position + 1)])
            if child is None:
                break
            place, depth = child, depth + 1
            position += common_prefix(child.tokens, data, position)
            if position < child.end:
                break
        return place, position, depth

    def _place_of(self, namespace: str, data: bytes) -> Place:
        """The place at the end of these tokens; made, if it is not there."""
        found = self._descend(namespace, data)
        if found is None:
            place, position, depth = self._grow(self.root, namespace, 0, b""), 0, 1
        else:
            place, position, depth = found
        if position < place.end:
            if depth + place.height >= MAX_HEIGHT:
                assert place.parent is not None
                return place.parent
            place = self._split(place, position)
        if position < len(data) // TOKEN_BYTES and depth < MAX_HEIGHT:
            rest = data[TOKEN_BYTES * position :]
            place = self._grow(place, rest[:TOKEN_BYTES], position, rest)
        return place

    def _grow(self, parent: Place, name: bytes | str, start: int, tokens: bytes) -> Place:
        place = parent.children[name] = Place(parent, start, tokens, name)
        _heighten(place)
        return place

    def _split(self, place: Place, position: int) -> Place:
        """A new place for what lies before `position`; what lies behind stays the old one's."""
        parent, cut = place.parent, TOKEN_BYTES * (position - place.start)
        assert parent is not None
        upper = parent.children[place.name] = Place(parent, place.start, place.tokens[:cut], place.name)
        place.parent, place.start, place.tokens = upper, position, place.tokens[cut:]
        place.name = place.tokens[:TOKEN_BYTES]
        upper.children[place.name] = place
        upper.num_entries, upper.height = place.num_entries, place.height + 1
        upper.known, place.known = min(place.known, position), max(place.known, position)
        if place.best is not None and not place.is_shut:
            heappush(upper.heap, (place.best, next(_serial), place))
        _heighten(upper)
        self._changed(upper)
        self._note(place)
        return upper


def _heighten(place: Place) -> None:
    """Those above are as high as their highest child needs."""
    while place.parent is not None and place.parent.height <= place.height:
        place.parent.height = place.height + 1
        place = place.parent
