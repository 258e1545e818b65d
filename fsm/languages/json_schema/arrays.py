"""Arrays: all facts about one array as a small machine that takes an item at a time.

A state is how many items there were (as far as that matters), how many of them each `contains` has counted, which
"some item ..." are fulfilled, and what values were seen where all must differ, or two must not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

from stemma.fsm.errors import UnsupportedSchema
from stemma.fsm.languages.json_schema.context import Context, can_end, choices
from stemma.fsm.languages.json_schema.facts import (
    ArrayFact,
    Contains,
    Items,
    Length,
    SomeItem,
    Unique,
)
from stemma.fsm.languages.json_schema.goals import (
    ANYTHING,
    NEVER,
    Goal,
    conjoined,
    negated,
)
from stemma.fsm.languages.json_schema.values import identity


class Candidate(NamedTuple):
    """One of few values that an item may have: which `contains` count it, and the flags that it sets."""

    value: Any
    identity: Hashable
    contained: tuple[bool, ...]
    flags: int


class ArrayState(NamedTuple):
    size: int
    contained: tuple[int, ...]
    flags: int
    seen: frozenset[Any]


class Item(NamedTuple):
    """One more item: of a goal, or exactly `value` where `is_exact`."""

    goal: Goal
    value: Any
    is_exact: bool
    after: ArrayState


class ArrayShape:
    """All facts about an array at once."""

    def __init__(self, facts: tuple[ArrayFact, ...], context: Context) -> None:
        self.context = context
        self.items = [fact for fact in facts if isinstance(fact, Items)]
        self.some = [fact for fact in facts if isinstance(fact, SomeItem)]
        self.contains = [fact for fact in facts if isinstance(fact, Contains)]
        lengths = [fact for fact in facts if isinstance(fact, Length)]
        self.minimum = max((fact.minimum for fact in lengths), default=0)
        self.maximum = min((fact.maximum for fact in lengths if fact.maximum is not None), default=None)
        prefixes = [fact.prefix for fact in self.items] + [fact.prefix for fact in self.some]
        self.horizon = max(map(len, prefixes), default=0)
        self.unique = next((fact for fact in facts if isinstance(fact, Unique) and fact.positive), None)
        self.alike = next((fact for fact in facts if isinstance(fact, Unique) and not fact.positive), None)
        self.known: dict[ArrayState, bool] = {}
        self.candidates: dict[int, list[Candidate]] = {}
        told_apart = self.unique or self.alike
        self.remembers = told_apart is not None and not self._is_trivially_unique(told_apart)
        if not self.remembers:
            self.unique = None
        self.pure = not (self.some or self.contains or self.unique or self.alike)
        self.all_flags = (1 << len(self.some) + (self.alike is not None)) - 1  # the last one: two items were alike
        values = self.context.finite(self.item_goal(0)) if self.unique is not None else None
        most = len({identity(value) for value in values}) if values is not None else 0
        self.has_enough_values = self.minimum <= (most if self.maximum is None else min(most, self.maximum))

    def _is_trivially_unique(self, fact: Unique) -> bool:
        if self.maximum is not None and self.maximum <= 1:
            return True
        indices = range(min(self.horizon + 1, self.horizon + 1 if self.maximum is None else self.maximum))
        if all(self.context.finite(self.item_goal(index)) is not None for index in indices):
            return False
        if self.context.options.on_unsupported == "refuse":
            raise UnsupportedSchema(
                "that items differ can only be enforced where they have few possible values (enum, const, boolean, "
                "a small range of integers); drop it, or pass on_unsupported='ignore'",
                fact.pointer,
            )
        return True

    def item_goal(self, index: int) -> Goal:
        """What the item at an index fulfils in any case."""
        return conjoined(fact.prefix[index] if index < len(fact.prefix) else fact.rest for fact in self.items)

    @property
    def first(self) -> ArrayState:
        return ArrayState(0, (0,) * len(self.contains), 0, frozenset())

    def ends(self, state: ArrayState) -> bool:
        return (
            state.size >= self.minimum
            and all(count >= fact.minimum for count, fact in zip(state.contained, self.contains, strict=True))
            and state.flags == self.all_flags
        )

    def following(self, state: ArrayState) -> list[Item]:
        """Every item that can come next and still lead to an end."""
        return [item for item in self._candidates(state)
                if (item.is_exact or self.context.possible_goal(item.goal)) and self.can_end(item.after)]  # fmt: skip

    def can_end(self, state: ArrayState) -> bool:
        if self.unique is not None and not (self.contains or self.all_flags or self.horizon):
            return self.has_enough_values  # which of them are taken already makes no difference
        return can_end(
            self._alike(state),
            self.ends,
            lambda known: map(self._alike, self._states_after(known)),
            self.known,
            self.context,
        )

    def _alike(self, state: ArrayState) -> ArrayState:
        """A state that can end exactly if this one can: of values that count alike, only how many are taken matters."""
        if not self.remembers or self.horizon:
            return state
        taken = Counter((each.contained, each.flags) for each in self.values_at(0) if each.identity in state.seen)
        first: set[Hashable] = set()
        for each in self.values_at(0):
            kind = (each.contained, each.flags)
            if taken[kind]:
                taken[kind] -= 1
                first.add(each.identity)
        return state._replace(seen=frozenset(first))

    def values_at(self, index: int) -> list[Candidate]:
        """The values that the item at an index may have, where they are few."""
        index = min(index, self.horizon)
        if index not in self.candidates:
            self.candidates[index] = [
                Candidate(
                    value,
                    identity(value),
                    tuple(self.context.check(value, fact.goal) for fact in self.contains),
                    sum(self._at(fact, index, value) << flag for flag, fact in enumerate(self.some)),
                )
                for value in self.context.finite(self.item_goal(index)) or ()
            ]
        return self.candidates[index]

    def _states_after(self, state: ArrayState) -> Iterator[ArrayState]:
        return (
            item.after for item in self._candidates(state) if item.is_exact or self.context.possible_goal(item.goal)
        )

    def _candidates(self, state: ArrayState) -> Iterable[Item]:
        if self.maximum is not None and state.size >= self.maximum:
            return []
        base = self.item_goal(state.size)
        return self._remembered(state, base) if self.remembers else self._general(state, base)

    def _general(self, state: ArrayState, base: Goal) -> Iterator[Item]:
        count = self.counted(state)
        ways = [list(self._contain(fact, before)) for fact, before in zip(self.contains, state.contained, strict=True)]
        goals = [fact.prefix[state.size] if state.size < len(fact.prefix) else fact.rest for fact in self.some]
        settable = [(flag, goal) for flag, goal in enumerate(goals) if not state.flags >> flag & 1 and goal != NEVER]
        for contained in product(*ways):
            counted = conjoined((base, *(goal for goal, _ in contained)))
            after = ArrayState(count, tuple(after for _, after in contained), state.flags, frozenset())
            for goal, bits in choices(counted, settable, self.context):
                yield Item(goal, None, False, after._replace(flags=state.flags | bits))

    def counted(self, state: ArrayState) -> int:
        """One item more, as far as that matters."""
        return min(state.size + 1, max(1, self.horizon, self.minimum, self.maximum or 0))

    @staticmethod
    def _contain(fact: Contains, before: int) -> Iterator[tuple[Goal, int]]:
        """An item that counts and one that does not; where only a minimum is asked, the latter may be any."""
        if fact.maximum is None:
            yield ANYTHING, before
            if before < fact.minimum:
                yield fact.goal, before + 1
            return
        yield negated(fact.goal), before
        if before < fact.maximum:
            yield fact.goal, before + 1

    def _remembered(self, state: ArrayState, base: Goal) -> Iterator[Item]:
        for each in self.values_at(state.size):
            is_again = each.identity in state.seen
            if is_again and self.unique is not None:
                continue
            contained = tuple(map(int.__add__, state.contained, each.contained))
            if any(fact.maximum is not None and after > fact.maximum
                   for fact, after in zip(self.contains, contained, strict=True)):  # fmt: skip
                continue
            contained = tuple(after if fact.maximum is not None else min(after, fact.minimum)
                              for fact, after in zip(self.contains, contained, strict=True))  # fmt: skip
            flags = state.flags | each.flags | (is_again << len(self.some))
            seen = frozenset() if self.unique is None and flags >> len(self.some) else state.seen | {each.identity}
            yield Item(base, each.value, True, ArrayState(self.counted(state), contained, flags, seen))

    def is_fulfilled_by(self, value: list[Any]) -> bool:
        """The same facts, asked of a whole array."""
        size = len(value)
        if size < self.minimum or (self.maximum is not None and size > self.maximum):
            return False
        if self.unique is not None or self.alike is not None:
            differ = len(set(map(identity, value))) == size
            if (self.unique is not None and not differ) or (self.alike is not None and differ):
                return False
        for fact in self.contains:
            count = sum(self.context.check(item, fact.goal) for item in value)
            if count < fact.minimum or (fact.maximum is not None and count > fact.maximum):
                return False
        if not all(any(self._at(some, index, item) for index, item in enumerate(value)) for some in self.some):
            return False
        return all(self._at(fact, index, item) for fact in self.items for index, item in enumerate(value))

    def _at(self, fact: Items | SomeItem, index: int, item: Any) -> bool:
        return self.context.check(item, fact.prefix[index] if index < len(fact.prefix) else fact.rest)
