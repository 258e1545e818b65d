"""Fewer alternatives that mean the same: what differs only in a condition on one member, or in the kinds of values.

It keeps products small: ten choices between two required members are ten conditions on one object, not 1,024 objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stemma.fsm.languages.json_schema.facts import (
    NOTHING_EVALUATED,
    Alternative,
    Kind,
    Members,
    Required,
)
from stemma.fsm.languages.json_schema.goals import ANYTHING, NEVER
from stemma.fsm.languages.json_schema.member_options import Absent, MemberOption, Named, SomeMember


def joined(alternatives: Sequence[Alternative]) -> tuple[Alternative, ...]:
    """The same values by fewer alternatives."""
    options: dict[MemberOption, None] = {}
    conditions: list[Alternative] = []
    others: list[Alternative] = []
    for one in alternatives:
        own = _options(one)
        if own is None:
            others.append(one)
        else:
            options |= dict.fromkeys(own)
            conditions.append(one)
    if len(conditions) > 1:
        conditions = [Alternative(Kind.OBJECT, objects=(SomeMember(tuple(options)),))]
    return tuple(_by_kinds((*others, *conditions)))


def _options(alternative: Alternative) -> tuple[MemberOption, ...] | None:
    """An alternative as a condition on some member of an object, if it is no more than that."""
    is_plain = alternative.values is None and alternative.evaluated is NOTHING_EVALUATED
    if alternative.kinds != Kind.OBJECT or not is_plain:
        return None
    first, *more = alternative.objects or (None,)
    if isinstance(first, SomeMember) and not more:
        return first.options
    if isinstance(first, Members) and not more and not first.patterns and first.rest == ANYTHING:
        return (Absent(first.names[0][0]),) if len(first.names) == 1 and first.names[0][1] == NEVER else None
    if isinstance(first, Required) and len(first.names) == 1:
        name = first.names[0]
        if not more:
            return (Named(name, ANYTHING),)
        [second, *rest] = more
        if isinstance(second, Members) and not rest and not second.patterns and second.rest == ANYTHING:
            return (Named(name, second.names[0][1]),) if [known for known, _ in second.names] == [name] else None
    return None


def _by_kinds(alternatives: Iterable[Alternative]) -> list[Alternative]:
    """Alternatives about different kinds of values as one, where each kind can keep its facts."""
    found: list[Alternative] = []
    for one in alternatives:
        place = next((index for index, other in enumerate(found) if _are_apart(one, other)), None)
        if place is None:
            found.append(one)
        else:
            found[place] = _together(found[place], one)
    return found


def _are_apart(left: Alternative, right: Alternative) -> bool:
    if left.kinds & right.kinds or left.values is not None or right.values is not None:
        return False
    if left.evaluated is not NOTHING_EVALUATED or right.evaluated is not NOTHING_EVALUATED:
        return False
    return not (left.kinds & Kind.NUMBER and right.kinds & Kind.NUMBER) or left.numbers == right.numbers


def _together(left: Alternative, right: Alternative) -> Alternative:
    return Alternative(
        left.kinds | right.kinds,
        left.numbers if left.kinds & Kind.NUMBER else right.numbers,
        left.texts if left.kinds & Kind.STRING else right.texts,
        left.arrays if left.kinds & Kind.ARRAY else right.arrays,
        left.objects if left.kinds & Kind.OBJECT else right.objects,
    )
