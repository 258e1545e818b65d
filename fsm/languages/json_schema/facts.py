"""What a schema says of a value, taken apart: alternatives, each a conjunction of facts about one kind of value.

A *goal* is a conjunction of claims (this place holds, or does not hold) about one value; `expansion` turns a goal into
alternatives, one of which the value must fulfil.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from stemma.fsm.languages.json_schema.goals import ANYTHING, Goal, conjoined
from stemma.fsm.languages.json_schema.member_options import SomeMember
from stemma.fsm.languages.json_schema.values import identity
from stemma.fsm.languages.regex.tree import Dialect
from stemma.fsm.syntax.value import Value


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


class Bound(Value):
    """A number's bound."""

    __slots__ = ("is_lower", "is_strict", "value")

    def __init__(self, value: Fraction, is_lower: bool, is_strict: bool) -> None:
        self.value: Final = value
        self.is_lower: Final = is_lower
        self.is_strict: Final = is_strict

    def contents(self) -> tuple[object, ...]:
        return (self.value, self.is_lower, self.is_strict)


class Multiple(Value):
    __slots__ = ("of", "positive")

    def __init__(self, of: Fraction, positive: bool) -> None:
        self.of: Final = of
        self.positive: Final = positive

    def contents(self) -> tuple[object, ...]:
        return (self.of, self.positive)


class NotNumber(Value):
    __slots__ = ("value",)

    def __init__(self, value: Fraction) -> None:
        self.value: Final = value

    def contents(self) -> tuple[object, ...]:
        return (self.value,)


class Length(Value):
    """Of a string in code points, of an array in items, of an object in members."""

    __slots__ = ("maximum", "minimum")

    def __init__(self, minimum: int, maximum: int | None) -> None:
        self.minimum: Final = minimum
        self.maximum: Final = maximum

    def contents(self) -> tuple[object, ...]:
        return (self.minimum, self.maximum)


class Pattern(Value):
    """A regular expression that must (not) be found in a string."""

    __slots__ = ("dialect", "positive", "source")

    def __init__(self, source: str, positive: bool, dialect: Dialect = "ecma") -> None:
        self.source: Final = source
        self.positive: Final = positive
        self.dialect: Final = dialect

    def contents(self) -> tuple[object, ...]:
        return (self.source, self.positive, self.dialect)


class Format(Value):
    """A format, and the pattern that stands beside it: where no text has both, the pattern alone counts."""

    __slots__ = ("beside", "name", "positive")

    def __init__(self, name: str, positive: bool, beside: Pattern | None = None) -> None:
        self.name: Final = name
        self.positive: Final = positive
        self.beside: Final = beside

    def contents(self) -> tuple[object, ...]:
        return (self.name, self.positive, self.beside)


class Content(Value):
    """The string's text is JSON of a value that fulfils the goal."""

    __slots__ = ("goal",)

    def __init__(self, goal: Goal) -> None:
        self.goal: Final = goal

    def contents(self) -> tuple[object, ...]:
        return (self.goal,)


class NotText(Value):
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text

    def contents(self) -> tuple[object, ...]:
        return (self.text,)


class Items(Value):
    """Every item: by index, then the rest."""

    __slots__ = ("prefix", "rest")

    def __init__(self, prefix: tuple[Goal, ...], rest: Goal) -> None:
        self.prefix: Final = prefix
        self.rest: Final = rest

    def contents(self) -> tuple[object, ...]:
        return (self.prefix, self.rest)


class SomeItem(Value):
    """At least one item fulfils the goal for its index."""

    __slots__ = ("prefix", "rest")

    def __init__(self, prefix: tuple[Goal, ...], rest: Goal) -> None:
        self.prefix: Final = prefix
        self.rest: Final = rest

    def contents(self) -> tuple[object, ...]:
        return (self.prefix, self.rest)


class Contains(Value):
    __slots__ = ("goal", "maximum", "minimum")

    def __init__(self, goal: Goal, minimum: int, maximum: int | None) -> None:
        self.goal: Final = goal
        self.minimum: Final = minimum
        self.maximum: Final = maximum

    def contents(self) -> tuple[object, ...]:
        return (self.goal, self.minimum, self.maximum)


class Unique(Value):
    """That all items differ, or that two of them do not."""

    __slots__ = ("pointer", "positive")

    def __init__(self, pointer: str, positive: bool = True) -> None:
        self.pointer: Final = pointer
        self.positive: Final = positive

    def contents(self) -> tuple[object, ...]:
        return (self.pointer, self.positive)


class Members(Value):
    """Every member: by name and by every pattern that its name matches; by `rest` where neither says anything."""

    __slots__ = ("names", "patterns", "rest")

    def __init__(self, names: tuple[tuple[str, Goal], ...], patterns: tuple[tuple[str, Goal], ...], rest: Goal) -> None:
        self.names: Final = names
        self.patterns: Final = patterns
        self.rest: Final = rest

    def contents(self) -> tuple[object, ...]:
        return (self.names, self.patterns, self.rest)


class Required(Value):
    __slots__ = ("names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names: Final = names

    def contents(self) -> tuple[object, ...]:
        return (self.names,)


class Names(Value):
    """Every member's name, as a string, fulfils the goal."""

    __slots__ = ("goal",)

    def __init__(self, goal: Goal) -> None:
        self.goal: Final = goal

    def contents(self) -> tuple[object, ...]:
        return (self.goal,)


NumberFact = Bound | Multiple | NotNumber
TextFact = Length | Pattern | Format | NotText | Content
ArrayFact = Length | Items | SomeItem | Contains | Unique
ObjectFact = Length | Members | Required | Names | SomeMember


class Evaluated(Value):
    """What adjacent keywords have looked at, for `unevaluatedProperties` and `unevaluatedItems`."""

    __slots__ = ("all_items", "all_members", "contained", "names", "patterns", "prefix")

    def __init__(
        self,
        names: frozenset[str] = frozenset(),
        patterns: tuple[str, ...] = (),
        all_members: bool = False,
        prefix: int = 0,
        contained: tuple[Goal, ...] = (),
        all_items: bool = False,
    ) -> None:
        self.names: Final = names
        self.patterns: Final = patterns
        self.all_members: Final = all_members
        self.prefix: Final = prefix
        self.contained: Final = contained
        self.all_items: Final = all_items

    def contents(self) -> tuple[object, ...]:
        return (self.names, self.patterns, self.all_members, self.prefix, self.contained, self.all_items)

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


class Alternative(Value):
    """The values of some kinds that fulfil all facts about their kind, and are among `values` where those are given."""

    __slots__ = ("arrays", "evaluated", "kinds", "numbers", "objects", "texts", "values")

    def __init__(
        self,
        kinds: Kinds = Kind.ALL,
        numbers: tuple[NumberFact, ...] = (),
        texts: tuple[TextFact, ...] = (),
        arrays: tuple[ArrayFact, ...] = (),
        objects: tuple[ObjectFact, ...] = (),
        values: tuple[Any, ...] | None = None,
        evaluated: Evaluated = NOTHING_EVALUATED,
    ) -> None:
        self.kinds: Final = kinds
        self.numbers: Final = numbers
        self.texts: Final = texts
        self.arrays: Final = arrays
        self.objects: Final = objects
        self.values: Final = values
        self.evaluated: Final = evaluated

    def contents(self) -> tuple[object, ...]:
        return (self.kinds, self.numbers, self.texts, self.arrays, self.objects, self.values, self.evaluated)

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
        return Alternative(
            self.kinds & kinds, self.numbers, self.texts, self.arrays, self.objects, self.values, self.evaluated
        )

    def with_arrays(self, arrays: tuple[ArrayFact, ...]) -> Alternative:
        """Those arrays only that fulfil these facts instead."""
        return Alternative(self.kinds & Kind.ARRAY, arrays=arrays, values=self.values)

    def with_nothing_evaluated(self) -> Alternative:
        return Alternative(self.kinds, self.numbers, self.texts, self.arrays, self.objects, self.values)


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
