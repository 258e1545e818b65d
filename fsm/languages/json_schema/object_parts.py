"""What an object is made of while it is written: how far it has got, members, names that no keyword names."""

from __future__ import annotations

from typing import NamedTuple

from stemma.fsm.languages.json_schema.facts import (
    Goal,
)
from stemma.fsm.syntax.ast import Node


class ObjectState(NamedTuple):
    """`position`: the first property in order that may still come; of the others, `seen` holds those that have."""

    position: int
    seen: frozenset[str]
    size: int
    flags: int


class Settable(NamedTuple):
    """The flags that a member sets: those that any value of it sets, as bits, and those that take a goal."""

    free: int
    paid: tuple[tuple[int, Goal], ...]


NO_FLAGS = Settable(0, ())


class OtherNames(NamedTuple):
    """Names outside the properties that the same patterns match, and the goals of their values."""

    language: Node
    goal: Goal
    settable: Settable


class Member(NamedTuple):
    """One more member: of a name, or of any of the others."""

    name: str | OtherNames
    goal: Goal
    after: ObjectState
