"""What must follow a match of a terminal that looks ahead, as Lark judges it: the text that follows, whatever reads it.

Lark's dynamic lexer matches a terminal where its Earley parser expects it, with all of the following text in sight. The
match that `re` prefers there is read, and of that match's beginnings, each held for the whole text, the ones that `re`
prefers (`dynamic_complete`). So a text is read up to here if one of these comes true of what follows, which is a finite
automaton over it, as FOLLOW is for one token in an LR parser:

    Ended   the preferred match ends here: its lookaheads come true, and no thread before it comes to a match
    Longer  it ends further on, and of its beginnings this one is preferred (terminals in rules, not ignored ones)

    NAME: /[a-z]+(?![a-z(])/     `ab` before `(`: no ending comes true, so `ab` is no NAME there; before ` `: Ended
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from stemma.fsm.errors import LimitError
from stemma.fsm.languages.regex.preferred import DONE, MATCH, Place, Preferred, Seen, Thread, grouped, holds, merged
from stemma.fsm.syntax.ast import Node, RuleRef
from stemma.fsm.syntax.characters import Ranges
from stemma.fsm.syntax.nodes import EMPTY
from stemma.fsm.work import count_work

MAXIMUM_FOLLOWING = 5_000  # states of what may follow one terminal
NOWHERE = Place((), ())


class Ended(NamedTuple):
    """`wanted` must come true, no thread of `before` come to a match, and of each of `never` something must fail."""

    wanted: frozenset[Seen]
    before: Place
    never: frozenset[frozenset[Seen]]


class Longer(NamedTuple):
    """Threads of a longer match; `cut` is what would make a text up to here whole, if `is_whole` is not known yet."""

    place: Place
    cut: frozenset[Ended]
    is_whole: bool


Following = frozenset[Ended | Longer]  # one of them must come true
ALWAYS: Following = frozenset([Ended(frozenset(), NOWHERE, frozenset())])


@dataclass(frozen=True, slots=True)
class Ending:
    """The name of the empty rule that stands where a terminal may end: the state of what follows must come true."""

    terminal: Hashable
    state: int


@dataclass(frozen=True, slots=True)
class Condition:
    """What may follow a terminal: a finite automaton over characters, of which `atoms` are the kinds."""

    name: str
    line: int
    atoms: list[Ranges]
    after: list[list[int | None]]  # (states, atoms): None where it cannot come true any more
    at_end: list[bool]  # whether it is true if nothing follows
    always: int | None  # the state in which anything may follow


class Endings:
    """The states of a terminal as rules, with what must follow where it ends."""

    def __init__(self, machine: Preferred, key: Hashable, *, with_beginnings: bool) -> None:
        self.machine = machine
        self.key = key
        self.with_beginnings = with_beginnings
        self.places = machine.explored()
        self.starts = {place: self.start(place) for place in self.places if self.is_match(place)}
        self.found = self.explored()
        self.group = merged(self.found, {state: int(self.is_true(state)) for state in self.found})

    def condition(self, name: str, line: int) -> Condition:
        numbers = {number: state for state, number in self.group.items()}  # any state of a group
        after: list[list[int | None]] = [[None] * len(self.machine.atoms) for _ in numbers]
        live = self.live()
        for number, state in numbers.items():
            for target, indexes in grouped(self.found[state], self.group).items():
                for index in indexes if target in live else ():
                    after[number][index] = target
        at_end = [self.is_true(numbers[number]) for number in range(len(numbers))]
        always = [number for number in numbers if at_end[number] and set(after[number]) == {number}]
        return Condition(name, line, self.machine.atoms, after, at_end, always[0] if always else None)

    def live(self) -> set[int]:
        """The states that may still come true."""
        callers: dict[int, set[int]] = {}
        for state, ways in self.found.items():
            for after in ways:
                callers.setdefault(self.group[after], set()).add(self.group[state])
        todo = [number for state, number in self.group.items() if self.is_true(state)]
        live: set[int] = set()
        while todo:
            number = todo.pop()
            if number not in live:
                live.add(number)
                todo += callers.get(number, ())
        return live

    def rules(self) -> dict[Hashable, Node]:
        """The first is the start; the rules named by an `Ending` read nothing."""
        kinds = {place: self.group[state] + 1 for place, state in self.starts.items()}
        group = merged(self.places, {place: kinds.get(place, 0) for place in self.places})
        ends = {place: self.ending(place) for place in self.starts}
        return self.machine.states(self.key, self.places, group, ends) | self.endings()

    def endings(self) -> dict[Hashable, Node]:
        return {Ending(self.key, number): EMPTY for number in set(self.group.values())}

    def ending(self, place: Place) -> RuleRef:
        """What must follow a match that ends at `place`."""
        return RuleRef(Ending(self.key, self.group[self.starts[place]]))

    # The automaton of what follows -----------------------------------------------------------------------------------

    def is_match(self, place: Place) -> bool:
        return any(thread.state == MATCH for thread in place.threads)

    def start(self, place: Place) -> Following:
        ways: set[Ended | Longer] = set(ended(place))
        if self.with_beginnings:
            is_whole = self.machine.accepts(place)
            ways |= self.longer(place, frozenset(ended(place)), is_whole)
        return simplified(ways)

    def longer(self, place: Place, cut: frozenset[Ended], is_whole: bool) -> set[Longer]:
        """The way of a longer match, if there can be one and this beginning of it may be preferred."""
        if not going_on(place.threads) or not (cut or is_whole):
            return set()
        return {Longer(place, frozenset() if is_whole else cut, is_whole)}

    def explored(self) -> dict[Following, dict[Following, list[int]]]:
        found: dict[Following, dict[Following, list[int]]] = {}
        todo = list(self.starts.values())
        while todo:
            state = todo.pop()
            if state in found:
                continue
            if len(found) > MAXIMUM_FOLLOWING:
                raise LimitError("a look-ahead that takes too many states to see what may follow; simplify it")
            ways = found[state] = {}
            for index, ranges in enumerate(self.machine.atoms):
                count_work(len(state))
                after = self.after(state, ranges[0][0])
                if after:
                    ways.setdefault(after, []).append(index)
            todo += ways
        return found

    def after(self, state: Following, code: int) -> Following:
        found: set[Ended | Longer] = set()
        for way in state:
            if isinstance(way, Ended):
                found |= self.ended_after(way, code)
                continue
            place = self.machine.after(way.place, code)
            if way.is_whole:
                found.update(ended(place))
            cut = frozenset(each for old in way.cut for each in self.ended_after(old, code))
            found |= self.longer(place, cut, way.is_whole or any(map(is_ended, cut)))
        return simplified(found)

    def ended_after(self, way: Ended, code: int) -> set[Ended]:
        wanted = self.seen_after(way.wanted, code)
        if wanted is None:
            return set()
        place = self.machine.after(way.before, code) if way.before.threads else NOWHERE
        never = {self.seen_after(each, code) for each in way.never}
        never |= {thread.ahead for thread in place.threads if thread.state == MATCH}
        if frozenset() in never:
            return set()
        threads = going_on(place.threads)
        before = Place(threads, place.trackers) if threads else NOWHERE
        return {Ended(wanted, before, frozenset(each for each in never if each is not None))}

    def seen_after(self, seen: Iterable[Seen], code: int) -> frozenset[Seen] | None:
        recogniser = self.machine.recogniser
        return self.machine.settled([Seen(recogniser.advance(each.left, code), each.negative) for each in seen])

    def is_true(self, state: Following) -> bool:
        """Whether it is true if nothing follows."""
        return any(isinstance(way, Ended) and is_ended(way) for way in state)


def ended(place: Place) -> list[Ended]:
    """The ways in which a match ends at a place, by what is still to be seen."""
    ways: list[Ended] = []
    for index, thread in enumerate(place.threads):
        if thread.state == MATCH:
            before = place.threads[:index]
            threads = going_on(before)
            shorter = frozenset(each.ahead for each in before if each.state == DONE)
            ways.append(Ended(thread.ahead, Place(threads, place.trackers) if threads else NOWHERE, shorter))
    return ways


def is_ended(way: Ended) -> bool:
    return holds(way.wanted) and not any(map(holds, way.never))


def going_on(threads: tuple[Thread, ...]) -> tuple[Thread, ...]:
    return tuple(thread for thread in threads if thread.state not in (MATCH, DONE))


def simplified(ways: set[Ended | Longer]) -> Following:
    return ALWAYS if ways >= ALWAYS else frozenset(ways)
