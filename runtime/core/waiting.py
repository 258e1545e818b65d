"""Those who wait: in lines by priority and tenant, with who was overtaken too often, and who found no room.

    next --> the one overtaken too often, else: highest priority -> the tenant that was given least -> who must start
             now to be in time -> whom the order names

A look at the waiting is a round: `next` until nobody is left or may start, then `end_round`. Whoever is looked at and
not started waits behind another (`wait_behind`) or for room (`lack_room`), or is passed over for now (`pass_over`).
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator
from enum import Enum
from heapq import heapify, heappop, heappush, heappushpop, heapreplace
from itertools import count
from operator import neg

from stemma.runtime.core.order import Order
from stemma.runtime.core.sequence import Sequence
from stemma.runtime.core.waiting_tree import Entry, Line, Place, Stands, known_to

MAX_OVERTAKEN = 64
"""How many of a later arrival may be started before the one that came first; then it goes first, whatever its
priority, and the count begins anew."""

DECODE_WEIGHT = 2
"""What a generated token counts beside one of a prompt in a tenant's share (Sheng et al. 2024)."""

MAX_TENANTS = 4096
"""Of whom it is remembered what they were given while they have nothing waiting."""


class Look(Enum):
    """What became of a waiting sequence that was looked at: it was started, others may have come before it, it ended or
    waits for another's blocks or for room, or no more are to be looked at."""

    STARTED = "started"
    AGAIN = "again"
    WAITS = "waits"
    LAST = "last"


class Turns:
    """The lines of one priority: their tenants take turns by what they were given (virtual token counter)."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.by_share: list[tuple[float, int, Line]] = []  # each line once, by what its tenant had when it was put


class Waiting:
    """A queue of sequences; each stands in it once."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._entries: dict[int, Entry] = {}  # by id of the sequence
        self._turns: dict[int, Turns] = {}  # by priority
        self._priorities: list[int] = []  # highest first
        self._served: dict[str, float] = {}
        self._floor = 0.0  # what the tenant whose turn it was last had been given
        self._serial = count()
        self._ages: list[tuple[int, int, Entry]] = []
        self._later: list[int] = []  # the latest arrivals of those that were started since an overdue one was
        self._lacking: list[tuple[int, int, Entry]] = []  # by the blocks that they need
        self._behind: dict[int, list[tuple[Line, Place | Entry]]] = {}  # by id of the sequence that they wait behind
        self._passed: list[Entry] = []  # in this round
        self._exhausted: list[tuple[Turns, tuple[float, int, Line]]] = []  # nobody was left there in this round

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, sequence: object) -> bool:
        return id(sequence) in self._entries

    def __iter__(self) -> Iterator[Sequence]:
        return (entry.sequence for entry in self._entries.values())

    # Who comes and goes ----------------------------------------------------------------
    def add(self, sequence: Sequence, beginning: bytes, hit_len: int, urgent_from: float = math.inf) -> None:
        """Queue it.

        beginning: packed tokens that it can share with others, `hit_len` of which are cached. urgent_from: when it goes
        before others of its line.
        """
        line = self._line(sequence)
        entry = self._entries[id(sequence)] = Entry(sequence, line, urgent_from)
        heappush(self._ages, (sequence.arrival, next(self._serial), entry))
        line.add(entry, sequence.request.namespace, beginning, hit_len)

    def remove(self, sequence: Sequence) -> None:
        """It waits no more."""
        entry = self._entries.pop(id(sequence))
        priority, line = sequence.request.priority, entry.line
        line.remove(entry)
        if not line:
            turns = self._turns[priority]
            del turns.lines[line.tenant]
            if not turns.lines:
                del self._turns[priority]
                self._priorities.remove(priority)
        if len(self._ages) > 2 * len(self._entries) + MAX_OVERTAKEN:
            self._ages = [item for item in self._ages if item[2].place is not None]
            heapify(self._ages)

    def started(self, sequence: Sequence, num_tokens: int) -> None:
        """It waits no more: it was given room, to compute so many tokens of its prompt."""
        entry = self._entries[id(sequence)]
        assert entry.place is not None
        entry.line.last = entry.place
        self.remove(sequence)
        self.serve(sequence, num_tokens)
        if sequence.is_overdue:
            self._later.clear()
        elif len(self._later) < MAX_OVERTAKEN:
            heappush(self._later, sequence.arrival)
        else:
            heappushpop(self._later, sequence.arrival)

    def serve(self, sequence: Sequence, cost: float) -> None:
        """Its tenant was given so much."""
        if self._order.is_fair:
            tenant = sequence.request.tenant
            self._served[tenant] = self._served.get(tenant, self._floor) + cost

    # A round ----------------------------------------------------------------
    def begin_round(self, room: int | None) -> None:
        """Those who lacked room and have it now may be chosen again. room: blocks; None where nobody runs."""
        while self._lacking and (room is None or self._lacking[0][0] <= room):
            self._open(heappop(self._lacking)[2], Stands.LACKING)

    @property
    def is_lacking(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._lacking)

    def next(self, now: float) -> Sequence | None:
        """Who is to be started next; None if nobody may be."""
        if (overdue := self._overdue()) is not None:
            overdue.sequence.is_overdue = True
            return overdue.sequence
        for priority in self._priorities:
            turns = self._turns[priority]
            heap = turns.by_share
            while heap:
                share, _, line = heap[0]
                if turns.lines.get(line.tenant) is not line:
                    heappop(heap)
                elif (given := self._served.get(line.tenant, 0.0)) > share:
                    heapreplace(heap, (given, next(self._serial), line))
                elif (entry := line.urgent(now) or self._order.pick(line)) is not None:
                    self._floor = max(self._floor, share)
                    return entry.sequence
                else:
                    self._exhausted.append((turns, heappop(heap)))
        return None

    def known(self, sequence: Sequence) -> int:
        """What is known to be cached of a waiting one."""
        return known_to(self._place(sequence))

    def learn(self, sequence: Sequence, hit_len: int) -> bool:
        """So much of a waiting one is cached. Returns whether that is less than was known, so that others may have
        come before it."""
        entry, place = self._entries[id(sequence)], self._place(sequence)
        is_less = hit_len < known_to(place)
        entry.line.learn(place, hit_len)
        return is_less

    def pass_over(self, sequence: Sequence) -> None:
        """Nobody asks for it again in this round."""
        entry = self._entries[id(sequence)]
        entry.line.close(entry, Stands.PASSED)
        self._passed.append(entry)

    def lack_room(self, sequence: Sequence, num_blocks: int) -> None:
        """It needs so many blocks and waits until there are as many."""
        entry = self._entries[id(sequence)]
        entry.line.close(entry, Stands.LACKING)
        heappush(self._lacking, (num_blocks, next(self._serial), entry))

    def wait_behind(self, sequence: Sequence, other: Sequence, depth: int | None) -> None:
        """It waits until `other` has computed more, as do all who share its first `depth` tokens; None: it alone."""
        waits = self._behind.setdefault(id(other), [])
        entry, place = self._entries[id(sequence)], self._place(sequence)
        line = entry.line
        if depth is not None:
            while place.start >= depth and place.parent is not None:
                place = place.parent
            if place.start < depth <= place.end:
                line.shut(place)
                waits.append((line, place))
                return
        line.close(entry, Stands.BEHIND)
        waits.append((line, entry))

    def end_round(self) -> None:
        """Whoever was passed over is there again."""
        for turns, item in self._exhausted:
            heappush(turns.by_share, item)
        self._exhausted.clear()
        for entry in self._passed:
            self._open(entry, Stands.PASSED)
        self._passed.clear()

    # What happens to those who run ----------------------------------------------------------------
    def published(self, sequence: Sequence, data: bytes, num_tokens: int) -> None:
        """The first so many packed tokens of its namespace are cached now."""
        for turns in self._turns.values():
            if (line := turns.lines.get(self._tenant(sequence))) is not None:
                line.published(sequence.request.namespace, data, num_tokens)

    def moved(self, other: Sequence) -> None:
        """A running one has computed more of its prompt, or runs no more: who waits behind it may be chosen."""
        for line, item in self._behind.pop(id(other), ()):
            if isinstance(item, Place):
                line.reopen(item)
            else:
                line.allow(item)

    # Within ----------------------------------------------------------------
    def _overdue(self) -> Entry | None:
        """The one that came first, if too many of a later arrival were started and it waits for nobody."""
        if len(self._later) < MAX_OVERTAKEN:
            return None
        while self._ages and self._ages[0][2].place is None:
            heappop(self._ages)
        if not self._ages or self._ages[0][0] >= self._later[0]:
            return None
        entry = self._ages[0][2]
        assert entry.place is not None
        is_free = entry.stands is Stands.LACKING or (entry.stands is Stands.OPEN and not entry.place.is_behind_shut)
        return entry if is_free else None

    def _open(self, entry: Entry, stood: Stands) -> None:
        if entry.stands is stood and entry.place is not None:
            entry.line.allow(entry)

    def _place(self, sequence: Sequence) -> Place:
        place = self._entries[id(sequence)].place
        assert place is not None
        return place

    def _tenant(self, sequence: Sequence) -> str:
        return sequence.request.tenant if self._order.is_fair else ""

    def _line(self, sequence: Sequence) -> Line:
        """The line in which it stands or will stand. A tenant that comes back has no claim from when it asked for
        nothing."""
        priority, tenant = sequence.request.priority, self._tenant(sequence)
        turns = self._turns.get(priority)
        if turns is None:
            turns = self._turns[priority] = Turns()
            insort(self._priorities, priority, key=neg)
        line = turns.lines.get(tenant)
        if line is None:
            line = turns.lines[tenant] = Line(tenant)
            if len(self._served) > MAX_TENANTS:
                self._served = {name: given for name, given in self._served.items() if given > self._floor}
            share = self._served[tenant] = max(self._served.get(tenant, 0.0), self._floor)
            heappush(turns.by_share, (share, next(self._serial), line))
        return line
