"""The texts of a regular expression that `re.match` would take whole: with lazy repeats, `|` from left to right.

`re` prefers one match of many (leftmost, with the priorities of backtracking). Threads in order of preference, the ones
behind a match cut off, are a finite automaton (Pike's VM; Cox 2010, "Regular Expression Matching in the Wild"):

    a|ab      after a    threads: matched; b to come      the first cuts off the second: ab is never read
    "a".*?"b" stops at the first b, since the thread that ends the lazy repeat comes first

A thread carries what it has still to see or not to see (lookahead); what it has seen (lookbehind) is the same for all
threads.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

from stemma.fsm.errors import LimitError, RegexError
from stemma.fsm.languages.regex.regex import Regex, language_ahead
from stemma.fsm.languages.regex.tree import Ahead, Behind, Class, Concat, Either, Repeated, Tree
from stemma.fsm.languages.regex.tree_facts import around, atoms, is_obvious, looks_around
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Characters, Node, RuleRef
from stemma.fsm.syntax.characters import Ranges
from stemma.fsm.syntax.nodes import ANY_TEXT, EMPTY, choice, concat
from stemma.fsm.syntax.recogniser import Recogniser, State
from stemma.fsm.work import count_work

MAXIMUM_STATES = 20_000  # of the regular expression, unrolled
MAXIMUM_THREADS = 400_000
MATCH = 0
DONE = 1  # a match that has ended further back, if what it looks ahead at comes true
Spot = TypeVar("Spot", bound=Hashable)  # a state of some automaton


class Seen(NamedTuple):
    """What a look-ahead has still to read, or must not be able to."""

    left: State
    negative: bool


class Thread(NamedTuple):
    state: int
    ahead: frozenset[Seen]


class Read(NamedTuple):
    ranges: Ranges
    following: int


class Split(NamedTuple):
    """Ways in order of preference."""

    ways: tuple[int, ...]


class Look(NamedTuple):
    """Ahead, at a language."""

    start: State
    negative: bool
    following: int


class Back(NamedTuple):
    """Behind, at what the tracker of that number has found."""

    tracker: int
    negative: bool
    following: int


class Tracker(NamedTuple):
    """Which states of a look-behind have been reached: `surely`, and if the text before were of the right kind."""

    surely: frozenset[int]
    perhaps: frozenset[int]


class Place(NamedTuple):
    """A state of the automaton."""

    threads: tuple[Thread, ...]
    trackers: tuple[Tracker, ...]


Step = Read | Split | Look | Back | None


class Preferred:
    """One regular expression, by its tree; `rules` are what `start` calls."""

    def __init__(self, pattern: str, tree: Tree) -> None:
        self.pattern = pattern
        self.recogniser = Recogniser()
        self.anything = self.recogniser.start(ANY_TEXT)
        self.steps: list[Step] = [None, None]  # of MATCH and of DONE
        self.behinds: list[int] = []  # where the automata of look-behinds begin
        self.atoms = atoms(tree)
        self.has_cut = False
        self.start = self.place([Thread(self.build(tree, MATCH), frozenset())], self.first_trackers())

    # The regular expression's own states, from its end to its start -----------------------------------------------

    def step(self, step: Step) -> int:
        if len(self.steps) >= MAXIMUM_STATES:
            raise LimitError(f"a terminal of more than {MAXIMUM_STATES} characters and repeats; simplify it")
        self.steps.append(step)
        return len(self.steps) - 1

    def build(self, tree: Tree, following: int) -> int:
        if isinstance(tree, Class):
            return self.step(Read(tree.ranges, following))
        if isinstance(tree, Concat):
            for part in reversed(tree.parts):
                following = self.build(part, following)
            return following
        if isinstance(tree, Either):
            return self.step(Split(tuple(self.build(part, following) for part in tree.parts)))
        if isinstance(tree, Repeated):
            return self.repeated(tree, following)
        if isinstance(tree, Ahead):
            start = self.recogniser.start(language_ahead(tree.part, self.pattern))
            return self.step(Look(start, tree.negative, following))
        if isinstance(tree, Behind):
            return self.step(Back(self.tracker(tree.part), tree.negative, following))
        return self.build(around(tree), following)

    def repeated(self, tree: Repeated, following: int) -> int:
        if tree.possessive:
            if not isinstance(tree.part, Class) or tree.maximum is not None:
                raise RegexError(
                    "a possessive repeat of this is not supported; say what may not follow", self.pattern, 0
                )
            following = self.build(Ahead(tree.part, negative=True), following)
        if tree.maximum is None:
            loop = self.step(None)
            entry = self.build(tree.part, loop)
            self.steps[loop] = Split((following, entry) if tree.lazy else (entry, following))
            following = loop
        else:
            end = following
            for _ in range(tree.maximum - tree.minimum):
                entry = self.build(tree.part, following)
                following = self.step(Split((end, entry) if tree.lazy else (entry, end)))
        for _ in range(tree.minimum):
            following = self.build(tree.part, following)
        return following

    def tracker(self, part: Tree) -> int:
        self.behinds.append(self.build(part, MATCH))
        return len(self.behinds) - 1

    # Look-behind ---------------------------------------------------------------------------------------------------

    def first_trackers(self) -> tuple[Tracker, ...]:
        return tuple(
            Tracker(self.reached([start]), self.reached(self.inside(start))) for start in self.behinds
        )  # fmt: skip

    def inside(self, start: int) -> list[int]:
        """All states behind the first one of a look-behind's automaton."""
        found: set[int] = set()
        todo = [start]
        while todo:
            step = self.steps[todo.pop()]
            ways = step.ways if isinstance(step, Split) else () if step is None else (step.following,)
            fresh = [way for way in ways if way not in found]
            found.update(fresh)
            todo += fresh
        return sorted(found)

    def reached(self, states: list[int]) -> frozenset[int]:
        """What can be reached from there without reading."""
        found = set(states)
        todo = list(states)
        while todo:
            step = self.steps[todo.pop()]
            if isinstance(step, (Look, Back)):
                raise RegexError("looking around inside a look-behind is not supported", self.pattern, 0)
            for way in step.ways if isinstance(step, Split) else ():
                if way not in found:
                    found.add(way)
                    todo.append(way)
        return frozenset(found)

    def tracked(self, trackers: tuple[Tracker, ...], code: int) -> tuple[Tracker, ...]:
        return tuple(
            Tracker(
                self.reached([start, *self.read(tracker.surely, code)]), self.reached(self.read(tracker.perhaps, code))
            )
            for start, tracker in zip(self.behinds, trackers, strict=True)
        )

    def read(self, states: frozenset[int], code: int) -> list[int]:
        steps = [self.steps[state] for state in states]
        return [step.following for step in steps if isinstance(step, Read) and characters.contains(step.ranges, code)]

    # The automaton -------------------------------------------------------------------------------------------------

    def place(self, threads: list[Thread], trackers: tuple[Tracker, ...]) -> Place:
        """Threads at what reads a character or is a match, in order, none twice, those that a match excludes cut.

        A match that still looks ahead excludes nothing yet: it goes on as DONE.
        """
        found: dict[Thread, None] = {}
        seen: set[Thread] = set()
        todo = threads[::-1]
        while todo:
            thread = todo.pop()
            if thread in seen:
                continue
            seen.add(thread)
            step = self.steps[thread.state]
            if thread.state in (MATCH, DONE):
                found[thread] = None
                if not thread.ahead:
                    self.has_cut |= bool(todo)
                    break
            elif isinstance(step, Read):
                found[thread] = None
            elif isinstance(step, Split):
                todo += [Thread(way, thread.ahead) for way in reversed(step.ways)]
            elif isinstance(step, Back):
                if self.is_behind(trackers[step.tracker]) != step.negative:
                    todo.append(Thread(step.following, thread.ahead))
            elif isinstance(step, Look):
                ahead = self.settled([Seen(step.start, step.negative)])
                if ahead is not None:
                    todo.append(Thread(step.following, thread.ahead | ahead))
        ordered = list(found)
        while ordered and ordered[-1].state == DONE:  # behind it nothing is left to exclude
            ordered.pop()
        return Place(tuple(ordered), trackers)

    def is_behind(self, tracker: Tracker) -> bool:
        if MATCH in tracker.surely:
            return True
        if MATCH in tracker.perhaps:
            message = "a look-behind, or a boundary, that sees what stands before the terminal is not supported"
            raise RegexError(f"{message}; say what may stand there in the rule", self.pattern, 0)
        return False

    def settled(self, ahead: list[Seen]) -> frozenset[Seen] | None:
        """What of `ahead` is still open; None if it came out false."""
        found: set[Seen] = set()
        for seen in ahead:
            is_true = seen.left >= self.anything
            if is_true or not seen.left:
                if is_true == seen.negative:
                    return None
            else:
                found.add(seen)
        return frozenset(found)

    def after(self, place: Place, code: int) -> Place:
        threads: list[Thread] = []
        for thread in place.threads:
            step = self.steps[thread.state]
            if step is None:
                following = DONE
            elif isinstance(step, Read) and characters.contains(step.ranges, code):
                following = step.following
            else:
                continue
            left = [Seen(self.recogniser.advance(seen.left, code), seen.negative) for seen in thread.ahead]
            ahead = self.settled(left)
            if ahead is not None and (following != DONE or thread.ahead):
                threads.append(Thread(following, ahead))
        return self.place(threads, self.tracked(place.trackers, code) if threads else ())

    def accepts(self, place: Place) -> bool:
        """Whether what was read is a match, if nothing follows."""
        for thread in place.threads:
            if thread.state in (MATCH, DONE) and holds(thread.ahead):
                return thread.state == MATCH
        return False

    def explored(self) -> dict[Place, dict[Place, list[int]]]:
        """Every state, and by which atoms it leads where."""
        found: dict[Place, dict[Place, list[int]]] = {}
        todo = [self.start]
        threads = 0
        while todo:
            place = todo.pop()
            if place in found:
                continue
            ways = found[place] = {}
            for index, ranges in enumerate(self.atoms):
                after = self.after(place, ranges[0][0])
                if after.threads:
                    ways.setdefault(after, []).append(index)
            threads += len(place.threads) * len(self.atoms)
            count_work(len(place.threads) * len(self.atoms))
            if threads > MAXIMUM_THREADS:
                raise LimitError("a terminal takes too many states to see which match `re` prefers; simplify it")
            todo += ways
        return found

    def rules(self, key: Hashable) -> dict[Hashable, Node]:
        """The automaton as rules, each a state; the first is the start."""
        found = self.explored()
        group = merged(found, {place: int(self.accepts(place)) for place in found})
        return self.states(key, found, group, {place: EMPTY for place in found if self.accepts(place)})

    def states(
        self,
        key: Hashable,
        found: dict[Place, dict[Place, list[int]]],
        group: dict[Place, int],
        ends: Mapping[Place, Node],
    ) -> dict[Hashable, Node]:
        """Groups of states as rules; where a match may end stands what `ends` says."""
        rules: dict[Hashable, Node] = {}
        for place, ways in found.items():
            name = (key, group[place])
            if name not in rules:
                parts = [ends[place]] if place in ends else []
                for target, indexes in grouped(ways, group).items():
                    ranges = characters.union(span for index in indexes for span in self.atoms[index])
                    parts.append(concat((Characters(ranges), RuleRef((key, target)))))
                rules[name] = choice(parts)
        return rules


def holds(seen: frozenset[Seen]) -> bool:
    """Whether all that is to be seen is, if nothing follows."""
    return all((None in each.left) != each.negative for each in seen)


def preferred(pattern: str, tree: Tree, key: Hashable) -> tuple[Node, dict[Hashable, Node]]:
    """The texts that `re.match(pattern)` takes whole, and rules under names that begin with `key`."""
    if is_obvious(tree):
        return Regex(pattern).language(), {}
    machine = Preferred(pattern, tree)
    rules = machine.rules(key)
    if not machine.has_cut and not looks_around(tree):
        return Regex(pattern).language(), {}
    return RuleRef(next(iter(rules))), rules


def merged(found: Mapping[Spot, Mapping[Spot, list[int]]], kinds: Mapping[Spot, int]) -> dict[Spot, int]:
    """Numbers of states; those that accept the same have the same (Moore 1956). The first has 0."""
    group = dict(kinds)
    count = 0
    while True:
        keys: dict[Hashable, int] = {}
        following: dict[Spot, int] = {}
        for state, ways in found.items():
            targets = grouped(ways, group)
            key = (group[state], frozenset((target, *sorted(indexes)) for target, indexes in targets.items()))
            following[state] = keys.setdefault(key, len(keys))
        group = following
        if len(keys) == count:
            return group
        count = len(keys)


def grouped(ways: Mapping[Spot, list[int]], group: Mapping[Spot, int]) -> dict[int, list[int]]:
    """By which atoms a state leads to which group."""
    targets: dict[int, list[int]] = {}
    for after, indexes in ways.items():
        targets.setdefault(group[after], []).extend(indexes)
    return targets
