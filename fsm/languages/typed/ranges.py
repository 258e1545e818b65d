"""Numbers and fixed fields between two bounds, as languages: whole numbers, decimals, the fields of a clock.

Everything is written in one way only: no leading zeros, no sign before zero, no `+`.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from fractions import Fraction
from math import ceil, floor

from stemma.fsm.syntax.ast import Characters, Node
from stemma.fsm.syntax.nodes import EMPTY, NOTHING, choice, concat, repeat, text

MOST_DIGITS = 15
"""Of a number that its type does not bound: as many as a double always keeps, and an end for a model that repeats."""

DIGIT = Characters(((48, 57),))


def digits(low: str, high: str, point: int | None = None) -> Node:
    """The digits from `low` to `high`, which are equally long, with a point before the index `point`."""
    if point == 0:
        return concat((text("."), digits(low, high)))
    if not low:
        return EMPTY
    after = None if point is None else point - 1
    first, last, rest = int(low[0]), int(high[0]), len(low) - 1
    if first == last:
        return concat((text(low[0]), digits(low[1:], high[1:], after)))
    ways: list[Node] = []
    if low[1:] != "0" * rest:
        ways.append(concat((text(low[0]), digits(low[1:], "9" * rest, after))))
        first += 1
    if high[1:] != "9" * rest:
        ways.append(concat((text(high[0]), digits("0" * rest, high[1:], after))))
        last -= 1
    if first <= last:
        ways.append(concat((Characters(((48 + first, 48 + last),)), free(rest, after))))
    return choice(ways)


def free(count: int, point: int | None) -> Node:
    """Any so many digits."""
    if point is None:
        return repeat(DIGIT, count, count)
    return concat((repeat(DIGIT, point, point), text("."), repeat(DIGIT, count - point, count - point)))


def _of_size(low: int, high: int, places: int) -> Node:
    """Numbers from `low` to `high`, not negative, of which the last `places` digits stand behind a point."""
    if low > high:
        return NOTHING
    shortest, longest = (max(len(str(value)), places + 1) for value in (low, high))
    ways = []
    for size in range(shortest, longest + 1):
        least = 0 if size == places + 1 else 10 ** (size - 1)
        first, last = max(low, least), min(high, 10**size - 1)
        if first <= last:
            point = size - places if places else None
            ways.append(digits(str(first).rjust(size, "0"), str(last).rjust(size, "0"), point))
    return choice(ways)


def scaled(low: int, high: int, places: int) -> Node:
    """Numbers from `low` to `high`, of which the last `places` digits stand behind a point."""
    ways = [_of_size(max(low, 0), high, places)]
    if low < 0:
        ways.append(concat((text("-"), _of_size(max(1, -high), -low, places))))
    return choice(ways)


def whole(low: int | None, high: int | None) -> Node:
    """Integers between bounds; where there is none, of at most `MOST_DIGITS` digits more than zero."""
    least, most = filled(low, high)
    return scaled(ceil(least), floor(most), 0)


def filled(low: Fraction | int | None, high: Fraction | int | None) -> tuple[Fraction, Fraction]:
    """Both bounds: one that is missing lies where numbers have more digits than they may."""
    size = max(10**MOST_DIGITS - 1, *(2 * abs(ceil(bound)) for bound in (low, high) if bound is not None), 0)
    return Fraction(-size if low is None else low), Fraction(size if high is None else high)


def decimals(low: Fraction, high: Fraction, is_strict: tuple[bool, bool], places: int) -> Node:
    """Numbers from `low` to `high`, without those where strict, with up to `places` digits behind the point."""
    ways = []
    for count in range(places + 1):
        first, last = low * 10**count, high * 10**count
        least = floor(first) + 1 if is_strict[0] else ceil(first)
        most = ceil(last) - 1 if is_strict[1] else floor(last)
        ways.append(scaled(least, most, count))
    return choice(ways)


def fields(low: Many[int], high: Many[int], limits: Many[tuple[int, int]], separator: str) -> Node:
    """Fields of two digits, such as hours and minutes, between two lists of them, each within its limits."""
    least, most = [limit[0] for limit in limits[1:]], [limit[1] for limit in limits[1:]]
    first, last = low[0], high[0]
    if len(limits) == 1:
        return two_digits(first, last)
    between = text(separator)
    if first == last:
        return concat((two_digits(first, first), between, fields(low[1:], high[1:], limits[1:], separator)))
    ways: list[Node] = []
    if list(low[1:]) != least:
        ways.append(concat((two_digits(first, first), between, fields(low[1:], most, limits[1:], separator))))
        first += 1
    if list(high[1:]) != most:
        ways.append(concat((two_digits(last, last), between, fields(least, high[1:], limits[1:], separator))))
        last -= 1
    if first <= last:
        ways.append(concat((two_digits(first, last), between, fields(least, most, limits[1:], separator))))
    return choice(ways)


def two_digits(low: int, high: int) -> Node:
    return NOTHING if low > high else digits(f"{low:02}", f"{high:02}")
