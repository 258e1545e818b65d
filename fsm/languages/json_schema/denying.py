"""What it takes that a claim does not hold: how each group of keywords can be violated, for `expansion`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

from stemma.fsm.errors import UnsupportedSchema
from stemma.fsm.languages.json_schema import holding, readers, reading
from stemma.fsm.languages.json_schema.alternatives import (
    some_item,
    some_member,
)
from stemma.fsm.languages.json_schema.expansion import Expansion
from stemma.fsm.languages.json_schema.facts import (
    Alternative,
    Contains,
    Kind,
    Required,
    Unique,
)
from stemma.fsm.languages.json_schema.goals import NEVER, Claim, negated
from stemma.fsm.languages.json_schema.member_options import (
    Absent,
    Matching,
    Misnamed,
    Named,
    Other,
)


def negative(expansion: Expansion, claim: Claim) -> tuple[Alternative, ...]:
    """One alternative or more for each keyword that may be violated."""
    schema = claim.place.schema
    assert isinstance(schema, dict), "booleans are goals of their own"
    used = claim.place.groups
    found: list[Iterable[Alternative]] = []
    plain_done = False
    for group in used:
        handler = GROUPS.get(group)
        if handler is None or (handler is not_plain and plain_done):
            continue
        plain_done = plain_done or handler is not_plain
        found.append(handler(expansion, claim, schema))
    if "unevaluated" in used:
        found.append(not_unevaluated(expansion, claim, schema, used))
    return expansion.union(found)


def not_unevaluated(
    expansion: Expansion, claim: Claim, schema: dict[str, Any], used: list[str]
) -> Iterable[Alternative]:
    members, items = reading.unevaluated_goals(expansion, claim, schema)
    for alternative in holding.body(expansion, claim.positively(), schema, used, exact=True):
        seen = alternative.evaluated
        alternative = alternative.with_nothing_evaluated()
        if members is not None and not seen.all_members:
            options = (Other(seen.names, seen.patterns, negated(members)),)
            yield from expansion.conjunction([alternative], some_member(options))
        if items is not None and not seen.all_items:
            goal = (*(claim for contained in seen.contained for claim in negated(contained)), *negated(items))
            yield from expansion.conjunction([alternative], some_item((NEVER,) * seen.prefix, goal))


def not_plain(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    return readers.violations(claim.place, schema, expansion.options)


def not_type(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    kinds = Kind.ALL & ~readers.kinds(claim.place, schema)
    return [Alternative(kinds)] if kinds else []


def not_values(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    for values in readers.value_lists(claim.place, schema):
        scalars, compound = readers.unequal(values)
        unlike = [expansion.alternatives(negated(expansion.equal_to(value))) for value in compound]
        yield from expansion.every([[scalars], *unlike])


def not_unique(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    """Two items alike, and all else as it should be (what is not is other alternatives): so items have few values."""
    if not readers.unique(claim.place, schema):
        return
    different = readers.different(claim.place)
    alike = Unique(different.pointer, False)
    for alternative in expansion.expand(claim.positively(), exact=False):
        if different in alternative.arrays and alternative.kinds & Kind.ARRAY:
            yield alternative.with_arrays(tuple(alike if fact == different else fact for fact in alternative.arrays))


def not_reference(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    return expansion.union(expansion.alternatives(negated(goal)) for goal in reading.referred(expansion, claim, schema))


def not_items(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    fact, _ = reading.item_goals(expansion, claim, schema)
    return some_item(tuple(map(negated, fact.prefix)), negated(fact.rest))


def not_contains(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    fact = reading.contained(expansion, claim, schema)
    if fact.minimum > 0:
        yield Alternative(Kind.ARRAY, arrays=(Contains(fact.goal, 0, fact.minimum - 1),))
    if fact.maximum is not None:
        yield Alternative(Kind.ARRAY, arrays=(Contains(fact.goal, fact.maximum + 1, None),))


def not_members(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    fact = reading.member_goals(expansion, claim, schema)
    names, sources = frozenset(name for name, _ in fact.names), tuple(source for source, _ in fact.patterns)
    return some_member(
        (
            *(Named(name, negated(goal)) for name, goal in fact.names),
            *(Matching(source, negated(goal)) for source, goal in fact.patterns),
            Other(names, sources, negated(fact.rest)),
        )
    )


def not_names(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    return some_member((Misnamed(negated(expansion.inside(claim, schema["propertyNames"], "propertyNames"))),))


def not_content(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    raise UnsupportedSchema("that a text is no such JSON cannot be asked for", claim.place.pointer)


def not_dependencies(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    for name, needed in reading.depending(expansion, claim, schema):
        present = [Alternative(Kind.OBJECT, objects=(Required((name,)),))]
        if isinstance(needed, list):
            yield from expansion.conjunction(
                present, some_member(tuple(Absent(other) for other in needed if other != name))
            )
        else:
            yield from expansion.conjunction(present, expansion.alternatives(negated(needed)))


def not_all_of(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    return expansion.union(
        expansion.alternatives(negated(goal)) for goal in reading.branches(expansion, claim, schema, "allOf")
    )


def not_any_of(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    return expansion.every(
        expansion.alternatives(negated(goal)) for goal in reading.branches(expansion, claim, schema, "anyOf")
    )


def not_one_of(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    goals = reading.branches(expansion, claim, schema, "oneOf")
    yield from expansion.every(expansion.alternatives(negated(goal)) for goal in goals)
    for left, right in combinations(goals, 2):
        yield from expansion.alternatives((*left, *right))


def not_negation(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    return expansion.alternatives(expansion.inside(claim, schema["not"], "not"))


def not_condition(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
    test, then, otherwise = reading.condition_goals(expansion, claim, schema)
    return expansion.union(
        [expansion.alternatives((*test, *negated(then))), expansion.alternatives((*negated(test), *negated(otherwise)))]
    )


GROUPS: dict[str, Callable[[Expansion, Claim, dict[str, Any]], Iterable[Alternative]]] = {
    "reference": not_reference,
    "dynamic": not_reference,
    "type": not_type,
    "values": not_values,
    "bounds": not_plain,
    "multiple": not_plain,
    "text_length": not_plain,
    "pattern": not_plain,
    "format": not_plain,
    "array_length": not_plain,
    "unique": not_unique,
    "object_length": not_plain,
    "required": not_plain,
    "items": not_items,
    "contains": not_contains,
    "members": not_members,
    "content": not_content,
    "names": not_names,
    "dependencies": not_dependencies,
    "all_of": not_all_of,
    "any_of": not_any_of,
    "one_of": not_one_of,
    "negation": not_negation,
    "condition": not_condition,
}
