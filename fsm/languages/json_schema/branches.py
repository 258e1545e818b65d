"""Which branches of a `oneOf` may have a value in common, told at a glance: no schema is worked out for it.

Values are told apart by their kinds, by the constants of a member that both must have, or by a member that one must
have and the other cannot. What is not told apart here has to be asked in earnest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import Any, Final

from stemma.fsm.languages.json_schema.alternatives import kind_of
from stemma.fsm.languages.json_schema.document import Document
from stemma.fsm.languages.json_schema.facts import (
    TYPES,
    Alternative,
    Kind,
    Kinds,
    Members,
    Required,
)
from stemma.fsm.languages.json_schema.goals import (
    ANYTHING,
    NEVER,
    AnyOf,
    Claim,
    Goal,
)
from stemma.fsm.languages.json_schema.values import identity
from stemma.fsm.syntax.value import Value

MAXIMUM_LOOKS = 8


class Sight(Value):
    """What values can be at most: of these kinds and, where `few` is given, among these."""

    __slots__ = ("few", "kinds")

    def __init__(self, kinds: Kinds, few: frozenset[Hashable] | None = None) -> None:
        self.kinds: Final = kinds
        self.few: Final = few

    def contents(self) -> tuple[object, ...]:
        return (self.kinds, self.few)

    def __and__(self, other: Sight) -> Sight:
        few = self.few if other.few is None else other.few if self.few is None else self.few & other.few
        return Sight(self.kinds & other.kinds, few)

    def __or__(self, other: Sight) -> Sight:
        few = None if self.few is None or other.few is None else self.few | other.few
        return Sight(self.kinds | other.kinds, few)

    def excludes(self, other: Sight) -> bool:
        """Whether no value can be both."""
        both = self & other
        return not both.kinds or (both.few is not None and not both.few)


ANY_SIGHT = Sight(Kind.ALL)


class Marks(Value):
    """The kinds of the values of a branch and, where all are objects, the members that they must have and the names
    that they may have (None: any)."""

    __slots__ = ("kinds", "members", "names")

    def __init__(self, kinds: Kinds, members: dict[str, Sight], names: frozenset[str] | None) -> None:
        self.kinds: Final = kinds
        self.members: Final = members
        self.names: Final = names

    def contents(self) -> tuple[object, ...]:
        return (self.kinds, self.members, self.names)

    def exclude(self, other: Marks) -> bool:
        """Whether no value can have both marks."""
        if not self.kinds & other.kinds:
            return True
        if self.names is not None and not self.names.issuperset(other.members):
            return True
        if other.names is not None and not other.names.issuperset(self.members):
            return True
        shared = self.members.keys() & other.members.keys()
        return any(self.members[name].excludes(other.members[name]) for name in shared)


class Looks:
    """Remembers what it has seen of one document's goals."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.known: dict[Goal, Sight] = {}

    def marks(self, alternatives: Sequence[Alternative]) -> Marks:
        """What all values of a branch have in common."""
        kinds = 0
        for one in alternatives:
            kinds |= one.kinds
        if kinds != Kind.OBJECT or any(one.values is not None for one in alternatives):
            return Marks(kinds, {}, None)
        own = list(map(self._marks_of_objects, alternatives))
        members, names = own[0].members, own[0].names
        for marks in own[1:]:
            members = {name: members[name] | marks.members[name] for name in members.keys() & marks.members.keys()}
            names = None if names is None or marks.names is None else names | marks.names
        return Marks(kinds, members, names)

    def _marks_of_objects(self, alternative: Alternative) -> Marks:
        facts = [fact for fact in alternative.objects if isinstance(fact, Members)]
        named = [dict(fact.names) for fact in facts]
        members: dict[str, Sight] = {}
        for required in alternative.objects:
            for name in required.names if isinstance(required, Required) else ():
                members[name] = ANY_SIGHT
                for goals in named:
                    members[name] &= self.sight(goals.get(name, ANYTHING))
        names: frozenset[str] | None = None
        for fact, goals in zip(facts, named, strict=True):
            if fact.rest == NEVER and not fact.patterns:
                names = frozenset(goals) if names is None else names.intersection(goals)
        return Marks(Kind.OBJECT, members, names)

    def sight(self, goal: Goal, looks: int = MAXIMUM_LOOKS) -> Sight:
        """What the values that fulfil a goal can be at most."""
        found = self.known.get(goal)
        if found is None and looks:
            self.known[goal] = found = ANY_SIGHT  # where it asks for itself
            for claim in goal:
                found &= self._of_claim(claim, looks - 1)
            self.known[goal] = found
        return found or ANY_SIGHT

    def _of_claim(self, claim: Claim | AnyOf, looks: int) -> Sight:
        if isinstance(claim, AnyOf) or not claim.positive:
            return ANY_SIGHT
        schema = claim.place.schema
        assert isinstance(schema, dict), "booleans are goals of their own"
        found = ANY_SIGHT
        for group in claim.place.groups:
            if group == "values":
                found &= _listed(schema)
            elif group == "type":
                found &= _typed(schema["type"])
            elif group == "reference" and "$ref" in schema:
                target = self.document.resolve(claim.place, schema["$ref"])
                found &= self.sight((Claim(target, claim.scope, True),), looks) if target.groups else ANY_SIGHT
            elif group == "all_of":
                for branch in self._inner(claim, schema, "allOf"):
                    found &= self.sight(branch, looks)
            elif group in ("any_of", "one_of"):
                whole = Sight(0, frozenset())
                for branch in self._inner(claim, schema, "anyOf" if group == "any_of" else "oneOf"):
                    whole |= self.sight(branch, looks)
                found &= whole
        return found

    def _inner(self, claim: Claim, schema: dict[str, Any], keyword: str) -> Iterator[Goal]:
        """The goals of the branches; of a `false` among them only that it may be anything."""
        for index, branch in enumerate(schema[keyword]):
            place = self.document.child(claim.place, branch, keyword, str(index))
            yield (Claim(place, claim.scope, True),) if place.groups else ANYTHING


def _listed(schema: dict[str, Any]) -> Sight:
    """The values of `enum` and `const`, where they are at most a few."""
    found = ANY_SIGHT
    for values in ([schema["const"]] if "const" in schema else [], schema.get("enum", [])):
        if values:
            kinds = 0
            for value in values:
                kinds |= kind_of(value)
            found &= Sight(kinds, frozenset(map(identity, values)))
    return found


def _typed(named: str | list[str]) -> Sight:
    kinds = 0
    for name in [named] if isinstance(named, str) else named:
        kinds |= TYPES.get(name, Kind.ALL)
    return Sight(kinds)


def sharing(given: Sequence[Sequence[Alternative]], marks: Sequence[Marks]) -> Iterator[tuple[int, int]]:
    """The pairs of branches that may have a value in common, as far as can be seen."""
    listed = [index for index, ways in enumerate(given) if all(way.values is not None for way in ways)]
    listing = set(listed)
    free = [index for index in range(len(given)) if index not in listing]
    values = {index: {identity(value) for way in given[index] for value in way.values or ()} for index in listed}
    pairs = (*_meeting(values), *product(free, listed), *_tagged(free, marks))
    for left, right in pairs:
        if not marks[left].exclude(marks[right]):
            yield left, right


def _tagged(free: Sequence[int], marks: Sequence[Marks]) -> Iterator[tuple[int, int]]:
    """Pairs of branches, only those with a common value of the member that tells most of them apart."""
    tags = Counter(name for index in free for name, sight in marks[index].members.items() if sight.few is not None)
    tag, _ = tags.most_common(1)[0] if tags else ("", 0)
    few: dict[int, Iterable[Hashable]] = {}
    others = []
    for index in free:
        sight = marks[index].members.get(tag, ANY_SIGHT)
        if sight.few is None:
            others.append(index)
        else:
            few[index] = sight.few
    yield from combinations(others, 2)
    yield from product(others, few)
    yield from _meeting(few)


def _meeting(values: dict[int, Any]) -> Iterable[tuple[int, int]]:
    """The pairs that hold a value in common."""
    holders: dict[Hashable, list[int]] = {}
    for index, own in values.items():
        for value in own:
            holders.setdefault(value, []).append(index)
    return dict.fromkeys(pair for sharers in holders.values() for pair in combinations(sharers, 2))
