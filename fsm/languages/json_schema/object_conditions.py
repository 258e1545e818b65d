"""The conditions on the members of an object ("at least one of ..."), each a flag: which member can set which.

Conditions may be hundreds, as where `oneOf` has as many branches, and so may be the names of which they speak: what is
asked about each name must not go through all conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stemma.fsm.languages.json_schema.goals import Goal
from stemma.fsm.languages.json_schema.member_options import Absent, Matching, MemberOption, Named, Other, SomeMember
from stemma.fsm.languages.json_schema.object_parts import Order


class Conditions:
    """The options of all conditions by the name of which they speak, in order."""

    def __init__(self, some: list[SomeMember]) -> None:
        self._named: dict[str, list[tuple[int, int, Goal]]] = {}  # an option's place among all, its flag and goal
        self._others: list[tuple[int, int, MemberOption]] = []
        place = 0
        for flag, fact in enumerate(some):
            for option in fact.options:
                place += 1
                if isinstance(option, Named):
                    self._named.setdefault(option.name, []).append((place, flag, option.goal))
                elif not isinstance(option, Absent):
                    self._others.append((place, flag, option))

    def flags_of(self, name: str, goal_by: Callable[[MemberOption], Goal | None]) -> list[tuple[int, Goal]]:
        """The flags that a member of this name can set, with the goal that this takes. `goal_by` says it of an option
        that names no member."""
        own = self._named.get(name, [])
        if not self._others:
            return [(flag, goal) for _, flag, goal in own]
        found = list(own)
        for place, flag, option in self._others:
            goal = goal_by(option)
            if goal is not None:
                found.append((place, flag, goal))
        return [(flag, goal) for _, flag, goal in sorted(found, key=lambda each: each[0])]


def bits_of(flags: int) -> Iterator[int]:
    """The places of the bits that are set."""
    while flags:
        lowest = flags & -flags
        yield lowest.bit_length() - 1
        flags ^= lowest


def is_late(fact: SomeMember, order: Order) -> bool:
    """Whether a condition may be fulfilled by what comes after all properties, or by what can never come."""
    for option in fact.options:
        if isinstance(option, Absent):
            if option.name not in order.positions:
                return True
        elif not isinstance(option, Named):
            return True
    return False


def absences(some: list[SomeMember]) -> dict[str, int]:
    """The flags that are set where a name is absent."""
    found: dict[str, int] = {}
    for flag, fact in enumerate(some):
        for option in fact.options:
            if isinstance(option, Absent):
                found[option.name] = found.get(option.name, 0) | 1 << flag
    return found


def flags_of_others(some: list[SomeMember], matched: frozenset[str]) -> list[tuple[int, Goal]]:
    """Which flags a member whose name matches these patterns, and no others, can set, and by which goals."""
    return [
        (flag, option.goal)
        for flag, fact in enumerate(some)
        for option in fact.options
        if (isinstance(option, Matching) and option.source in matched)
        or (isinstance(option, Other) and not matched.intersection(option.sources))
    ]
