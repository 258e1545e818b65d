"""Numbers: one small automaton over digits for bounds, multiples and excluded values at once.

A number is read from left to right; for every bound the automaton knows whether what it has read is below, at or above
the same digits of the bound, and for every multiple the remainder. Numbers are written plainly, or with an exponent
after one digit before the point, as JSON writers do (`1.5e-07`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from stemma.fsm.errors import LimitError
from stemma.fsm.languages.json_schema.facts import (
    Bound,
    Kind,
    Kinds,
    Multiple,
    NotNumber,
    NumberFact,
)
from stemma.fsm.syntax.ast import Characters, Node
from stemma.fsm.syntax.nodes import choice, concat, optional, repeat, text
from stemma.fsm.work import count_work

MAXIMUM_STATES = 20_000
STATE_WORK = 50
LONG_BOUND = 1_000_000
SMALL_MULTIPLE = 100  # in its numerator and its denominator
MOST_KEPT = 3  # facts: two bounds and what the numbers are multiples of
SMALLEST_EXPONENT, LARGEST_EXPONENT = -307, 307  # beyond, doubles become 0 or infinite
DIGITS = "0123456789"
BELOW, AT, ABOVE = -1, 0, 1

DIGIT = Characters(((48, 57),))
LEADING_DIGIT = Characters(((49, 57),))
MINUS = optional(text("-"))
EXPONENT_MARK = Characters(((69, 69), (101, 101)))
SIGN = optional(Characters(((43, 43), (45, 45))))
HUNDREDS = choice((
    concat((Characters(((49, 50),)), repeat(DIGIT, 2, 2))), concat((text("30"), Characters(((48, 55),)))),
))  # fmt: skip


@lru_cache(maxsize=16)
def point_digits(most: int) -> Node:
    return concat((text("."), repeat(DIGIT, 1, most)))


def any_number(most: int) -> Node:
    """Any number of up to `most` digits before the point and behind it. Exponents stop where a double would become
    infinite, since readers would then no longer see a number."""
    fraction = optional(point_digits(most))
    return concat((MINUS, choice((
        concat((_whole(most), fraction, optional(concat((EXPONENT_MARK, SIGN, repeat(DIGIT, 1, 2)))))),
        concat((LEADING_DIGIT, fraction, EXPONENT_MARK, SIGN, HUNDREDS)),
    ))))  # fmt: skip


def plain_integer(most: int) -> Node:
    return concat((MINUS, _whole(most)))


def any_integer(most: int) -> Node:
    return concat((plain_integer(most), optional(text(".0"))))


def _whole(most: int) -> Node:
    return choice((text("0"), concat((LEADING_DIGIT, repeat(DIGIT, 0, most - 1)))))


def fulfils(value: Fraction, facts: Many[NumberFact]) -> bool:
    return all(_fulfils(value, fact) for fact in facts)


def _fulfils(value: Fraction, fact: NumberFact) -> bool:
    if isinstance(fact, Multiple):
        return ((value / fact.of).denominator == 1) == fact.positive
    if isinstance(fact, NotNumber):
        return value != fact.value
    if value == fact.value:
        return not fact.is_strict
    return (value > fact.value) == fact.is_lower


def surely_possible(kinds: Kinds, facts: Many[NumberFact]) -> bool:
    """Whether a look at the bounds is enough to see that some number fulfils all facts."""
    bounds = [fact for fact in facts if isinstance(fact, Bound)]
    others = [fact for fact in facts if not isinstance(fact, Bound)]
    multiples = [fact for fact in others if isinstance(fact, Multiple)]
    if multiples:  # small ones only: that others take too many states would be found out too late
        few = len(others) == 1 and multiples[0].positive and all(map(_is_small, facts))
        if kinds == Kind.FRACTION or not (few or len(facts) == 1):
            return False
    low = max((fact.value for fact in bounds if fact.is_lower), default=None)
    high = min((fact.value for fact in bounds if not fact.is_lower), default=None)
    if low is None or high is None:
        return True
    if multiples:  # whole ones, of which one is within each stretch that is longer than the numerator
        return high - low > multiples[0].of.numerator
    return low < high if kinds & Kind.FRACTION else high - low > 2 + len(others)


class Magnitude(NamedTuple):
    """The digits that a bound's magnitude is compared by: no leading zeros but one, no trailing ones."""

    whole: str
    part: str


def magnitude(value: Fraction) -> Magnitude:
    value, scale = abs(value), 0
    while value.denominator != 1:
        value, scale = value * 10, scale + 1
    digits = str(value.numerator).rjust(scale + 1, "0")
    cut = len(digits) - scale
    return Magnitude(digits[:cut], digits[cut:].rstrip("0"))


class Comparison(NamedTuple):
    """How what was read compares with a bound: after `whole` or `part` digits, or decided."""

    whole: int
    part: int
    order: int
    decided: bool = False


class Remainder(NamedTuple):
    """The remainder so far, after `part` digits behind the point; `finer`: digits that no multiple has."""

    rest: int
    part: int
    finer: bool


class State(NamedTuple):
    phase: str  # "start", "minus", "zero", "whole", "point", "part" or "end"
    negative: bool
    comparisons: tuple[Comparison, ...]
    remainders: tuple[Remainder, ...]


@dataclass(frozen=True, slots=True)
class DigitAutomaton:
    """States by number, the first at 0: what digits lead where, and which states may end the number."""

    edges: tuple[tuple[tuple[str, int], ...], ...]  # (digits or another character, state)
    ends: frozenset[int]

    @property
    def goes_round(self) -> bool:
        """Whether some states lead back to each other, as remainders do."""
        before = Counter(target for state, own in enumerate(self.edges) for _, target in own if target != state)
        todo = [state for state in range(len(self.edges)) if not before[state]]
        for state in todo:
            for _, target in self.edges[state]:
                before[target] -= target != state
                if not before[target] and target != state:
                    todo.append(target)
        return len(todo) < len(self.edges)

    def distances(self) -> dict[int, int]:
        """How many characters a number takes at least from each state to its end."""
        known = dict.fromkeys(self.ends, 0)
        sources: dict[int, list[int]] = {}
        for state, own in enumerate(self.edges):
            for _, target in own:
                sources.setdefault(target, []).append(state)
        todo = list(self.ends)
        for state in todo:
            for source in sources.get(state, ()):
                if source not in known:
                    known[source] = known[state] + 1
                    todo.append(source)
        return known


def explored(kinds: Kinds, facts: tuple[NumberFact, ...], leading: bool, plain: bool) -> DigitAutomaton:
    """The automaton of some facts; those of a few short bounds are kept, for many schemas have the same."""
    small = len(facts) <= MOST_KEPT and all(map(_is_small, facts))
    return _kept(kinds, facts, leading, plain) if small else NumberReader(kinds, facts, leading, plain).explored()


@lru_cache(maxsize=512)
def _kept(kinds: Kinds, facts: tuple[NumberFact, ...], leading: bool, plain: bool) -> DigitAutomaton:
    return NumberReader(kinds, facts, leading, plain).explored()


def _is_small(fact: NumberFact) -> bool:
    """Whether a fact takes few states."""
    if isinstance(fact, Multiple):
        return max(fact.of.numerator, fact.of.denominator) <= SMALL_MULTIPLE
    return isinstance(fact, Bound) and max(abs(fact.value.numerator), fact.value.denominator) < LONG_BOUND


class NumberReader:
    """The automaton before it is explored. `leading`: exactly one digit before the point, not 0 (a mantissa).
    `plain`: integers have no fraction, not even `.0`, and no zero has a sign where nothing negative can stand."""

    def __init__(self, kinds: Kinds, facts: Many[NumberFact], leading: bool = False, plain: bool = False) -> None:
        self.kinds, self.facts, self.leading, self.plain = kinds, tuple(facts), leading, plain
        self.unsigned = plain and any(isinstance(fact, Bound) and fact.is_lower and fact.value >= 0 for fact in facts)
        values = {abs(fact.value): None for fact in facts if not isinstance(fact, Multiple)}
        self.values = [*{Fraction(0): None, **values}]
        self.bounds = list(map(magnitude, self.values))
        multiples = {fact.of: None for fact in facts if isinstance(fact, Multiple)}
        if kinds in (Kind.INTEGER, Kind.FRACTION):
            multiples[Fraction(1)] = None
        self.multiples = list(multiples)
        self.scaled = list(map(_scaled, self.multiples))

    def explored(self) -> DigitAutomaton:
        """Every state that can still end in a number; empty where there is none."""
        first = State(
            "start",
            False,
            tuple(Comparison(0, 0, AT) for _ in self.bounds),
            tuple(Remainder(0, 0, False) for _ in self.scaled),
        )
        numbers = {first: 0}
        edges: list[list[tuple[str, int]]] = []
        todo = [first]
        for state in todo:
            count_work(STATE_WORK)
            own: list[tuple[str, int]] = []
            for symbol, after in self.moves(state):
                if after not in numbers:
                    numbers[after] = len(numbers)
                    todo.append(after)
                own.append((symbol, numbers[after]))
            edges.append(own)
            if len(numbers) > MAXIMUM_STATES:
                raise LimitError(
                    f"a numeric range or multipleOf needs more than {MAXIMUM_STATES} states; use rounder numbers"
                )
        return _trimmed(edges, {numbers[state] for state in todo if self.may_end(state)})

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        phase = state.phase
        if phase == "start" and not self.unsigned:
            yield "-", state._replace(phase="minus", negative=True)
        if phase in ("start", "minus") or (phase == "whole" and not self.leading) or phase in ("point", "part"):
            for symbols in self.alike(state):
                is_zero = symbols[0] == "0"
                if is_zero and self.leading and phase in ("start", "minus"):
                    continue
                if is_zero or not self.short_part(phase):
                    yield symbols, self.after_digit(state, int(symbols[0]))
        if phase in ("zero", "whole") and not (self.plain and self.kinds == Kind.INTEGER):
            yield ".", state._replace(phase="point", comparisons=tuple(map(_closed, self.bounds, state.comparisons)))

    def alike(self, state: State) -> Iterator[str]:
        """The digits, those together that lead to the same state: 0, then between the digits of the bounds."""
        if any(modulus != 1 for modulus, _ in self.scaled):
            yield from DIGITS
            return
        cuts = {0, 1, 10}
        in_part = state.phase in ("point", "part")
        for bound, comparison in zip(self.bounds, state.comparisons, strict=True):
            digits, at = (bound.part, comparison.part) if in_part else (bound.whole, comparison.whole)
            if not comparison.decided and at < len(digits):
                cuts |= {int(digits[at]), int(digits[at]) + 1}
        yield from (DIGITS[low:high] for low, high in pairwise(sorted(cuts)))

    def short_part(self, phase: str) -> bool:
        """Integers may end in `.0` and in nothing else."""
        return phase == "point" and self.kinds == Kind.INTEGER

    def after_digit(self, state: State, digit: int) -> State:
        if state.phase in ("point", "part"):
            return State(
                "end" if self.kinds == Kind.INTEGER else "part",
                state.negative,
                tuple(
                    _behind(bound, comparison, digit)
                    for bound, comparison in zip(self.bounds, state.comparisons, strict=True)
                ),
                tuple(
                    _smaller(scaled, rest, digit) for scaled, rest in zip(self.scaled, state.remainders, strict=True)
                ),
            )
        is_zero = digit == 0 and state.phase in ("start", "minus")
        return State(
            "zero" if is_zero else "whole",
            state.negative,
            tuple(_before(bound, comparison, digit)
                  for bound, comparison in zip(self.bounds, state.comparisons, strict=True)),
            tuple(Remainder((rest.rest * 10 + digit) % scaled[0], 0, False)
                  for scaled, rest in zip(self.scaled, state.remainders, strict=True)),
        )  # fmt: skip

    def may_end(self, state: State) -> bool:
        if state.phase in ("start", "minus", "point"):
            return False
        orders = {value: _order(bound, comparison) for value, bound, comparison in
                  zip(self.values, self.bounds, state.comparisons, strict=True)}  # fmt: skip
        divides = {of: _divides(scaled, rest) for of, scaled, rest in
                   zip(self.multiples, self.scaled, state.remainders, strict=True)}  # fmt: skip
        if self.kinds in (Kind.INTEGER, Kind.FRACTION) and divides[Fraction(1)] != (self.kinds == Kind.INTEGER):
            return False
        return all(self.holds(fact, state.negative, orders, divides) for fact in self.facts)

    def holds(
        self, fact: NumberFact, negative: bool, orders: dict[Fraction, int], divides: dict[Fraction, bool]
    ) -> bool:
        if isinstance(fact, Multiple):
            return divides[fact.of] == fact.positive
        is_zero = orders[Fraction(0)] == AT
        size = orders[abs(fact.value)]
        if is_zero:
            order = (fact.value < 0) - (fact.value > 0)
        elif negative != (fact.value < 0):
            order = BELOW if negative else ABOVE
        else:
            order = -size if negative else size
        if isinstance(fact, NotNumber):
            return order != AT
        return (order == AT and not fact.is_strict) or order == (ABOVE if fact.is_lower else BELOW)


def _scaled(of: Fraction) -> tuple[int, int]:
    """A multiple as an integer modulus after so many decimal places."""
    places = 0
    while of.denominator != 1:
        of, places = of * 10, places + 1
    return of.numerator, places


def _before(bound: Magnitude, comparison: Comparison, digit: int) -> Comparison:
    if comparison.decided:
        return comparison
    if comparison.whole == len(bound.whole):
        return Comparison(0, 0, ABOVE, True)
    own = int(bound.whole[comparison.whole])
    return Comparison(comparison.whole + 1, 0, comparison.order or (digit > own) - (digit < own))


def _closed(bound: Magnitude, comparison: Comparison) -> Comparison:
    """At the point: fewer digits are less, as many are as they compared."""
    if comparison.decided:
        return comparison
    if comparison.whole < len(bound.whole):
        return Comparison(0, 0, BELOW, True)
    return Comparison(0, 0, comparison.order, comparison.order != AT)


def _behind(bound: Magnitude, comparison: Comparison, digit: int) -> Comparison:
    if comparison.decided:
        return comparison
    own = int(bound.part[comparison.part]) if comparison.part < len(bound.part) else 0
    if digit != own:
        return Comparison(0, 0, ABOVE if digit > own else BELOW, True)
    return Comparison(0, min(comparison.part + 1, len(bound.part)), AT)


def _order(bound: Magnitude, comparison: Comparison) -> int:
    if comparison.decided:
        return comparison.order
    if comparison.whole:
        comparison = _closed(bound, comparison)
        if comparison.decided:
            return comparison.order
    return BELOW if comparison.part < len(bound.part) else AT


def _smaller(scaled: tuple[int, int], rest: Remainder, digit: int) -> Remainder:
    modulus, places = scaled
    if rest.finer or (rest.part == places and digit):
        return Remainder(0, 0, True)
    return rest if rest.part == places else Remainder((rest.rest * 10 + digit) % modulus, rest.part + 1, False)


def _divides(scaled: tuple[int, int], rest: Remainder) -> bool:
    modulus, places = scaled
    return not rest.finer and rest.rest * 10 ** (places - rest.part) % modulus == 0


def _trimmed(edges: list[list[tuple[str, int]]], ends: set[int]) -> DigitAutomaton:
    """Only edges to states from which a number can still end."""
    sources: list[list[int]] = [[] for _ in edges]
    for source, own in enumerate(edges):
        for _, target in own:
            sources[target].append(source)
    alive, todo = set(ends), list(ends)
    while todo:
        for source in sources[todo.pop()]:
            if source not in alive:
                alive.add(source)
                todo.append(source)
    return DigitAutomaton(tuple(tuple(edge for edge in own if edge[1] in alive) for own in edges), frozenset(ends))
