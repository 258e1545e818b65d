"""The tree of the waiting against a list that is looked through from end to end."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stemma.runtime.core.waiting_tree import MAX_HEIGHT, Entry, Line, Stands, known_to
from tests.runtime.core.making import sequence

TOKENS = st.lists(st.integers(0, 1), max_size=7)
DEADLINES = st.sampled_from([math.inf, 5.0, 9.0])
NAMES = st.sampled_from(["", "a"])


def packed(tokens: list[int]) -> bytes:
    return np.array(tokens, dtype=np.int32).tobytes()


def shared(one: list[int], other: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class TreeMachine(RuleBasedStateMachine):
    """entries: with their namespace and tokens. cached: beginnings that were published, by namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line("")
        self.entries: dict[Entry, tuple[str, list[int]]] = {}
        self.cached: list[tuple[str, list[int]]] = []
        self.shut: set[Entry] = set()
        self.count = 0

    def known(self, name: str, tokens: list[int]) -> int:
        return max((shared(each, tokens) for other, each in self.cached if other == name), default=0)

    def may_go(self, entry: Entry) -> bool:
        return entry.stands is Stands.OPEN and not entry.place.is_behind_shut

    def pick(self, data: st.DataObject) -> Entry:
        return data.draw(st.sampled_from(sorted(self.entries, key=lambda entry: entry.key)))

    @rule(
        name=NAMES,
        tokens=TOKENS,
        deadline=st.sampled_from([math.inf, 5.0, 9.0]),
        from_=st.sampled_from([math.inf, 3.0]),
    )
    def add(self, name, tokens, deadline, from_):
        self.count += 1
        item = sequence(tokens or [0])
        item.arrival, item.deadline = self.count, deadline
        entry = Entry(item, self.line, from_)
        self.line.add(entry, name, packed(tokens), self.known(name, tokens))
        self.entries[entry] = (name, tokens)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def remove(self, data):
        entry = self.pick(data)
        for place in entry.place.above():
            if place.is_shut and place.num_entries == 1:
                self.line.reopen(place)  # as who shut it does
        self.line.remove(entry)
        del self.entries[entry]

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def close_or_allow(self, data):
        entry = self.pick(data)
        if entry.stands is Stands.OPEN:
            self.line.close(entry, Stands.LACKING)
        else:
            self.line.allow(entry)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def shut_or_reopen(self, data):
        place = self.pick(data).place
        if place.is_shut:
            self.line.reopen(place)
        elif place.parent is not None:
            self.line.shut(place)

    @rule(name=NAMES, tokens=TOKENS)
    def publish(self, name, tokens):
        self.cached.append((name, tokens))
        self.line.published(name, packed(tokens), len(tokens))

    @invariant()
    def the_first_is_the_least_of_those_who_may_go(self):
        may_go = [entry for entry in self.entries if self.may_go(entry)]
        wanted = min(may_go, key=lambda entry: entry.key, default=None)
        assert self.line.first_below(self.line.root) is wanted

    @invariant()
    def the_longest_has_most_cached(self):
        may_go = {entry: self.known(*self.entries[entry]) for entry in self.entries if self.may_go(entry)}
        place = self.line.longest()
        assert (place is None) == (not may_go)
        if place is not None:
            chosen = self.line.first_below(place)
            assert may_go[chosen] == max(may_go.values())
            equals = [entry for entry, known in may_go.items() if known == may_go[chosen]]
            assert chosen.key == min(entry.key for entry in equals)

    @invariant()
    def what_is_known_is_what_was_published(self):
        for entry, (name, tokens) in self.entries.items():
            assert known_to(entry.place) == self.known(name, tokens)

    @invariant()
    def the_urgent_are_those_whose_time_has_come(self):
        urgent = [entry for entry in self.entries if self.may_go(entry) and entry.urgent_from <= 4.0]
        assert (self.line.urgent(4.0) in urgent) if urgent else self.line.urgent(4.0) is None
        assert self.line.urgent(2.0) is None

    @invariant()
    def nobody_is_counted_twice(self):
        assert len(self.line) == len(self.entries)


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_paths_of_many_places_stay_within_a_bound():
    line, entries = Line(""), []
    for length in range(1, 200):
        item = sequence([1])
        item.arrival = length
        entries.append(Entry(item, line, math.inf))
        line.add(entries[-1], "", packed([1] * length), 0)
    assert max(sum(1 for _ in entry.place.above()) for entry in entries) <= MAX_HEIGHT + 2
    for wanted in entries:
        first = line.first_below(line.root)
        assert first is wanted
        line.remove(first)
    assert len(line) == 0
