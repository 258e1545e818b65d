"""The common language between front ends and the automaton: what a grammar says, before it is compiled.

Front ends (regex, JSON Schema, choices, EBNF, Lark, structural tags) build these nodes; `automaton` turns them into
byte-level NFAs with call edges. Nothing here knows bytes of UTF-8, tokens or masks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from stemma.fsm.errors import LimitError
from stemma.fsm.syntax.value import Value

MAXIMUM_DEPTH = 10_000


class Part(Value):
    """What all nodes are. `depth`: how many nodes stand within each other in it. No more than MAXIMUM_DEPTH do, so that
    whoever goes through a node by calling itself, interpreted or compiled, comes to an end before its stack does."""

    __slots__ = ("depth",)

    def __init__(self) -> None:
        self.depth = 0


def depth_around(parts: Iterable[Part]) -> int:
    """How deep a node with these parts is; raises LimitError where that is too deep."""
    depth = 0
    for part in parts:
        if part.depth > depth:
            depth = part.depth
    if depth >= MAXIMUM_DEPTH:
        raise LimitError(f"more than {MAXIMUM_DEPTH} parts of a grammar stand within each other; use rules, or $ref")
    return depth + 1


class Literal(Part):
    """Exactly these bytes."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data: Final = data
        self.depth = 0

    def contents(self) -> tuple[object, ...]:
        return (self.data,)


class Characters(Part):
    """One Unicode scalar value out of sorted, disjoint, inclusive code point ranges (compiled to UTF-8)."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: tuple[tuple[int, int], ...]) -> None:
        self.ranges: Final = ranges
        self.depth = 0

    def contents(self) -> tuple[object, ...]:
        return (self.ranges,)


class Concatenation(Part):
    """The parts, one after the other; no parts is the empty string."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Node, ...]) -> None:
        self.parts: Final = parts
        self.depth = depth_around(parts)

    def contents(self) -> tuple[object, ...]:
        return (self.parts,)


class Choice(Part):
    """Any one of the parts; no parts matches nothing at all."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Node, ...]) -> None:
        self.parts: Final = parts
        self.depth = depth_around(parts)

    def contents(self) -> tuple[object, ...]:
        return (self.parts,)


class Repeat(Part):
    """`part` at least `minimum` and at most `maximum` times (None: no limit). Counted, never unrolled."""

    __slots__ = ("maximum", "minimum", "part")

    def __init__(self, part: Node, minimum: int, maximum: int | None) -> None:
        self.part: Final = part
        self.minimum: Final = minimum
        self.maximum: Final = maximum
        self.depth = depth_around((part,))

    def contents(self) -> tuple[object, ...]:
        return (self.part, self.minimum, self.maximum)


class RuleRef(Part):
    """The rule of that name, asked of the grammar when the automaton first gets there. Recursion is allowed.

    A call that ends its rule replaces the caller's frame (front ends write loops and long member lists as chains of
    such tail calls), so it costs no stack, and a rule that ends in a call to itself is a plain loop.
    """

    __slots__ = ("rule",)

    def __init__(self, rule: Hashable) -> None:
        self.rule: Final = rule
        self.depth = 0

    def contents(self) -> tuple[object, ...]:
        return (self.rule,)


class Kept:
    """The name of a rule that many grammars have, as a format or the numbers from 0 on: it knows its node, and whoever
    makes states of it may keep them. Names are told apart by identity; `make` is called once, on the first visit."""

    __slots__ = ("_make", "_node", "num_programs")

    def __init__(self, make: Callable[[], Node]) -> None:
        self._make = make
        self._node: Node | None = None
        self.num_programs = 0  # that have asked for its states

    @property
    def node(self) -> Node:
        if self._node is None:
            self._node = self._make()
        return self._node


class Difference(Part):
    """What `left` matches and `right` does not. Both regular: no `RuleRef` to a recursive rule, no `Special`."""

    __slots__ = ("left", "right")

    def __init__(self, left: Node, right: Node) -> None:
        self.left: Final = left
        self.right: Final = right
        self.depth = depth_around((left, right))

    def contents(self) -> tuple[object, ...]:
        return (self.left, self.right)


class Intersection(Part):
    """What both match. Both regular, as in `Difference`."""

    __slots__ = ("left", "right")

    def __init__(self, left: Node, right: Node) -> None:
        self.left: Final = left
        self.right: Final = right
        self.depth = depth_around((left, right))

    def contents(self) -> tuple[object, ...]:
        return (self.left, self.right)


class Bounded(Intersection):
    """What `left` matches, if it is not too long: an intersection with a repeat from 0 up to a maximum, of units that
    every text of `left` is made of. It means what the intersection means; masks are found faster."""

    __slots__ = ()


class Special(Part):
    """One special (added) token by its text, such as `<|im_end|>`: never matched by ordinary bytes."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self.depth = 0

    def contents(self) -> tuple[object, ...]:
        return (self.text,)


Node = Literal | Characters | Concatenation | Choice | Repeat | RuleRef | Difference | Intersection | Special


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """Rules that many grammars have under the same names, which call only each other: their states are kept."""

    names: tuple[Hashable, ...]
    rule: Callable[[Hashable], Node]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A start node and the rules it calls; `rule` is called at most once a name, on the first visit.

    `specials` are the texts of the special tokens that it may ask for, where that is known beforehand; `common` are
    those of its rules (`rule` gives them too) that other grammars have as well.
    """

    start: Node
    rule: Callable[[Hashable], Node]
    specials: tuple[str, ...] = ()
    common: Common | None = None


class GrammarSpec(Protocol):
    """Anything that says its grammar: a regex, a schema, choices, tags. Raises a `FormError` for what it cannot say."""

    def grammar(self) -> Grammar: ...
