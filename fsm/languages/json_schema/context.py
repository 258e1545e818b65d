"""What the shapes of arrays and objects may ask about the values inside them, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import combinations
from typing import Any, TypeVar

from stemma.fsm.errors import LimitError
from stemma.fsm.languages.json_schema.facts import Alternative
from stemma.fsm.languages.json_schema.goals import Goal, conjoined, negated
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.syntax.ast import Node
from stemma.fsm.work import count_work

MAXIMUM_FREE_FLAGS = 3
MAXIMUM_CHOICES = 256
MAXIMUM_STATES = 20_000
STATE_WORK = 100


class Context:
    """The meaning of goals, as far as shapes and expansions need it: `Meaning` is one."""

    def __init__(self, options: SchemaOptions) -> None:
        self.options = options

    def alternatives(self, goal: Goal) -> tuple[Alternative, ...]:
        raise NotImplementedError

    @property
    def doubts(self) -> int:
        """Has grown since if a no of `possible_goal` may still turn into a yes."""
        raise NotImplementedError

    def possible_goal(self, goal: Goal) -> bool:
        """Whether any value fulfils a goal."""
        raise NotImplementedError

    def may_be_possible(self, goal: Goal) -> bool:
        """False only where surely no value does: for what is remembered."""
        raise NotImplementedError

    def may_hold(self, alternative: Alternative) -> bool:
        """The same of an alternative; raises `Undecided` where that leans on what is being expanded."""
        raise NotImplementedError

    def check(self, value: Any, goal: Goal) -> bool:
        """Whether this value does."""
        raise NotImplementedError

    def finite(self, goal: Goal) -> tuple[Any, ...] | None:
        """All values that fulfil a goal, where they are few."""
        raise NotImplementedError

    def names_language(self, goal: Goal) -> Node:
        """The texts that fulfil a goal, for names."""
        raise NotImplementedError


def subsets(flags: list[int]) -> Iterator[tuple[int, ...]]:
    """Every choice of the flags that one step sets."""
    for size in range(len(flags) + 1):
        yield from combinations(flags, size)


def choices(base: Goal, flags: list[tuple[int, Goal]], context: Context) -> list[tuple[Goal, int]]:
    """The flags that values of a goal can set, as bits, each with the goal that this takes.

    A few flags are free to be set or not. Of many, values that fulfil a flag's goal are told from those that do not, so
    that no more choices are left than there are kinds of values.
    """
    if len(flags) <= MAXIMUM_FREE_FLAGS:
        chosen = ([flags[index] for index in indices] for indices in subsets(list(range(len(flags)))))
        ways = [
            (conjoined((base, *(goal for _, goal in each))), sum({1 << flag for flag, _ in each})) for each in chosen
        ]
        return [(goal, bits) for goal, bits in ways if not bits or context.possible_goal(goal)]
    found = [(base, 0)]
    for flag, goal in flags:
        told_apart: list[tuple[Goal, int]] = []
        for known, bits in found:
            if bits >> flag & 1:
                told_apart.append((known, bits))
                continue
            with_it, without_it = conjoined((known, goal)), conjoined((known, negated(goal)))
            if context.possible_goal(with_it):
                told_apart.append((with_it, bits | 1 << flag))
            if context.possible_goal(without_it):
                told_apart.append((without_it, bits))
        found = told_apart
        if len(found) > MAXIMUM_CHOICES:
            raise LimitError(
                f"a value can fulfil more than {MAXIMUM_CHOICES} combinations of conditions; simplify them"
            )
    return found


S = TypeVar("S", bound=Hashable)


def can_end(
    first: S, ends: Callable[[S], bool], following: Callable[[S], Iterable[S]], known: dict[S, bool], context: Context
) -> bool:
    """Whether an end can be reached from a state; what is found out for sure is kept in `known`."""
    if first in known:
        return known[first]
    doubts = context.doubts
    came_from: dict[S, list[S]] = {first: []}
    todo = [first]
    while todo:
        count_work(STATE_WORK)
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
    if context.doubts == doubts:
        for state in came_from:
            known.setdefault(state, False)
    return known.get(first, False)


def _mark(state: S, came_from: dict[S, list[S]], known: dict[S, bool]) -> None:
    """`state` and all that lead to it can end."""
    todo = [state]
    while todo:
        state = todo.pop()
        if not known.get(state):
            known[state] = True
            todo += came_from.get(state, [])
