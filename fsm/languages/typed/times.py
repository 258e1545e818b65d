"""Dates, times and durations as pydantic reads them, between bounds: no year 0000, no leap seconds, six places.

Bounds are inclusive. Where there is one, a time that has an offset is written in UTC, and a duration in one unit.
"""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from functools import cache

from stemma.fsm.languages.regex.regex import Regex
from stemma.fsm.languages.typed.ranges import DIGIT, decimals, digits, fields, two_digits
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.nodes import EMPTY, NOTHING, both, choice, concat, repeat, text

DAY = 86_400
LONGEST = 999_999_999 * DAY
LONGEST_CLOCK = 2**32 - 1
"""Of a duration, and of the part of it that is not said in days, in seconds."""

CLOCK = ((0, 23), (0, 59), (0, 59))
FRACTION = concat((text("."), repeat(DIGIT, 1, 6)))
OFFSET = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"


# Dates -----------------------------------------------------------------------------------------------------------


def date(low: dt.date, high: dt.date) -> Node:
    """`2024-02-29`, between two days."""
    if low > high:
        return NOTHING
    if low.year == high.year:
        return _in_year(low, high)
    first, last = low.year, high.year
    ways = []
    if (low.month, low.day) != (1, 1):
        ways.append(_in_year(low, dt.date(first, 12, 31)))
        first += 1
    if (high.month, high.day) != (12, 31):
        ways.append(_in_year(dt.date(last, 1, 1), high))
        last -= 1
    return choice((*ways, _whole_years(first, last)))


def _in_year(low: dt.date, high: dt.date) -> Node:
    ways = []
    for month in range(low.month, high.month + 1):
        first = low.day if month == low.month else 1
        last = high.day if month == high.month else _days(low.year, month)
        ways.append(concat((two_digits(month, month), text("-"), two_digits(first, last))))
    return concat((text(f"{low.year:04}-"), choice(ways)))


def _days(year: int, month: int) -> int:
    return 31 if month == 12 else (dt.date(year, month + 1, 1) - dt.date(year, month, 1)).days


def _whole_years(first: int, last: int) -> Node:
    if first > last:
        return NOTHING
    years = digits(f"{first:04}", f"{last:04}")
    leap = _language("[0-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00")
    if (first, last) != (dt.MINYEAR, dt.MAXYEAR):
        leap = both(years, leap)
    return choice((concat((years, _any_day())), concat((leap, text("-02-29")))))


@cache
def _any_day() -> Node:
    return _language("-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
                     "|02-(?:0[1-9]|1[0-9]|2[0-8]))")  # fmt: skip


@cache
def _language(source: str) -> Node:
    return Regex(source).language()


# Times -----------------------------------------------------------------------------------------------------------


def clock(low: dt.time, high: dt.time) -> Node:
    """`23:59:59.999999`, between two times of a day."""
    first, last = _seconds(low), _seconds(high)
    if low.microsecond:
        first += 1
    ways = []
    if first <= last:
        ways.append(fields(_fields(first), _fields(last), CLOCK, ":"))
    if first < last:
        ways.append(concat((fields(_fields(first), _fields(last - 1), CLOCK, ":"), FRACTION)))
    if first <= last and high.microsecond == 999_999:
        ways.append(concat((fields(_fields(last), _fields(last), CLOCK, ":"), FRACTION)))
    return choice(ways)


def _seconds(time: dt.time) -> int:
    return time.hour * 3600 + time.minute * 60 + time.second


def _fields(seconds: int) -> tuple[int, int, int]:
    return seconds // 3600, seconds // 60 % 60, seconds % 60


def date_time(low: dt.datetime, high: dt.datetime) -> Node:
    """A date, `T` and a time, between two of both."""
    if low > high:
        return NOTHING
    first, last = low.date(), high.date()
    if first == last:
        return _at(date(first, first), low.time(), high.time())
    ways = []
    if low.time() != dt.time.min:
        ways.append(_at(date(first, first), low.time(), dt.time.max))
        first += dt.timedelta(1)
    if high.time() != dt.time.max:
        ways.append(_at(date(last, last), dt.time.min, high.time()))
        last -= dt.timedelta(1)
    return choice((*ways, _at(date(first, last), dt.time.min, dt.time.max)))


def _at(day: Node, low: dt.time, high: dt.time) -> Node:
    return concat((day, text("T"), clock(low, high)))


def zone(name: str) -> Node:
    """What follows a time: any offset, UTC's, or none."""
    return {"aware": _language(OFFSET), "utc": text("Z"), "naive": EMPTY}[name]


# Durations -------------------------------------------------------------------------------------------------------


def duration(low: Fraction | None, high: Fraction | None) -> Node:
    """ISO 8601, of so many seconds; any combination of units where there is no bound."""
    if low is None and high is None:
        number = "[0-9]{1,3}"
        part = rf"(?:{number}H)?(?:{number}M)?{number}(?:\.[0-9]{{1,6}})?S|(?:{number}H)?{number}M|{number}H"
        day = rf"(?:{number}Y)?(?:{number}M)?[0-9]{{1,5}}D|(?:{number}Y)?{number}M|{number}Y"
        return _language(f"-?P(?:[0-9]{{1,5}}W|(?:{day})(?:T(?:{part}))?|T(?:{part}))")
    least = Fraction(-LONGEST) if low is None else max(low, Fraction(-LONGEST))
    most = Fraction(LONGEST) if high is None else min(high, Fraction(LONGEST))
    first, last = max(least, Fraction(-LONGEST_CLOCK)), min(most, Fraction(LONGEST_CLOCK))
    return choice((
        *_signed(least, most, DAY, 0, "P", "D"), *_signed(first, last, 3600, 0, "PT", "H"),
        *_signed(first, last, 60, 0, "PT", "M"), *_signed(first, last, 1, 6, "PT", "S"),
    ))  # fmt: skip


def _signed(low: Fraction, high: Fraction, unit: int, places: int, before: str, behind: str) -> list[Node]:
    """The sign stands before the `P`."""
    ways = []
    for sign, least, most in (("", max(low, Fraction(0)), high), ("-", max(-high, Fraction(0)), -low)):
        if least <= most and (sign == "" or most > 0):
            number = decimals(least / unit, most / unit, (sign == "-" and least == 0, False), places)
            ways.append(concat((text(sign + before), number, text(behind))))
    return ways
