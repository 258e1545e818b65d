"""What the shapes of arrays and objects may ask about the values inside them, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import combinations
from typing import Any, Protocol, TypeVar

from stemma.fsm.ast import Node
from stemma.fsm.deadline import check_time
from stemma.fsm.errors import LimitError
from stemma.fsm.json_schema.facts import Alternative, Goal
from stemma.fsm.json_schema.options import SchemaOptions

MAXIMUM_FREE_FLAGS = 6
MAXIMUM_STATES = 20_000


class Context(Protocol):
    """The meaning of goals, as far as shapes need it."""

    options: SchemaOptions

    def alternatives(self, goal: Goal) -> tuple[Alternative, ...]: ...

    def possible_goal(self, goal: Goal) -> bool:
        """Whether any value fulfils a goal."""
        ...

    def check(self, value: Any, goal: Goal) -> bool:
        """Whether this value does."""
        ...

    def finite(self, goal: Goal) -> tuple[Any, ...] | None:
        """All values that fulfil a goal, where they are few."""
        ...

    def names_language(self, goal: Goal) -> Node:
        """The texts that fulfil a goal, for names."""
        ...


def subsets(flags: list[int]) -> Iterator[tuple[int, ...]]:
    """Which of the flags one step sets: every choice, but of many flags only none, one, two or all."""
    sizes = range(len(flags) + 1) if len(flags) <= MAXIMUM_FREE_FLAGS else (0, 1, 2, len(flags))
    for size in sizes:
        yield from combinations(flags, size)


S = TypeVar("S", bound=Hashable)


def can_end(first: S, ends: Callable[[S], bool], following: Callable[[S], Iterable[S]], known: dict[S, bool]) -> bool:
    """Whether an end can be reached from a state; what is found out is kept in `known`."""
    if first in known:
        return known[first]
    came_from: dict[S, list[S]] = {first: []}
    todo = [first]
    while todo:
        check_time()
        state = todo.pop()
        if known.get(state):
            continue
        if ends(state):
            _mark(state, came_from, known)
        for after in following(state) if not known.get(state) else ():
            if known.get(after):
                _mark(state, came_from, known)
                break
            if after in came_from:
                came_from[after].append(state)
            elif after not in known:
                came_from[after] = [state]
                todo.append(after)
        if first in known:
            return True
        if len(came_from) > MAXIMUM_STATES:
            raise LimitError(f"an object or array takes more than {MAXIMUM_STATES} states; simplify its conditions")
    for state in came_from:
        known.setdefault(state, False)
    return known[first]


def _mark(state: S, came_from: dict[S, list[S]], known: dict[S, bool]) -> None:
    """`state` and all that lead to it can end."""
    todo = [state]
    while todo:
        state = todo.pop()
        if not known.get(state):
            known[state] = True
            todo += came_from.get(state, [])
