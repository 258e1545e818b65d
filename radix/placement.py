"""Where a request is to leave marks, and whether one is worth making. Knows numbers, never a slot or the tree.

1. At its end: the next turn of a chat goes on there.
2. At a junction: it matched so far, but had to go on from an earlier mark; the next one hits to the token. (Ends and
   branch points are what Marconi keeps: Pan et al., MLSys 2025.)
3. Some tokens before the end of its prompt, as far as other prompts have been left before their ends: where a document
   ends and its question begins is not known at the first visit, and waiting for the junction costs the second.
4. Where the program says.

What comes back is learned from the places, whether their marks were kept or not; what does not is no longer made.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from stemma.radix.mark_value import MarkValue
from stemma.radix.node import Mark
from stemma.radix.place import Origin, Place

PRICE = 1.0  # tokens that a mark must be expected to save
RISK = 512  # what is not made, or given back, may cost this part of the hits
FEW_PROMPTS = 16  # so many prompts have tails at 1 (the same prompt again) and at distances that double
NEAREST_TAIL = 64
WORTH = 8  # a tail that saves less than this part of its distance would save next to nothing
SURE = 64  # so many prompts were left before their end: the one distance is enough
MEMORY = 4096.0  # prompts after which all before weigh half


class Hit(NamedTuple):
    """How far a request matches, where all its layers go on, and the mark that they do it from: the one there or, with
    windows alone, one behind."""

    match_len: int
    hit_len: int
    mark: Mark | None


class Plan(NamedTuple):
    """What was found when a request came: where it is to leave marks, and as what.

    match_len, prompt_len: in tokens. wanted: positions behind the hit, ascending. programmed: those that the program
    named. turn, prior: of its end, as in Place. source: the mark that it goes on from, if that is where it left all
    text that is known.
    """

    match_len: int
    prompt_len: int
    wanted: list[int]
    programmed: frozenset[int]
    turn: int
    prior: Place | None
    source: Mark | None

    def origin(self, position: int) -> Origin:
        """Why there is a mark."""
        if position in self.programmed:
            return Origin.PROGRAM
        if position == self.match_len:
            return Origin.JUNCTION
        return Origin.END if position >= self.prompt_len else Origin.TAIL


class Tails:
    """How long before the ends of prompts others leave them, apart by how much of a prompt was new: documents with
    their questions are not taken for turns of a chat."""

    __slots__ = ("_by_size", "_num_prompts")

    def __init__(self) -> None:
        self._num_prompts = 0
        self._by_size: dict[int, _Leavings] = {}  # by the new tokens, each for a factor of 16

    def left(self, distance: int, saved: int) -> None:
        """A request left a prompt so many tokens before the end of that, where none had left it; a mark there would
        have saved it so many."""
        if WORTH * saved >= distance:
            self._of(distance + saved).left(distance)

    def wanted(self, prompt_len: int, from_len: int) -> list[int]:
        """Where to mark a prompt whose text is new from `from_len` on."""
        new = prompt_len - from_len
        self._num_prompts += 1
        leavings = self._of(new)
        leavings.prompt()
        if self._num_prompts <= FEW_PROMPTS:
            return _doubling(prompt_len, new)
        saved, distance = leavings.best(new)
        if saved < max(PRICE, prompt_len / RISK):
            return []
        wanted = [prompt_len - distance]
        if leavings.num_left < SURE and new > 8 * distance:
            wanted.append(prompt_len - 4 * distance)
        return wanted

    def _of(self, new: int) -> "_Leavings":
        return self._by_size.setdefault(new.bit_length() // 4, _Leavings())


class _Leavings:
    """Prompts with about so many new tokens, and how long before their ends others left them."""

    __slots__ = ("_num_prompts", "_times", "num_left")

    def __init__(self) -> None:
        self._num_prompts = 0.0
        self.num_left = 0.0
        self._times: dict[int, float] = {}  # by distance, ascending

    def prompt(self) -> None:
        self._num_prompts += 1
        if self._num_prompts > MEMORY:
            self._num_prompts, self.num_left = self._num_prompts / 2, self.num_left / 2
            self._times = {distance: times / 2 for distance, times in self._times.items()}

    def left(self, distance: int) -> None:
        shift = max(distance.bit_length() - 3, 0)
        rounded = -(-distance >> shift) << shift  # up, by a quarter at most
        if rounded not in self._times:
            self._times[rounded] = 0.0
            self._times = dict(sorted(self._times.items()))
        self._times[rounded] += 1
        self.num_left += 1

    def best(self, new: int) -> tuple[float, int]:
        """The most tokens that a mark in `new` ones is expected to save, and its distance from their end."""
        most, best, reached = 0.0, 0, 0.0
        for distance, times in self._times.items():
            reached += times
            if reached * (new - distance) > most:
                most, best = reached * (new - distance), distance
        return most / max(self._num_prompts, 1.0), best


def _doubling(prompt_len: int, new: int) -> list[int]:
    wanted, distance = [prompt_len - 1], NEAREST_TAIL
    while new > distance:
        wanted.append(prompt_len - distance)
        distance *= 2
    return wanted


class Passed:
    """Ends and tails whose user has left an end of his own behind them. A kind that is not used twice is given back,
    however much room there is: all turns of a chat but the last."""

    __slots__ = ("_value", "_waiting")

    def __init__(self, value: MarkValue) -> None:
        self._value = value
        self._waiting: dict[int, deque[tuple[Mark, int]]] = {}  # by kind: what was passed, and its last use then

    def passed(self, mark: Mark) -> None:
        """The request that went on from it has ended behind it."""
        place = mark.place
        if place is not None and place.origin in (Origin.END, Origin.TAIL):
            self._waiting.setdefault(place.kind, deque()).append((mark, place.used_at))

    def spent(self) -> Iterator[Mark]:
        """Those that nobody is expected to go on from again."""
        for kind, waiting in self._waiting.items():
            for _ in range(len(waiting)):
                mark, used_at = waiting[0]
                place = mark.place
                if mark.node is not None and place is not None and (place.kind, place.used_at) == (kind, used_at):
                    if self._value.chance(place) >= 1 / RISK:
                        break
                    if mark.holds:
                        waiting.rotate(-1)
                        break
                    yield mark
                waiting.popleft()


def is_worth(place: Place, value: MarkValue, saved: int) -> bool:
    """Whether a mark there, which saves so many tokens, is worth its bytes while there is room."""
    if place.origin is Origin.PROGRAM:
        return True
    least = PRICE if place.origin is Origin.JUNCTION else max(PRICE, place.position / RISK)
    return value.chance(place) * saved >= least
