"""What an object is made of while it is written: how far it has got, members, names that no keyword names."""

from __future__ import annotations

from typing import Final

from stemma.fsm.languages.json_schema.facts import Members
from stemma.fsm.languages.json_schema.goals import Goal
from stemma.fsm.languages.json_schema.member_options import Absent, MemberOption, Named, Other
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.value import Value


class ObjectState(Value):
    """`position`: the first property in order that may still come; of the others, `seen` holds those that have."""

    __slots__ = ("flags", "position", "seen", "size")

    def __init__(self, position: int, seen: frozenset[str], size: int, flags: int) -> None:
        self.position: Final = position
        self.seen: Final = seen
        self.size: Final = size
        self.flags: Final = flags

    def contents(self) -> tuple[object, ...]:
        return (self.position, self.seen, self.size, self.flags)

    def with_flags(self, flags: int) -> ObjectState:
        return ObjectState(self.position, self.seen, self.size, flags)


class Order:
    """The properties that may be named, in the order in which they come, and what each fulfils. `num_ordered`: how many
    of them come in order, for they are declared; the rest come in any."""

    def __init__(self, names: list[str], goals: list[Goal], num_ordered: int, required: dict[str, None]) -> None:
        self.names: Final = names
        self.goals: Final = dict(zip(names, goals, strict=True))
        self.num_ordered: Final = num_ordered
        self.positions: Final = {name: index for index, name in enumerate(names)}
        self.last_required = -1  # of those in order
        self.required_late: Final[list[str]] = []  # of the rest
        for name in required:
            position = self.positions[name]
            if position >= num_ordered:
                self.required_late.append(name)
            elif position > self.last_required:
                self.last_required = position


class Settable:
    """The flags that a member sets: those that any value of it sets, as bits, and those that take a goal."""

    __slots__ = ("free", "paid")

    def __init__(self, free: int, paid: tuple[tuple[int, Goal], ...]) -> None:
        self.free: Final = free
        self.paid: Final = paid


NO_FLAGS = Settable(0, ())


class OtherNames:
    """Names outside the properties that the same patterns match, and the goals of their values."""

    __slots__ = ("goal", "language", "settable")

    def __init__(self, language: Node, goal: Goal, settable: Settable) -> None:
        self.language: Final = language
        self.goal: Final = goal
        self.settable: Final = settable


class Member:
    """One more member: of a name, or of any of the others."""

    __slots__ = ("after", "goal", "name")

    def __init__(self, name: str | OtherNames, goal: Goal, after: ObjectState) -> None:
        self.name: Final = name
        self.goal: Final = goal
        self.after: Final = after


def all_names(members: list[Members], required: dict[str, None], options: list[MemberOption]) -> dict[str, None]:
    """Every name that any fact treats apart, the declared ones first."""
    names = {name: None for fact in members for name, _ in fact.names} | required
    for option in options:
        if isinstance(option, (Absent, Named)):
            names.setdefault(option.name)
        elif isinstance(option, Other):
            names |= dict.fromkeys(sorted(option.names.difference(names)))
    return names
