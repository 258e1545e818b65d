"""What a schema says of a value, taken apart: alternatives, each a conjunction of facts about one kind of value.

A *goal* is a conjunction of claims (this place holds, or does not hold) about one value; `expansion` turns a goal into
alternatives, one of which the value must fulfil.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, NamedTuple

from stemma.fsm.languages.json_schema.document import Place
from stemma.fsm.languages.json_schema.values import identity
from stemma.fsm.languages.regex.tree import Dialect


class Kind:
    """The eight kinds of JSON values that schemas can tell apart by type or constant, a bit each."""

    NULL: Final = 1
    FALSE: Final = 2
    TRUE: Final = 4
    INTEGER: Final = 8
    FRACTION: Final = 16
    STRING: Final = 32
    ARRAY: Final = 64
    OBJECT: Final = 128
    NUMBER: Final = 24
    ALL: Final = 255


Kinds = int
"""Any number of kinds."""


class Claim(NamedTuple):
    """That a place's schema holds (or does not); `scope` are the resources entered so far, for dynamic references."""

    place: Place
    scope: tuple[str, ...]
    positive: bool

    def positively(self) -> Claim:
        return self._replace(positive=True)


class AnyOf:
    """That at least one of the goals holds. Goals are asked for often, and may be deep: the hash is worked out once."""

    __slots__ = ("_hash", "goals")

    def __init__(self, goals: tuple[Goal, ...]) -> None:
        self.goals = goals
        self._hash = hash(goals)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, AnyOf) and self._hash == other._hash and self.goals == other.goals)


Goal = tuple["Claim | AnyOf", ...]
"""A conjunction; the empty one is what any value fulfils."""


ANYTHING: Goal = ()
NEVER: Goal = (AnyOf(()),)


def conjoined(goals: Iterable[Goal]) -> Goal:
    """All goals at once."""
    claims = dict.fromkeys(claim for goal in goals for claim in goal)
    return NEVER if NEVER[0] in claims else tuple(claims)


def negated(goal: Goal) -> Goal:
    """That a goal does not hold."""
    if not goal:
        return NEVER
    ways = [_negated(claim) for claim in goal]
    return ways[0] if len(ways) == 1 else (AnyOf(tuple(ways)),)


def _negated(claim: Claim | AnyOf) -> Goal:
    if isinstance(claim, Claim):
        return (claim._replace(positive=not claim.positive),)
    return tuple(part for goal in claim.goals for part in negated(goal))


@dataclass(frozen=True, slots=True)
class Bound:
    """A number's bound."""

    value: Fraction
    is_lower: bool
    is_strict: bool


@dataclass(frozen=True, slots=True)
class Multiple:
    of: Fraction
    positive: bool


@dataclass(frozen=True, slots=True)
class NotNumber:
    value: Fraction


@dataclass(frozen=True, slots=True)
class Length:
    """Of a string in code points, of an array in items, of an object in members."""

    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that must (not) be found in a string."""

    source: str
    positive: bool
    dialect: Dialect = "ecma"


@dataclass(frozen=True, slots=True)
class Format:
    """A format, and the pattern that stands beside it: where no text has both, the pattern alone counts."""

    name: str
    positive: bool
    beside: Pattern | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The string's text is JSON of a value that fulfils the goal."""

    goal: Goal


@dataclass(frozen=True, slots=True)
class NotText:
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """Every item: by index, then the rest."""

    prefix: tuple[Goal, ...]
    rest: Goal


@dataclass(frozen=True, slots=True)
class SomeItem:
    """At least one item fulfils the goal for its index."""

    prefix: tuple[Goal, ...]
    rest: Goal


@dataclass(frozen=True, slots=True)
class Contains:
    goal: Goal
    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Unique:
    pointer: str


@dataclass(frozen=True, slots=True)
class Members:
    """Every member: by name and by every pattern that its name matches; by `rest` where neither says anything."""

    names: tuple[tuple[str, Goal], ...]
    patterns: tuple[tuple[str, Goal], ...]
    rest: Goal


@dataclass(frozen=True, slots=True)
class Required:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """Every member's name, as a string, fulfils the goal."""

    goal: Goal


@dataclass(frozen=True, slots=True)
class Absent:
    name: str


@dataclass(frozen=True, slots=True)
class Named:
    """A member of this name whose value fulfils the goal."""

    name: str
    goal: Goal


@dataclass(frozen=True, slots=True)
class Matching:
    """A member whose name matches the pattern and whose value fulfils the goal."""

    source: str
    goal: Goal


@dataclass(frozen=True, slots=True)
class Other:
    """A member outside the names and patterns whose value fulfils the goal."""

    names: frozenset[str]
    sources: tuple[str, ...]
    goal: Goal


@dataclass(frozen=True, slots=True)
class Misnamed:
    """A member whose name, as a string, fulfils the goal."""

    goal: Goal


MemberOption = Absent | Named | Matching | Other | Misnamed


@dataclass(frozen=True, slots=True)
class SomeMember:
    """At least one of the options is the case."""

    options: tuple[MemberOption, ...]


NumberFact = Bound | Multiple | NotNumber
TextFact = Length | Pattern | Format | NotText | Content
ArrayFact = Length | Items | SomeItem | Contains | Unique
ObjectFact = Length | Members | Required | Names | SomeMember


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What adjacent keywords have looked at, for `unevaluatedProperties` and `unevaluatedItems`."""

    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    all_members: bool = False
    prefix: int = 0
    contained: tuple[Goal, ...] = ()
    all_items: bool = False

    def merged(self, other: Evaluated) -> Evaluated:
        return Evaluated(
            self.names | other.names,
            tuple(dict.fromkeys(self.patterns + other.patterns)),
            self.all_members or other.all_members,
            max(self.prefix, other.prefix),
            tuple(dict.fromkeys(self.contained + other.contained)),
            self.all_items or other.all_items,
        )


NOTHING_EVALUATED = Evaluated()


@dataclass(frozen=True, slots=True)
class Alternative:
    """The values of some kinds that fulfil all facts about their kind, and are among `values` where those are given."""

    kinds: Kinds = Kind.ALL
    numbers: tuple[NumberFact, ...] = ()
    texts: tuple[TextFact, ...] = ()
    arrays: tuple[ArrayFact, ...] = ()
    objects: tuple[ObjectFact, ...] = ()
    values: tuple[Any, ...] | None = None
    evaluated: Evaluated = NOTHING_EVALUATED

    def merged(self, other: Alternative) -> Alternative | None:
        """Both at once, or None where no kind is left."""
        kinds = self.kinds & other.kinds
        if not kinds:
            return None
        values = self.values
        if values is None:
            values = other.values
        elif other.values is not None:
            allowed = set(map(identity, other.values))
            values = tuple(value for value in values if identity(value) in allowed)
        if values is not None and not values:
            return None
        return Alternative(
            kinds,
            _joined(self.numbers, other.numbers),
            _joined(self.texts, other.texts),
            _joined(self.arrays, other.arrays),
            _joined_objects(self.objects, other.objects),
            values,
            self.evaluated if other.evaluated is NOTHING_EVALUATED else self.evaluated.merged(other.evaluated),
        )

    def only(self, kinds: Kinds) -> Alternative:
        return replace(self, kinds=self.kinds & kinds)


def _joined(left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
    if not left or not right:
        return left or right
    return left + tuple(fact for fact in right if fact not in left)


def _joined_objects(left: tuple[ObjectFact, ...], right: tuple[ObjectFact, ...]) -> tuple[ObjectFact, ...]:
    """All facts; neighbours that only speak of names become one, for thousands of them would be asked for each name."""
    last = next((fact for fact in reversed(left) if isinstance(fact, Members)), None)
    first = next((fact for fact in right if isinstance(fact, Members)), None)
    if last is None or first is None or last.patterns or first.patterns or last.rest or first.rest or last == first:
        return _joined(left, right)
    names = dict(last.names)
    for name, goal in first.names:
        names[name] = conjoined((names[name], goal)) if name in names else goal
    whole = Members(tuple(names.items()), (), ANYTHING)
    return _joined(tuple(whole if f is last else f for f in left), tuple(f for f in right if f is not first))


UNRESTRICTED = Alternative()


TYPES = {
    "null": Kind.NULL,
    "boolean": Kind.TRUE | Kind.FALSE,
    "integer": Kind.INTEGER,
    "number": Kind.NUMBER,
    "string": Kind.STRING,
    "array": Kind.ARRAY,
    "object": Kind.OBJECT,
}
