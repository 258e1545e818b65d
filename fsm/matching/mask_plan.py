"""How the mask of a configuration is to be computed: which of the exact ways is the cheapest there. A planner.

    inside a string            Loop(slice of its characters)       copy, and walk from the exits
    at its first character     Delta(base: inside a string)        that one's mask, and walk where they differ
    in `[a-z]{0,40}`           Counted(slice, 33 characters left)  copy the mask of at most 33 characters
    at the start of an object  Walk()                              the whole trie, pruned

It asks the kernels what a configuration is like, and remembers nothing: the same configuration has the same plan. What
other masks a plan needs it names by their configurations, and whoever carries it out (`masking`) has them computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.kernels.bounded import AFTER, MISSING, BoundedText, Farthest
from stemma.fsm.kernels.columns import PAIR, PATH, STATE, product_of, state_of
from stemma.fsm.kernels.iterations import Repetition
from stemma.fsm.kernels.kinds import COUNTER, DELTA, JOINED, LOOP, NOT_YET, Classification, Counter
from stemma.fsm.kernels.look import NUM_FOUND
from stemma.fsm.kernels.tables import DIFFERENCE, Int64s
from stemma.fsm.matching.mask_cache import Words
from stemma.fsm.vocabulary.vocabulary import Vocabulary

NUM_INSIDE = 129  # the ASCII bytes of a slice, and which other characters it has


class Classified(NamedTuple):
    """What a configuration is like, the bytes of its slice, and the parts that it is better taken apart into."""

    config: int
    found: Classification
    inside: Int64s
    parts: Sequence[int] = ()

    @property
    def repetition(self) -> Repetition | None:
        """The repeat whose earlier iterations have much the same mask. A COUNTER is quick without."""
        return self.found.repetition if self.found.earlier and self.found.kind != COUNTER else None


class Walk(NamedTuple):
    """Walk the trie."""


class Loop(NamedTuple):
    """Copy the mask of a slice whose bytes lead back here, and walk from its exits."""

    inside: Int64s


class Counted(NamedTuple):
    """The same where each character of the slice is one iteration of a repeat."""

    inside: Int64s
    counter: Counter


class Delta(NamedTuple):
    """Copy the mask of `base`, and walk where the two differ."""

    base: int


class Region(NamedTuple):
    """Copy the mask of a slice that leads through a region which reads all of it; `reads`: all bytes it reads."""

    inside: Int64s
    reads: Int64s


class Bounded(NamedTuple):
    """Join the masks of the two sides of a text with a pattern and a largest length; `spare` is the length's side where
    so many characters have been spent that the pattern may not end in time. `inside`: what cannot follow the text."""

    text: BoundedText
    right: Classified
    spare: int
    inside: Int64s


Plan = Walk | Loop | Counted | Delta | Region | Bounded
Distances = Callable[[int], int]


class Planner:
    """Plans for one grammar and one vocabulary."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary, path: Int64s) -> None:
        self._automaton = automaton
        self._longest = vocabulary.longest
        self._trie = vocabulary.trie
        self._kernels = automaton.kernels
        self._path = path
        self._inside = np.zeros(NUM_INSIDE, np.int64)
        self._found = np.zeros(NUM_FOUND, np.int64)
        self._found[0] = self._longest  # but where a look has found something, until it is `seen`
        self._look = automaton.kernels.look
        self._sides = np.zeros(AFTER + 1, np.int64)

    def look(self, config: int, out: Words, twins: Int64s) -> int:
        """DONE if `out` is the mask of `config`, with those `twins`; KNOWN: `seen` says what it is like; NOT_YET if
        rules or room are missing."""
        return self._look(self._automaton.tables, self._trie, self._path, config, self._inside, self._found, out, twins)

    def seen(self, config: int) -> Classified:
        """What the last look at `config` has found."""
        *fields, parts = self._found.tolist()
        self._found[0] = self._longest
        configs = self._path[:parts, PATH.config].tolist() if parts else ()
        return Classified(config, Classification(*fields), self._inside.copy(), configs)

    def classify(self, config: int) -> Classified:
        """What `config` is like."""
        inside = np.zeros(NUM_INSIDE, np.int64)
        classify, automaton = self._kernels.classify, self._automaton
        found = Classification(*classify(automaton.tables, config, inside, self._longest))
        while found.kind == NOT_YET:
            automaton.provide()
            found = Classification(*classify(automaton.tables, config, inside, self._longest))
        return Classified(config, found, inside)

    def plan(self, classified: Classified, distance_to_end: Distances) -> Plan:
        """How to compute the mask there. distance_to_end: what `farthest` says of a configuration, if need be."""
        found = classified.found
        kind = found.kind
        if kind == JOINED and (bounded := self._bounded(classified.config, distance_to_end)) is not None:
            return bounded
        if kind == DELTA:
            return Delta(found.base)
        if kind == COUNTER:
            return Counted(classified.inside, found.counter)
        is_region = found.strays and not (kind == JOINED and self._is_counted(classified.config))
        if is_region and (region := self._region(classified)) is not None:
            return region
        return Loop(classified.inside) if kind == LOOP else Walk()

    def earlier(self, config: int, repetition: Repetition) -> int:
        """The configuration like `config` as many iterations earlier as may be; 0 if its stacks are too deep for
        that."""
        automaton = self._automaton
        while (earlier := self._kernels.earlier_iteration(automaton.tables, config, self._path, repetition)) < 0:
            automaton.provide()
        return earlier

    def maximum_of(self, repetition: Repetition) -> int:
        return int(self._automaton.tables.states[repetition.repeat, STATE.maximum])

    def farthest(self, config: int) -> tuple[int, list[int]]:
        """The most characters that `config`, or what follows it, may be from an end (negative: unknown), and all that
        it is true of."""
        automaton = self._automaton
        found = Farthest(MISSING, 0)
        while found.distance == MISSING:
            found = Farthest(*self._kernels.farthest(automaton.tables, config, self._path))
            if found.distance == MISSING:
                automaton.provide()
        return found.distance, self._path[: found.size, PATH.config].tolist() if found.distance >= 0 else []

    def _region(self, classified: Classified) -> Region | None:
        """A slice of more bytes than a LOOP has, if it leads through a region."""
        inside, reads = np.zeros(NUM_INSIDE, np.int64), np.zeros(256, np.int64)
        find_region, automaton = self._kernels.find_region, self._automaton
        while (number := find_region(automaton.tables, classified.config, self._path, inside, reads)) < 0:
            automaton.provide()
        if number and (classified.found.kind != LOOP or inside.sum() > classified.inside.sum()):
            return Region(inside, reads)
        return None

    def _is_counted(self, config: int) -> bool:
        """Whether all that reads on from `config` is one product that ends by a count, so that no region reads on: each
        character leads further, until none is left."""
        todo = [config]
        while todo:
            config, t = todo.pop(), self._automaton.tables
            items = t.items[self._automaton.items_of(config)].tolist()
            if len(items) == 1 and items[0] < 0:
                pair = t.products[product_of(state_of(items[0]))].tolist()
                todo += [pair[PAIR.left]] if pair[PAIR.operation] == DIFFERENCE else [pair[PAIR.left], pair[PAIR.right]]
            else:
                found = self.classify(config).found
                if found.kind == COUNTER and found.remaining >= 0:
                    return True
        return False

    def _bounded(self, config: int, distance_to_end: Distances) -> Bounded | None:
        """The plan inside a text with a pattern and a largest length, if `config` is such a place."""
        automaton, inside, found = self._automaton, np.empty(NUM_INSIDE, np.int64), self._sides
        while (is_bounded := self._kernels.find_bounded(automaton.tables, config, inside, found)) < 0:
            automaton.provide()
        if not is_bounded:
            return None
        left, right, after = found.tolist()
        classified = self.classify(right)
        spare = self._spare(classified, distance_to_end(left))
        if spare is None:
            return None
        return Bounded(BoundedText(left, right, after, classified.found.remaining), classified, spare, inside)

    def _spare(self, right: Classified, distance: int) -> int | None:
        """`right` with so many characters less; None where the distance is unknown, or not as many are left."""
        found, config = right.found, right.config
        if found.kind != COUNTER or found.free > 0 or not 0 <= distance < found.remaining:
            return None
        for _ in range(distance):
            config = self._automaton.step(config, found.step_byte)
        return config
