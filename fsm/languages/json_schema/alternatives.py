"""Alternatives that are often asked for, made of facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stemma.fsm.languages.json_schema.facts import (
    NOTHING_EVALUATED,
    UNRESTRICTED,
    Alternative,
    Kind,
    Kinds,
    Members,
    ObjectFact,
    Required,
    SomeItem,
)
from stemma.fsm.languages.json_schema.goals import ANYTHING, NEVER, Goal
from stemma.fsm.languages.json_schema.member_options import Absent, MemberOption, Named, SomeMember
from stemma.fsm.languages.json_schema.values import distinct


def forbidden(name: str) -> Members:
    return Members(((name, NEVER),), (), ANYTHING)


def some_item(prefix: tuple[Goal, ...], rest: Goal) -> list[Alternative]:
    if rest == NEVER and all(goal == NEVER for goal in prefix):
        return []
    return [Alternative(Kind.ARRAY, arrays=(SomeItem(prefix, rest),))]


def some_member(options: tuple[MemberOption, ...]) -> list[Alternative]:
    """Objects in which at least one option is the case, said as simply as can be."""
    left = tuple(option for option in options if isinstance(option, Absent) or option.goal != NEVER)
    if not left:
        return []
    if len(left) == 1 and isinstance(left[0], Absent):
        return [Alternative(Kind.OBJECT, objects=(forbidden(left[0].name),))]
    if len(left) == 1 and isinstance(left[0], Named):
        facts = (Required((left[0].name,)), Members(((left[0].name, left[0].goal),), (), ANYTHING))
        return [Alternative(Kind.OBJECT, objects=facts)]
    return [Alternative(Kind.OBJECT, objects=(SomeMember(left),))]


class Conditional:
    """Alternatives of which each says no more than conditions on objects, joined as they come: they may be hundreds."""

    def __init__(self) -> None:
        self.kinds: Kinds = Kind.ALL
        self.conditions: dict[ObjectFact, None] = {}

    def take(self, alternatives: Sequence[Alternative]) -> bool:
        """Whether this is one of them; it is joined then."""
        if len(alternatives) != 1:
            return False
        [one] = alternatives
        is_more = one.numbers or one.texts or one.arrays or one.values is not None
        if is_more or not one.kinds & Kind.OBJECT or one.evaluated is not NOTHING_EVALUATED:
            return False
        if not one.objects or not all(isinstance(fact, SomeMember) for fact in one.objects):
            return False
        self.kinds &= one.kinds
        self.conditions.update(dict.fromkeys(one.objects))
        return True

    def given(self) -> tuple[Alternative, ...]:
        """All that were joined, as one alternative; then it begins anew."""
        if not self.conditions:
            return (UNRESTRICTED,)
        found = Alternative(self.kinds, objects=tuple(self.conditions))
        self.kinds = Kind.ALL
        self.conditions.clear()
        return (found,)


def enumerated(values: list[Any]) -> Alternative | None:
    """Exactly these values."""
    kept = distinct(values)
    kinds = 0
    for value in kept:
        kinds |= kind_of(value)
    return Alternative(kinds, values=kept) if kept else None


def with_values_joined(alternatives: list[Alternative]) -> tuple[Alternative, ...]:
    """The same, all that only list values as one: the constants of an `anyOf` may be thousands."""
    others: list[Alternative] = []
    values: list[Any] = []
    for one in alternatives:
        if (
            one.values is None
            or one.numbers
            or one.texts
            or one.arrays
            or one.objects
            or one.evaluated != NOTHING_EVALUATED
        ):
            others.append(one)
        else:
            values += [value for value in one.values if kind_of(value) & one.kinds]
    whole = enumerated(values)
    return tuple(others) if whole is None else (*others, whole)


def kind_of(value: Any) -> Kinds:
    if isinstance(value, str):
        return Kind.STRING
    if value is None:
        return Kind.NULL
    if isinstance(value, bool):
        return Kind.TRUE if value else Kind.FALSE
    if isinstance(value, int):
        return Kind.INTEGER
    if isinstance(value, float):
        return Kind.INTEGER if value.is_integer() else Kind.FRACTION
    return Kind.ARRAY if isinstance(value, list) else Kind.OBJECT
