"""Numbers with an exponent, as JSON writers put them: one digit before the point (`1.5e-07`)."""

from __future__ import annotations

from collections.abc import Sequence as Many
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from stemma.fsm.languages.json_schema.facts import (
    Bound,
    Kind,
    Kinds,
    Multiple,
    NotNumber,
    NumberFact,
)
from stemma.fsm.languages.json_schema.numbers import (
    DIGIT,
    EXPONENT_MARK,
    LARGEST_EXPONENT,
    LEADING_DIGIT,
    MINUS,
    SMALLEST_EXPONENT,
    fulfils,
    magnitude,
    point_digits,
)
from stemma.fsm.syntax.ast import Characters, Node
from stemma.fsm.syntax.nodes import EMPTY, choice, concat, optional, repeat, text


class Uniform(NamedTuple):
    """Numbers of some signs with an exponent between two: any mantissa will do."""

    signs: str
    first: int
    last: int


class Bounded(NamedTuple):
    """An exponent whose mantissas need a reader of their own, with facts about them."""

    exponent: int
    facts: tuple[NumberFact, ...]


@lru_cache(maxsize=512)
def scientific(kinds: Kinds, facts: tuple[NumberFact, ...]) -> tuple[Uniform | Bounded, ...]:
    """Which numbers with exponents fulfil all facts. Integers and multiples are only ever written plainly."""
    if kinds == Kind.INTEGER or any(isinstance(fact, Multiple) for fact in facts):
        return ()
    largest = LARGEST_EXPONENT if kinds == Kind.NUMBER else -1
    special = {_exponent(fact.value) for fact in facts if not isinstance(fact, Multiple) and fact.value} | {0}
    found: list[Uniform | Bounded] = []
    first = SMALLEST_EXPONENT
    for exponent in (*sorted(exponent for exponent in special if first <= exponent <= largest), largest + 1):
        if first < exponent:
            found += _uniform(first, exponent - 1, facts)
        if exponent and exponent <= largest:
            scale = Fraction(10) ** exponent
            found.append(Bounded(exponent, tuple(_divided(fact, scale) for fact in facts)))
        first = exponent + 1
    return tuple(found)


def _uniform(first: int, last: int, facts: Many[NumberFact]) -> list[Uniform | Bounded]:
    scale = Fraction(10) ** last
    signs = "".join(sign for sign, value in (("+", 5 * scale), ("-", -5 * scale)) if fulfils(value, facts))
    return [Uniform(signs, first, last)] if signs else []


def _exponent(value: Fraction) -> int:
    """Of the first digit that is not 0."""
    whole, part = magnitude(value)
    return len(whole) - 1 if whole != "0" else len(part.lstrip("0")) - len(part) - 1


def _divided(fact: NumberFact, scale: Fraction) -> NumberFact:
    if isinstance(fact, Bound):
        return Bound(fact.value / scale, fact.is_lower, fact.is_strict)
    assert isinstance(fact, NotNumber), "multiples are written plainly"
    return NotNumber(fact.value / scale)


def uniform_node(uniform: Uniform, most: int) -> Node:
    lead: dict[str, Node] = {"+": EMPTY, "-": text("-"), "+-": MINUS}
    return concat(
        (lead[uniform.signs], LEADING_DIGIT, optional(point_digits(most)), exponent_node(uniform.first, uniform.last))
    )


@lru_cache(maxsize=256)
def exponent_node(first: int, last: int) -> Node:
    """`e`, its sign, and one of the exponents, all of one sign; at most one zero before it."""
    sign = text("-") if first < 0 else optional(text("+"))
    low, high = sorted((abs(first), abs(last)))
    sizes = range(len(str(low)), len(str(high)) + 1)
    of_size = (whole_numbers(str(max(low, 10 ** (size - 1))), str(min(high, 10**size - 1))) for size in sizes)
    return concat((EXPONENT_MARK, sign, optional(text("0")), choice(of_size)))


def whole_numbers(low: str, high: str) -> Node:
    """The digits of every number from `low` to `high`, which are of one length."""
    first, last, rest = int(low[0]), int(high[0]), len(low) - 1
    if rest and first == last:
        return concat((text(low[0]), whole_numbers(low[1:], high[1:])))
    ways: list[Node] = []
    if low[1:] != "0" * rest:
        ways.append(concat((text(low[0]), whole_numbers(low[1:], "9" * rest))))
        first += 1
    if high[1:] != "9" * rest:
        ways.append(concat((text(high[0]), whole_numbers("0" * rest, high[1:]))))
        last -= 1
    if first <= last:
        ways.append(concat((Characters(((48 + first, 48 + last),)), repeat(DIGIT, rest, rest))))
    return choice(ways)


@lru_cache(maxsize=1024)
def edge_characters(symbols: str) -> Characters:
    return Characters(tuple((ord(symbol), ord(symbol)) for symbol in sorted(symbols)))
