"""What it takes that a claim holds: the alternatives of each group of keywords, for `expansion`.

An `exact` alternative also says what it has evaluated, and never overlaps with another in that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stemma.fsm.languages.json_schema import readers, reading
from stemma.fsm.languages.json_schema.alternatives import (
    enumerated,
    forbidden,
)
from stemma.fsm.languages.json_schema.branches import sharing
from stemma.fsm.languages.json_schema.expansion import MAXIMUM_FREE_BRANCHES, Expansion
from stemma.fsm.languages.json_schema.facts import (
    NOTHING_EVALUATED,
    UNRESTRICTED,
    Alternative,
    ArrayFact,
    Content,
    Evaluated,
    Items,
    Kind,
    Members,
    Names,
    NumberFact,
    ObjectFact,
    Required,
    TextFact,
)
from stemma.fsm.languages.json_schema.goals import (
    ANYTHING,
    AnyOf,
    Claim,
    negated,
)
from stemma.fsm.languages.json_schema.joining import joined
from stemma.fsm.languages.json_schema.member_options import Absent, Named, SomeMember


def positive(expansion: Expansion, claim: Claim, exact: bool) -> tuple[Alternative, ...]:
    schema = claim.place.schema
    assert isinstance(schema, dict), "booleans are goals of their own"
    used = claim.place.groups
    if not exact and SINGLE.issuperset(used):
        return single(expansion, claim, schema, used)
    unevaluated = "unevaluated" in used
    found = body(expansion, claim, schema, used, exact or unevaluated)
    if not unevaluated:
        return found
    found = conjunction_each(found, lambda alternative: leftover(expansion, claim, schema, alternative))
    return found if exact else tuple(one.with_nothing_evaluated() for one in found)


def single(expansion: Expansion, claim: Claim, schema: dict[str, Any], used: list[str]) -> tuple[Alternative, ...]:
    """What groups that take one alternative each make together, as `body` does, at once: most schemas are such."""
    place = claim.place
    kinds = readers.kinds(place, schema) if "type" in schema else Kind.ALL
    if not kinds:
        return ()
    numbers: tuple[NumberFact, ...] = ()
    texts: tuple[TextFact, ...] = ()
    arrays: list[ArrayFact] = []
    objects: list[ObjectFact] = []
    plain_done = False
    for group in used:
        if group == "members":
            objects.append(reading.member_goals(expansion, claim, schema))
        elif group == "items":
            arrays.append(reading.item_goals(expansion, claim, schema)[0])
        elif group != "type" and not plain_done:
            plain_done = True
            facts = readers.plain_facts(place, schema, expansion.options)
            numbers, texts = facts.numbers, facts.texts
            arrays += facts.arrays
            objects += facts.objects
    return (Alternative(kinds, numbers, texts, tuple(arrays), tuple(objects)),)


def body(
    expansion: Expansion, claim: Claim, schema: dict[str, Any], used: list[str], exact: bool
) -> tuple[Alternative, ...]:
    """All keywords but the unevaluated ones."""
    found: tuple[Alternative, ...] = (UNRESTRICTED,)
    plain_done = False
    for group in used:
        handler = GROUPS.get(group)
        if handler is None or (handler is plain and plain_done):
            continue
        plain_done = plain_done or handler is plain
        found = expansion.conjunction(found, handler(expansion, claim, schema, exact))
    return found


def conjunction_each(
    alternatives: Sequence[Alternative], more: Callable[[Alternative], Alternative]
) -> tuple[Alternative, ...]:
    merged = (alternative.merged(more(alternative)) for alternative in alternatives)
    return tuple(alternative for alternative in merged if alternative is not None)


def leftover(expansion: Expansion, claim: Claim, schema: dict[str, Any], alternative: Alternative) -> Alternative:
    """What `unevaluatedProperties` and `unevaluatedItems` ask of what an alternative has not looked at."""
    seen = alternative.evaluated
    members, items = reading.unevaluated_goals(expansion, claim, schema)
    objects: tuple[Members, ...] = ()
    arrays: tuple[Items, ...] = ()
    if members is not None and not seen.all_members:
        names, patterns = (
            tuple((name, ANYTHING) for name in sorted(seen.names)),
            tuple((p, ANYTHING) for p in seen.patterns),
        )
        objects = (Members(names, patterns, members),)
    if items is not None and not seen.all_items:
        rest = (AnyOf((*seen.contained, items)),) if seen.contained else items
        arrays = (Items((ANYTHING,) * seen.prefix, rest),)
    done = Evaluated(all_members=members is not None, all_items=items is not None)
    return Alternative(objects=objects, arrays=arrays, evaluated=done)


def plain(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    return [readers.plain_facts(claim.place, schema, expansion.options)]


def types(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    return [Alternative(readers.kinds(claim.place, schema))]


def values(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    found: Alternative | None = UNRESTRICTED
    for values in readers.value_lists(claim.place, schema):
        own = enumerated(values)
        found = found.merged(own) if found is not None and own is not None else None
    return [] if found is None else [found]


def reference(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    found: tuple[Alternative, ...] = (UNRESTRICTED,)
    for goal in reading.referred(expansion, claim, schema):
        found = expansion.conjunction(found, expansion.exact(goal, exact))
    return found


def items(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    fact, covers_all = reading.item_goals(expansion, claim, schema)
    return [
        Alternative(
            arrays=(fact,),
            evaluated=Evaluated(prefix=len(fact.prefix), all_items=covers_all) if exact else NOTHING_EVALUATED,
        )
    ]


def contains(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    fact = reading.contained(expansion, claim, schema)
    seen = Evaluated(contained=(fact.goal,)) if exact and claim.place.draft >= 2020 else NOTHING_EVALUATED
    return [Alternative(arrays=(fact,), evaluated=seen)]


def members(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    fact = reading.member_goals(expansion, claim, schema)
    seen = NOTHING_EVALUATED
    if exact:
        patterns = tuple(source for source, _ in fact.patterns)
        seen = Evaluated(frozenset(name for name, _ in fact.names), patterns, "additionalProperties" in schema)
    return [Alternative(objects=(fact,), evaluated=seen)]


def names(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    return [Alternative(objects=(Names(expansion.inside(claim, schema["propertyNames"], "propertyNames")),))]


def content(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    return [Alternative(texts=(Content(expansion.inside(claim, schema["x-stemma-content"], "x-stemma-content")),))]


def dependencies(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    found: tuple[Alternative, ...] = (UNRESTRICTED,)
    for name, needed in reading.depending(expansion, claim, schema):
        if isinstance(needed, list):
            facts = tuple(SomeMember((Absent(name), Named(other, ANYTHING))) for other in needed if other != name)
            found = expansion.conjunction(found, [Alternative(objects=facts)])
        else:
            present = expansion.conjunction(
                [Alternative(Kind.OBJECT, objects=(Required((name,)),))], expansion.exact(needed, exact)
            )
            found = expansion.conjunction(found, [Alternative(objects=(forbidden(name),)), *present])
    return found


def all_of(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    found: tuple[Alternative, ...] = (UNRESTRICTED,)
    for goal in reading.branches(expansion, claim, schema, "allOf"):
        found = expansion.conjunction(found, expansion.exact(goal, exact))
    return found


def any_of(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    goals = reading.branches(expansion, claim, schema, "anyOf")
    if not exact:
        return expansion.union(expansion.alternatives(goal) for goal in goals)
    some: tuple[Alternative, ...] = ()  # at least one branch so far holds
    none: tuple[Alternative, ...] = (UNRESTRICTED,)
    for goal in goals:
        holds, fails = expansion.exact(goal, True), expansion.alternatives(negated(goal))
        some = expansion.union(
            (expansion.conjunction(some, holds), expansion.conjunction(some, fails), expansion.conjunction(none, holds))
        )
        some = tuple(filter(expansion.may_be_possible, some)) if len(goals) > MAXIMUM_FREE_BRANCHES else some
        none = expansion.conjunction(none, fails)
    return some


def one_of(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    """Each branch, and none of the others that it can overlap with, given what stands beside `oneOf`."""
    goals = reading.branches(expansion, claim, schema, "oneOf")
    beside = expansion.every([types(expansion, claim, schema, False)] if "type" in schema else [])
    beside = expansion.conjunction(beside, plain(expansion, claim, schema, False))
    given = [expansion.conjunction(beside, expansion.alternatives(goal)) for goal in goals]
    overlaps: dict[int, list[int]] = {index: [] for index in range(len(goals))}
    for left, right in sharing(given, list(map(expansion.looks.marks, given))):
        if any(map(expansion.may_be_possible, expansion.conjunction(given[left], given[right]))):
            overlaps[left].append(right)
            overlaps[right].append(left)
    return expansion.union(
        expansion.every(
            [
                expansion.exact(goal, exact),
                *(joined(expansion.alternatives(negated(goals[other]))) for other in overlaps[index]),
            ]
        )
        for index, goal in enumerate(goals)
    )


def negation(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    return expansion.alternatives(negated(expansion.inside(claim, schema["not"], "not")))


def condition(expansion: Expansion, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
    test, then, otherwise = reading.condition_goals(expansion, claim, schema)
    if then == otherwise == ANYTHING and not exact:
        return [UNRESTRICTED]
    holds = expansion.every([expansion.exact(test, exact), expansion.exact(then, exact)])
    fails = expansion.every([expansion.alternatives(negated(test)), expansion.exact(otherwise, exact)])
    return expansion.union([holds, fails])


SINGLE = frozenset(
    ("type", "bounds", "multiple", "text_length", "pattern", "format", "array_length", "unique", "object_length",
     "required", "items", "members")
)  # fmt: skip
GROUPS: dict[str, Callable[[Expansion, Claim, dict[str, Any], bool], Sequence[Alternative]]] = {
    "reference": reference,
    "dynamic": reference,
    "type": types,
    "values": values,
    "bounds": plain,
    "multiple": plain,
    "text_length": plain,
    "pattern": plain,
    "format": plain,
    "array_length": plain,
    "unique": plain,
    "object_length": plain,
    "required": plain,
    "items": items,
    "contains": contains,
    "members": members,
    "content": content,
    "names": names,
    "dependencies": dependencies,
    "all_of": all_of,
    "any_of": any_of,
    "one_of": one_of,
    "negation": negation,
    "condition": condition,
}
