"""Turns goals into alternatives: `allOf`, `anyOf`, `oneOf`, `not`, `if` and references are all resolved here.

A goal's alternatives are its disjunctive normal form. Nothing is loosened: an exclusive `oneOf` becomes "this one and
none of those that overlap with it", and what would need too many alternatives is a `LimitError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Protocol

from stemma.fsm.errors import LimitError, SchemaError, UnsupportedSchema
from stemma.fsm.languages.json_schema import readers
from stemma.fsm.languages.json_schema.branches import Looks, sharing
from stemma.fsm.languages.json_schema.document import LATEST, Document, Place
from stemma.fsm.languages.json_schema.facts import (
    ANYTHING,
    NEVER,
    NOTHING_EVALUATED,
    UNRESTRICTED,
    Absent,
    Alternative,
    AnyOf,
    Claim,
    Contains,
    Content,
    Evaluated,
    Goal,
    Items,
    Kind,
    Matching,
    Members,
    Misnamed,
    Named,
    Names,
    Other,
    Required,
    SomeMember,
    enumerated,
    forbidden,
    negated,
    some_item,
    some_member,
    with_values_joined,
)
from stemma.fsm.languages.json_schema.joining import joined
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.languages.json_schema.possibility import Undecided
from stemma.fsm.work import count_work

MAXIMUM_ALTERNATIVES = 1_000
MAXIMUM_FREE_BRANCHES = 4  # of more, what cannot be is left out at once
MAXIMUM_QUESTIONS = 8  # within each other: more is guessed to be possible, which is exact, but not simple
MAXIMUM_CHAIN = 200
MERGE_WORK = 5


class Judge(Protocol):
    """What is asked about alternatives while goals are expanded."""

    def may_hold(self, alternative: Alternative) -> bool:
        """False where surely no value is left."""
        ...


class Expansion:
    """The alternatives of every goal of one document, memoised."""

    def __init__(self, document: Document, options: SchemaOptions, meaning: Judge) -> None:
        self.document = document
        self.options = options
        self.may_hold = meaning.may_hold
        self.looks = Looks(document)
        self.known: dict[Goal, tuple[Alternative, ...]] = {}
        self.expanded: dict[tuple[Claim, bool], tuple[Alternative, ...]] = {}
        self.active: dict[tuple[Claim, bool], int] = {}
        self.asked_at: list[int] = [0]  # how many claims were active when something was asked about alternatives
        self.positive_groups: dict[str, Callable[[Claim, dict[str, Any], bool], Sequence[Alternative]]] = {
            "reference": self.reference, "dynamic": self.reference, "type": self.type, "values": self.values,
            "bounds": self.plain, "multiple": self.plain, "text_length": self.plain, "pattern": self.plain,
            "format": self.plain, "array_length": self.plain, "unique": self.plain, "object_length": self.plain,
            "required": self.plain, "items": self.items, "contains": self.contains, "members": self.members,
            "content": self.content,
            "names": self.names, "dependencies": self.dependencies, "all_of": self.all_of, "any_of": self.any_of,
            "one_of": self.one_of, "negation": self.negation, "condition": self.condition,
        }  # fmt: skip
        self.negative_groups: dict[str, Callable[[Claim, dict[str, Any]], Iterable[Alternative]]] = {
            "reference": self.not_reference, "dynamic": self.not_reference, "type": self.not_type,
            "values": self.not_values, "bounds": self.not_plain, "multiple": self.not_plain,
            "text_length": self.not_plain,
            "pattern": self.not_plain, "format": self.not_plain, "array_length": self.not_plain,
            "unique": self.not_plain, "object_length": self.not_plain, "required": self.not_plain,
            "items": self.not_items, "contains": self.not_contains, "members": self.not_members,
            "content": self.not_content,
            "names": self.not_names, "dependencies": self.not_dependencies, "all_of": self.not_all_of,
            "any_of": self.not_any_of, "one_of": self.not_one_of, "negation": self.not_negation,
            "condition": self.not_condition,
        }  # fmt: skip

    # Goals -------------------------------------------------------------------------------------------------------

    def root(self) -> Goal:
        return self.goal(self.document.root, ())

    def goal(self, place: Place, scope: tuple[str, ...]) -> Goal:
        """That a place's schema holds."""
        schema = place.schema
        if isinstance(schema, bool):
            return ANYTHING if schema else NEVER
        if not place.groups:
            return ANYTHING
        if self.document.dynamic and place.base not in scope:
            scope = (*scope, place.base)
        return (Claim(place, scope, True),)

    def followed(self, goal: Goal) -> Goal:
        """What a goal that is a reference, and nothing else, refers to: so all that refer to it are the same."""
        for _ in range(MAXIMUM_CHAIN):
            claim = goal[0] if len(goal) == 1 else None
            if not isinstance(claim, Claim) or not claim.positive or claim.place.groups != ["reference"]:
                break
            assert isinstance(claim.place.schema, dict), "only an object holds a reference"
            [goal] = self.referred(claim, claim.place.schema)
        return goal

    def inside(self, claim: Claim, schema: Any, *path: str) -> Goal:
        """That a schema inside the claim's place holds."""
        return self.goal(self.document.child(claim.place, schema, *path), claim.scope)

    def alternatives(self, goal: Goal) -> tuple[Alternative, ...]:
        """The disjunctive normal form of a goal; empty where nothing fulfils it."""
        found = self.known.get(goal)
        if found is None:
            found = (UNRESTRICTED,)
            for claim in goal:
                found = self.conjunction(found, self.expand(claim, exact=False))
            self.known[goal] = found
        return found

    def expand(self, claim: Claim | AnyOf, exact: bool) -> tuple[Alternative, ...]:
        """The alternatives of one claim; `exact` ones also say what they have evaluated, and never overlap in that."""
        if isinstance(claim, AnyOf):
            return self.union(self.alternatives(goal) for goal in claim.goals)
        key = (claim, exact)
        found = self.expanded.get(key)
        if found is not None:
            return found
        if key in self.active:
            if self.active[key] < self.asked_at[-1]:
                raise Undecided
            raise SchemaError("a reference that leads back to itself without reading anything", claim.place.pointer)
        if len(self.active) - self.asked_at[-1] > MAXIMUM_CHAIN:
            raise LimitError(
                f"a chain of more than {MAXIMUM_CHAIN} schemas about one value at {claim.place.pointer or '/'}"
            )
        self.active[key] = len(self.active)
        try:
            found = self.positive(claim, exact) if claim.positive else self.negative(claim)
        finally:
            del self.active[key]
        self.expanded[key] = found
        return found

    def exact(self, goal: Goal, exact: bool) -> tuple[Alternative, ...]:
        found: tuple[Alternative, ...] = (UNRESTRICTED,)
        for claim in goal:
            found = self.conjunction(found, self.expand(claim, exact))
        return found

    def conjunction(self, left: Sequence[Alternative], right: Sequence[Alternative]) -> tuple[Alternative, ...]:
        """Each of the left with each of the right, where that leaves any value."""
        if len(left) == 1 and left[0] is UNRESTRICTED:
            return tuple(right)
        if len(right) == 1 and right[0] is UNRESTRICTED:
            return tuple(left)
        if len(left) == len(right) == 1:
            both = left[0].merged(right[0])
            return () if both is None else (both,)
        if len(left) > 1 and len(right) > 1:
            left, right = joined(left), joined(right)
        count_work(MERGE_WORK * len(left) * len(right))
        merged = (one.merged(other) for one in left for other in right)
        return self.bounded(tuple(alternative for alternative in merged if alternative is not None))

    def union(self, parts: Iterable[Iterable[Alternative]]) -> tuple[Alternative, ...]:
        whole: list[Alternative] = []
        for part in parts:
            whole += part
            if len(whole) > 50 * MAXIMUM_ALTERNATIVES:
                break
        return self.bounded(with_values_joined(whole) if len(whole) > 32 else tuple(whole))

    def bounded(self, alternatives: tuple[Alternative, ...]) -> tuple[Alternative, ...]:
        if len(alternatives) > 32:
            alternatives = tuple(filter(self.may_be_possible, alternatives))
        if len(alternatives) > MAXIMUM_ALTERNATIVES:
            where = next(reversed(self.active))[0].place.pointer if self.active else ""
            raise LimitError(f"{where or '/'}: more than {MAXIMUM_ALTERNATIVES} alternatives; split the schema")
        return alternatives

    def may_be_possible(self, alternative: Alternative) -> bool:
        """False where surely no value is left. What leans on a claim that is being expanded is not known, and may be:
        dropping nothing for it, and excluding what need not be, is exact whatever turns out."""
        if len(self.asked_at) > MAXIMUM_QUESTIONS:
            return True
        self.asked_at.append(len(self.active))
        try:
            return self.may_hold(alternative)
        except Undecided:
            return True
        finally:
            self.asked_at.pop()

    # What holds --------------------------------------------------------------------------------------------------

    def positive(self, claim: Claim, exact: bool) -> tuple[Alternative, ...]:
        schema = claim.place.schema
        assert isinstance(schema, dict), "booleans are goals of their own"
        used = claim.place.groups
        unevaluated = "unevaluated" in used
        found = self.body(claim, schema, used, exact or unevaluated)
        if not unevaluated:
            return found
        found = self.conjunction_each(found, lambda alternative: self.leftover(claim, schema, alternative))
        return found if exact else tuple(replace(one, evaluated=NOTHING_EVALUATED) for one in found)

    def body(self, claim: Claim, schema: dict[str, Any], used: list[str], exact: bool) -> tuple[Alternative, ...]:
        """All keywords but the unevaluated ones."""
        found: tuple[Alternative, ...] = (UNRESTRICTED,)
        plain_done = False
        for group in used:
            handler = self.positive_groups.get(group)
            if handler is None or (handler == self.plain and plain_done):
                continue
            plain_done = plain_done or handler == self.plain
            found = self.conjunction(found, handler(claim, schema, exact))
        return found

    def conjunction_each(
        self, alternatives: Sequence[Alternative], more: Callable[[Alternative], Alternative]
    ) -> tuple[Alternative, ...]:
        merged = (alternative.merged(more(alternative)) for alternative in alternatives)
        return tuple(alternative for alternative in merged if alternative is not None)

    def leftover(self, claim: Claim, schema: dict[str, Any], alternative: Alternative) -> Alternative:
        """What `unevaluatedProperties` and `unevaluatedItems` ask of what an alternative has not looked at."""
        seen = alternative.evaluated
        members, items = self.unevaluated_goals(claim, schema)
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

    def unevaluated_goals(self, claim: Claim, schema: dict[str, Any]) -> tuple[Goal | None, Goal | None]:
        goals = [self.inside(claim, schema[keyword], keyword) if keyword in schema else None
                 for keyword in ("unevaluatedProperties", "unevaluatedItems")]  # fmt: skip
        return goals[0], goals[1]

    def plain(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        return [readers.plain_facts(claim.place, schema, self.options)]

    def type(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        return [Alternative(readers.kinds(claim.place, schema))]

    def values(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        found: Alternative | None = UNRESTRICTED
        for values in readers.value_lists(claim.place, schema):
            own = enumerated(values)
            found = found.merged(own) if found is not None and own is not None else None
        return [] if found is None else [found]

    def reference(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        found: tuple[Alternative, ...] = (UNRESTRICTED,)
        for goal in self.referred(claim, schema):
            found = self.conjunction(found, self.exact(goal, exact))
        return found

    def referred(self, claim: Claim, schema: dict[str, Any]) -> list[Goal]:
        """The goals of `$ref` and the dynamic references."""
        goals = []
        if "$ref" in schema:
            goals.append(self.goal(self.document.resolve(claim.place, schema["$ref"]), claim.scope))
        if claim.place.draft >= 2019:
            keyword = "$dynamicRef" if claim.place.draft >= 2020 else "$recursiveRef"
            if keyword in schema:
                target = self.document.resolve_dynamically(claim.place, keyword, claim.scope)
                goals.append(self.goal(target, claim.scope))
        return goals

    def items(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        fact, covers_all = self.item_goals(claim, schema)
        return [Alternative(arrays=(fact,), evaluated=Evaluated(prefix=len(fact.prefix), all_items=covers_all)
                            if exact else NOTHING_EVALUATED)]  # fmt: skip

    def item_goals(self, claim: Claim, schema: dict[str, Any]) -> tuple[Items, bool]:
        """The goals of `prefixItems` and `items`, in the old or the new form, and whether they speak of every item."""
        prefix, rest = schema.get("prefixItems") if claim.place.draft >= 2020 else None, "items"
        where = "prefixItems"
        if prefix is None and isinstance(schema.get("items"), list):
            prefix, rest, where = schema["items"], "additionalItems", "items"
        if prefix is not None and not isinstance(prefix, list):
            raise SchemaError("must be a list of schemas", f"{claim.place.pointer}/{where}")
        goals = tuple(self.inside(claim, item, where, str(index)) for index, item in enumerate(prefix or []))
        goal = self.inside(claim, schema[rest], rest) if rest in schema else ANYTHING
        return Items(goals, goal), rest in schema

    def contains(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        fact = self.contained(claim, schema)
        seen = Evaluated(contained=(fact.goal,)) if exact and claim.place.draft >= 2020 else NOTHING_EVALUATED
        return [Alternative(arrays=(fact,), evaluated=seen)]

    def contained(self, claim: Claim, schema: dict[str, Any]) -> Contains:
        goal = self.inside(claim, schema["contains"], "contains")
        counted = claim.place.draft >= 2019
        minimum = readers.count(claim.place, schema, "minContains") if counted else None
        maximum = readers.count(claim.place, schema, "maxContains") if counted else None
        return Contains(goal, 1 if minimum is None else minimum, maximum)

    def members(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        fact = self.member_goals(claim, schema)
        seen = NOTHING_EVALUATED
        if exact:
            patterns = tuple(source for source, _ in fact.patterns)
            seen = Evaluated(frozenset(name for name, _ in fact.names), patterns, "additionalProperties" in schema)
        return [Alternative(objects=(fact,), evaluated=seen)]

    def member_goals(self, claim: Claim, schema: dict[str, Any]) -> Members:
        named = readers.mapping(claim.place, schema, "properties")
        matched = readers.mapping(claim.place, schema, "patternProperties")
        for source in matched:
            readers.checked_pattern(source, f"{claim.place.pointer}/patternProperties")
        rest = schema.get("additionalProperties", True)
        return Members(
            tuple((name, self.inside(claim, inner, "properties", name)) for name, inner in named.items()),
            tuple(
                (source, self.inside(claim, inner, "patternProperties", source)) for source, inner in matched.items()
            ),
            self.inside(claim, rest, "additionalProperties"),
        )

    def names(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        return [Alternative(objects=(Names(self.inside(claim, schema["propertyNames"], "propertyNames")),))]

    def content(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        return [Alternative(texts=(Content(self.inside(claim, schema["x-stemma-content"], "x-stemma-content")),))]

    def dependencies(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        found: tuple[Alternative, ...] = (UNRESTRICTED,)
        for name, needed in self.depending(claim, schema):
            if isinstance(needed, list):
                facts = tuple(SomeMember((Absent(name), Named(other, ANYTHING))) for other in needed if other != name)
                found = self.conjunction(found, [Alternative(objects=facts)])
            else:
                present = self.conjunction(
                    [Alternative(Kind.OBJECT, objects=(Required((name,)),))], self.exact(needed, exact)
                )
                found = self.conjunction(found, [Alternative(objects=(forbidden(name),)), *present])
        return found

    def depending(self, claim: Claim, schema: dict[str, Any]) -> list[tuple[str, list[str] | Goal]]:
        """What each name brings with it: other names, or a goal for the whole object."""
        found: list[tuple[str, list[str] | Goal]] = []
        for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
            if keyword != "dependencies" and claim.place.draft < 2019:
                continue
            for name, needed in readers.mapping(claim.place, schema, keyword).items():
                if isinstance(needed, str):
                    needed = [needed]
                if isinstance(needed, list):
                    found.append((name, readers.strings(needed, f"{claim.place.pointer}/{keyword}")))
                else:
                    found.append((name, self.inside(claim, needed, keyword, name)))
        return found

    def branches(self, claim: Claim, schema: dict[str, Any], keyword: str) -> list[Goal]:
        inner = schema[keyword]
        if not isinstance(inner, list) or not inner:
            raise SchemaError("must be a non-empty list of schemas", f"{claim.place.pointer}/{keyword}")
        return [self.inside(claim, branch, keyword, str(index)) for index, branch in enumerate(inner)]

    def all_of(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        found: tuple[Alternative, ...] = (UNRESTRICTED,)
        for goal in self.branches(claim, schema, "allOf"):
            found = self.conjunction(found, self.exact(goal, exact))
        return found

    def any_of(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        goals = self.branches(claim, schema, "anyOf")
        if not exact:
            return self.union(self.alternatives(goal) for goal in goals)
        some: tuple[Alternative, ...] = ()  # at least one branch so far holds
        none: tuple[Alternative, ...] = (UNRESTRICTED,)
        for goal in goals:
            holds, fails = self.exact(goal, True), self.alternatives(negated(goal))
            some = self.union(
                (self.conjunction(some, holds), self.conjunction(some, fails), self.conjunction(none, holds))
            )
            some = tuple(filter(self.may_be_possible, some)) if len(goals) > MAXIMUM_FREE_BRANCHES else some
            none = self.conjunction(none, fails)
        return some

    def every(self, parts: Iterable[Sequence[Alternative]]) -> tuple[Alternative, ...]:
        found: tuple[Alternative, ...] = (UNRESTRICTED,)
        for part in parts:
            found = self.conjunction(found, part)
        return found

    def one_of(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        """Each branch, and none of the others that it can overlap with, given what stands beside `oneOf`."""
        goals = self.branches(claim, schema, "oneOf")
        beside = self.every([self.type(claim, schema, False)] if "type" in schema else [])
        beside = self.conjunction(beside, self.plain(claim, schema, False))
        given = [self.conjunction(beside, self.alternatives(goal)) for goal in goals]
        overlaps: dict[int, list[int]] = {index: [] for index in range(len(goals))}
        for left, right in sharing(given, list(map(self.looks.marks, given))):
            if any(map(self.may_be_possible, self.conjunction(given[left], given[right]))):
                overlaps[left].append(right)
                overlaps[right].append(left)
        return self.union(
            self.every(
                [
                    self.exact(goal, exact),
                    *(joined(self.alternatives(negated(goals[other]))) for other in overlaps[index]),
                ]
            )
            for index, goal in enumerate(goals)
        )

    def negation(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        return self.alternatives(negated(self.inside(claim, schema["not"], "not")))

    def condition(self, claim: Claim, schema: dict[str, Any], exact: bool) -> Sequence[Alternative]:
        test, then, otherwise = self.condition_goals(claim, schema)
        if then == otherwise == ANYTHING and not exact:
            return [UNRESTRICTED]
        holds = self.every([self.exact(test, exact), self.exact(then, exact)])
        fails = self.every([self.alternatives(negated(test)), self.exact(otherwise, exact)])
        return self.union([holds, fails])

    def condition_goals(self, claim: Claim, schema: dict[str, Any]) -> tuple[Goal, Goal, Goal]:
        test, then, otherwise = (
            self.inside(claim, schema.get(keyword, True), keyword) for keyword in ("if", "then", "else")
        )
        return test, then, otherwise

    # What does not hold ------------------------------------------------------------------------------------------

    def negative(self, claim: Claim) -> tuple[Alternative, ...]:
        """One alternative or more for each keyword that may be violated."""
        schema = claim.place.schema
        assert isinstance(schema, dict), "booleans are goals of their own"
        used = claim.place.groups
        found: list[Iterable[Alternative]] = []
        plain_done = False
        for group in used:
            handler = self.negative_groups.get(group)
            if handler is None or (handler == self.not_plain and plain_done):
                continue
            plain_done = plain_done or handler == self.not_plain
            found.append(handler(claim, schema))
        if "unevaluated" in used:
            found.append(self.not_unevaluated(claim, schema, used))
        return self.union(found)

    def not_unevaluated(self, claim: Claim, schema: dict[str, Any], used: list[str]) -> Iterable[Alternative]:
        members, items = self.unevaluated_goals(claim, schema)
        for alternative in self.body(claim.positively(), schema, used, exact=True):
            seen = alternative.evaluated
            alternative = replace(alternative, evaluated=NOTHING_EVALUATED)
            if members is not None and not seen.all_members:
                options = (Other(seen.names, seen.patterns, negated(members)),)
                yield from self.conjunction([alternative], some_member(options))
            if items is not None and not seen.all_items:
                goal = (*(claim for contained in seen.contained for claim in negated(contained)), *negated(items))
                yield from self.conjunction([alternative], some_item((NEVER,) * seen.prefix, goal))

    def not_plain(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        return readers.violations(claim.place, schema, self.options)

    def not_type(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        kinds = Kind.ALL & ~readers.kinds(claim.place, schema)
        return [Alternative(kinds)] if kinds else []

    def not_values(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        for values in readers.value_lists(claim.place, schema):
            scalars, compound = readers.unequal(values)
            unlike = [self.alternatives(negated(self.equal_to(value)))
                      for value in compound]  # fmt: skip
            yield from self.every([[scalars], *unlike])

    def equal_to(self, value: Any) -> Goal:
        """That a value is this array or object."""
        return self.goal(self.document.place(readers.equal_to(value), "", "", LATEST), ())

    def not_reference(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        return self.union(self.alternatives(negated(goal)) for goal in self.referred(claim, schema))

    def not_items(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        fact, _ = self.item_goals(claim, schema)
        return some_item(tuple(map(negated, fact.prefix)), negated(fact.rest))

    def not_contains(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        fact = self.contained(claim, schema)
        if fact.minimum > 0:
            yield Alternative(Kind.ARRAY, arrays=(replace(fact, minimum=0, maximum=fact.minimum - 1),))
        if fact.maximum is not None:
            yield Alternative(Kind.ARRAY, arrays=(replace(fact, minimum=fact.maximum + 1, maximum=None),))

    def not_members(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        fact = self.member_goals(claim, schema)
        names, sources = frozenset(name for name, _ in fact.names), tuple(source for source, _ in fact.patterns)
        return some_member((
            *(Named(name, negated(goal)) for name, goal in fact.names),
            *(Matching(source, negated(goal)) for source, goal in fact.patterns),
            Other(names, sources, negated(fact.rest)),
        ))  # fmt: skip

    def not_names(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        return some_member((Misnamed(negated(self.inside(claim, schema["propertyNames"], "propertyNames"))),))

    def not_content(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        raise UnsupportedSchema("that a text is no such JSON cannot be asked for", claim.place.pointer)

    def not_dependencies(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        for name, needed in self.depending(claim, schema):
            present = [Alternative(Kind.OBJECT, objects=(Required((name,)),))]
            if isinstance(needed, list):
                yield from self.conjunction(
                    present, some_member(tuple(Absent(other) for other in needed if other != name))
                )
            else:
                yield from self.conjunction(present, self.alternatives(negated(needed)))

    def not_all_of(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        return self.union(self.alternatives(negated(goal)) for goal in self.branches(claim, schema, "allOf"))

    def not_any_of(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        return self.every(self.alternatives(negated(goal)) for goal in self.branches(claim, schema, "anyOf"))

    def not_one_of(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        goals = self.branches(claim, schema, "oneOf")
        yield from self.every(self.alternatives(negated(goal)) for goal in goals)
        for left, right in combinations(goals, 2):
            yield from self.alternatives((*left, *right))

    def not_negation(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        return self.alternatives(self.inside(claim, schema["not"], "not"))

    def not_condition(self, claim: Claim, schema: dict[str, Any]) -> Iterable[Alternative]:
        test, then, otherwise = self.condition_goals(claim, schema)
        return self.union(
            [self.alternatives((*test, *negated(then))), self.alternatives((*negated(test), *negated(otherwise)))]
        )
