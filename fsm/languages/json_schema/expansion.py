"""Turns goals into alternatives: `allOf`, `anyOf`, `oneOf`, `not`, `if` and references are all resolved here.

A goal's alternatives are its disjunctive normal form. Nothing is loosened: an exclusive `oneOf` becomes "this one and
none of those that overlap with it", and what would need too many alternatives is a `LimitError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from stemma.fsm.errors import LimitError, SchemaError
from stemma.fsm.languages.json_schema import readers
from stemma.fsm.languages.json_schema.alternatives import (
    Conditional,
    with_values_joined,
)
from stemma.fsm.languages.json_schema.branches import Looks
from stemma.fsm.languages.json_schema.context import Context
from stemma.fsm.languages.json_schema.document import LATEST, Document, Place
from stemma.fsm.languages.json_schema.facts import UNRESTRICTED, Alternative
from stemma.fsm.languages.json_schema.goals import (
    ANYTHING,
    NEVER,
    AnyOf,
    Claim,
    Goal,
)
from stemma.fsm.languages.json_schema.joining import joined
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.languages.json_schema.possibility import Undecided
from stemma.fsm.work import count_work

MAXIMUM_ALTERNATIVES = 1_000
MAXIMUM_FREE_BRANCHES = 4  # of more, what cannot be is left out at once
MAXIMUM_QUESTIONS = 8  # within each other: more is guessed to be possible, which is exact, but not simple
MAXIMUM_CHAIN = 200
MAXIMUM_ACTIVE = 400  # claims that are expanded within each other, whatever is asked between them
MERGE_WORK = 5


class Keywords(NamedTuple):
    """What is asked about a claim's own keywords: what it takes that it holds or fails, and what it refers to."""

    holds: Callable[[Expansion, Claim, bool], tuple[Alternative, ...]]
    fails: Callable[[Expansion, Claim], tuple[Alternative, ...]]
    referred: Callable[[Expansion, Claim, dict[str, Any]], list[Goal]]


class Expansion:
    """The alternatives of every goal of one document, memoised."""

    def __init__(self, document: Document, options: SchemaOptions, meaning: Context, keywords: Keywords) -> None:
        self.document = document
        self.options = options
        self.meaning = meaning
        self.looks = Looks(document)
        self.known: dict[Goal, tuple[Alternative, ...]] = {}
        self.expanded: dict[tuple[Claim, bool], tuple[Alternative, ...]] = {}
        self.active: dict[tuple[Claim, bool], int] = {}
        self.asked_at: list[int] = [0]  # how many claims were active when something was asked about alternatives
        self.keywords = keywords

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
            [goal] = self.keywords.referred(self, claim, claim.place.schema)
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
        if len(self.active) - self.asked_at[-1] > MAXIMUM_CHAIN or len(self.active) > MAXIMUM_ACTIVE:
            raise LimitError(
                f"a chain of more than {MAXIMUM_CHAIN} schemas about one value at {claim.place.pointer or '/'}"
            )
        self.active[key] = len(self.active)
        try:
            found = self.keywords.holds(self, claim, exact) if claim.positive else self.keywords.fails(self, claim)
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
            return self.meaning.may_hold(alternative)
        except Undecided:
            return True
        finally:
            self.asked_at.pop()

    def every(self, parts: Iterable[Sequence[Alternative]]) -> tuple[Alternative, ...]:
        """All parts at once; conditions on objects that follow each other, maybe hundreds, are joined in one go."""
        found: tuple[Alternative, ...] = (UNRESTRICTED,)
        conditional = Conditional()
        for part in parts:
            if not conditional.take(part):
                found = self.conjunction(self.conjunction(found, conditional.given()), part)
        return self.conjunction(found, conditional.given())

    def equal_to(self, value: Any) -> Goal:
        """That a value is this array or object."""
        return self.goal(self.document.place(readers.equal_to(value), "", "", LATEST), ())
