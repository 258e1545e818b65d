"""pydantic's core schemas of numbers, texts, times and addresses as JSON Schemas that say all that they know.

Numbers stay among those that a double keeps, so that a bound still holds when their text was read.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from stemma.fsm.errors import FormError
from stemma.fsm.languages.typed.language import KEYWORD, named
from stemma.fsm.languages.typed.ranges import MOST_DIGITS

JSON = dict[str, Any]
MICROSECOND = dt.timedelta(microseconds=1)
USUAL_PLACES = 6
SURE_DIGITS = 6  # of the whole part of a multiple of a double that is none of a power of two
FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "a": re.ASCII, "x": re.VERBOSE}
LONG_AGO = 2  # days: `now` is another day elsewhere, and a form is kept for one


# Numbers ---------------------------------------------------------------------------------------------------------


class Between(NamedTuple):
    """Bounds of a number, and which are strict."""

    low: Fraction | None
    high: Fraction | None
    above: bool
    below: bool

    @property
    def whole_digits(self) -> int:
        return max((len(str(abs(int(bound)))) for bound in (self.low, self.high) if bound is not None), default=1)


def between(core: Mapping[str, Any]) -> Between:
    """The bounds of a core schema; the closer of two on one side."""
    low = [(exact(core[key]), key == "gt") for key in ("ge", "gt") if _is_bound(core.get(key))]
    high = [(exact(core[key]), key != "lt") for key in ("le", "lt") if _is_bound(core.get(key))]
    least, above = max(low, default=(None, False))
    most, not_below = min(high, default=(None, True))
    return Between(least, most, above, not not_below)


def exact(value: Any) -> Fraction:
    """A number as it is written: a float by its digits."""
    return Fraction(str(value)) if isinstance(value, float) else Fraction(value)


def _is_bound(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def integer(core: Mapping[str, Any]) -> JSON:
    return {"type": "integer", **_bounds(between(core)), **_multiple(core.get("multiple_of"))}


def real(core: Mapping[str, Any]) -> JSON:
    """A float. One digit more may round a text to a bound that it must not reach: then its places are counted.

    pydantic divides doubles to see whether one is a multiple of another: where they are large, its remainder is wrong.
    """
    bounds, multiple = between(core), core.get("multiple_of")
    if multiple is not None:
        denominator = exact(multiple).denominator
        is_sure = denominator & (denominator - 1) == 0
        return _within(bounds, exact(multiple), Fraction(10 ** (MOST_DIGITS if is_sure else SURE_DIGITS)))
    is_close = (bounds.above and bounds.low != 0) or (bounds.below and bounds.high != 0)
    if is_close:
        return {"type": "number", **_bounds(bounds), **_multiple(Fraction(1, 10 ** places_for(bounds)))}
    return {"type": "number", **_bounds(bounds)}


def decimal(core: Mapping[str, Any]) -> JSON:
    """A Decimal, as a JSON number: pydantic reads it from the digits that are written, up to those of a double."""
    bounds, multiple = between(core), core.get("multiple_of")
    total, places = core.get("max_digits"), core.get("decimal_places")
    if total is None and places is None and multiple is None and bounds.low is None and bounds.high is None:
        return {"type": "number"}
    if total is None:
        most = max(0, MOST_DIGITS - bounds.whole_digits)
        return _on_grid(bounds, multiple, min(places_for(bounds) if places is None else places, most), None)
    total = min(total, MOST_DIGITS)
    if places is not None and places >= total:  # nothing before the point, where zero has a digit
        zero = Fraction(0)
        low, high, above, below = bounds
        ways = [
            Between(max(low or zero, zero), high, above or low is None or low <= 0, below),
            Between(low, min(high or zero, zero), above, below or high is None or high >= 0),
        ]
        return any_of([_on_grid(way, multiple, total, total) for way in ways])
    if places is not None:
        return _on_grid(bounds, multiple, places, total)
    scales = sorted({0, min(2, total), total // 2, total} if total > 4 else range(total + 1))
    return any_of([_on_grid(bounds, multiple, scale, total) for scale in scales])


def _on_grid(bounds: Between, multiple: Any, places: int, digits: int | None) -> JSON:
    """Numbers of at most so many digits, if that is said, some of them behind the point, and multiples of another."""
    step = Fraction(1, 10**places)
    if multiple is not None:
        step, digits = _common(step, exact(multiple)), MOST_DIGITS if digits is None else digits
    return _within(bounds, step, None if digits is None else Fraction(10) ** (digits - places))


def _within(bounds: Between, step: Fraction, limit: Fraction | None) -> JSON:
    """Multiples of `step` between the bounds and, if there is one, below a limit on both sides of zero."""
    low, high, above, below = bounds
    if limit is not None and (low is None or low <= -limit):
        low, above = -limit, True
    if limit is not None and (high is None or high >= limit):
        high, below = limit, True
    return {"type": "number", **_bounds(Between(low, high, above, below)), **_multiple(step)}


def _common(left: Fraction, right: Fraction) -> Fraction:
    """The least number that is a multiple of both."""
    return Fraction(math.lcm(left.numerator, right.numerator), math.gcd(left.denominator, right.denominator))


def places_for(bounds: Between) -> int:
    """How many places a number between the bounds may have: few, but some of them lie between."""
    places = USUAL_PLACES
    if bounds.low is not None and bounds.high is not None and bounds.low < bounds.high:
        places = max(places, 2 - math.floor(math.log10(bounds.high - bounds.low)))
    return max(0, min(places, MOST_DIGITS - bounds.whole_digits))


def _bounds(bounds: Between) -> JSON:
    found: JSON = {}
    if bounds.low is not None:
        found["exclusiveMinimum" if bounds.above else "minimum"] = _number(bounds.low)
    if bounds.high is not None:
        found["exclusiveMaximum" if bounds.below else "maximum"] = _number(bounds.high)
    return found


def _multiple(of: Any) -> JSON:
    return {} if of is None else {"multipleOf": _number(exact(of))}


def _number(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def fraction(core: Mapping[str, Any]) -> JSON:
    """A text: `3/4` where there is no bound, and otherwise a decimal, which is read without rounding."""
    bounds = between(core)
    if bounds.low is None and bounds.high is None:
        return text("fraction", "fraction")
    return text("fraction", "decimal", **_limits(bounds), places=USUAL_PLACES)


def _limits(bounds: Between) -> dict[str, Fraction | None]:
    return {"gt" if bounds.above else "ge": bounds.low, "lt" if bounds.below else "le": bounds.high}


def any_of(schemas: list[JSON]) -> JSON:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


# Texts -----------------------------------------------------------------------------------------------------------


def text(known_as: str | None, kind: str, **parameters: object) -> JSON:
    """A string of a language of ours, with the format that others may know."""
    noted = {} if known_as is None else {"format": known_as}
    return {"type": "string", **noted, KEYWORD: named(kind, **parameters)}


def pattern(expression: str | re.Pattern[str], engine: str) -> JSON:
    """A pattern and the dialect that it is read in, which is searched for."""
    if isinstance(expression, re.Pattern):
        flags = "".join(letter for letter, flag in FLAGS.items() if expression.flags & flag)
        return {
            "pattern": f"(?{flags}:{expression.pattern})" if flags else expression.pattern,
            "x-stemma-regex": "python",
        }
    return {"pattern": expression, "x-stemma-regex": "python" if engine == "python-re" else "rust"}


def encoded(core: Mapping[str, Any], how: str) -> JSON:
    """Bytes: as UTF-8, in base64 or in hexadecimal; lengths count bytes."""
    sizes = {"min": core.get("min_length") or None, "max": core.get("max_length")}
    if how == "base64":
        return text("base64url", "base64url", **sizes)
    if how == "hex":
        return text(None, "hex", **sizes)
    return {"type": "string", "format": "binary"} if set(sizes.values()) == {None} else text("binary", "bytes", **sizes)


def url(core: Mapping[str, Any], many_hosts: bool) -> JSON:
    schemes = core.get("allowed_schemes") or ()
    if schemes and not any(scheme == scheme.lower() for scheme in schemes):
        raise FormError(f"no URL has a scheme of {', '.join(schemes)}: schemes are read in small letters")
    return text("multi-host-uri" if many_hosts else "uri", "url", schemes=",".join(schemes) or None,
                max=core.get("max_length"), hosts="many" if many_hosts else None,
                host="needed" if core.get("host_required") and "file" in schemes else None)  # fmt: skip


# Times -----------------------------------------------------------------------------------------------------------


def date(core: Mapping[str, Any], now: dt.datetime) -> JSON:
    low = _closest(core, ("ge", "gt"), dt.timedelta(days=1), max)
    high = _closest(core, ("le", "lt"), dt.timedelta(days=-1), min)
    if core.get("now_op") == "past":
        high = min(filter(None, (high, now.date() - dt.timedelta(days=LONG_AGO))))
    elif core.get("now_op") == "future":
        low = max(filter(None, (low, now.date() + dt.timedelta(days=LONG_AGO + 1))))
    return text("date", "date", ge=low, le=high)


def date_time(core: Mapping[str, Any], now: dt.datetime) -> JSON:
    zone = _zone(core)
    low = _closest(core, ("ge", "gt"), MICROSECOND, max)
    high = _closest(core, ("le", "lt"), -MICROSECOND, min)
    here = now if zone == "naive" else now.replace(tzinfo=dt.UTC)
    if core.get("now_op") == "past":
        high = min(filter(None, (high, here - dt.timedelta(days=LONG_AGO))))
    elif core.get("now_op") == "future":
        low = max(filter(None, (low, here + dt.timedelta(days=LONG_AGO + 1))))
    if zone == "aware" and (low or high):
        zone = "utc"
    shown = [None if bound is None else _in_utc(bound).isoformat() for bound in (low, high)]
    return text(None if zone == "naive" else "date-time", "date-time", ge=shown[0], le=shown[1],
                zone=None if zone == "aware" else zone)  # fmt: skip


def _in_utc(bound: dt.datetime) -> dt.datetime:
    return bound if bound.tzinfo is None else bound.astimezone(dt.UTC).replace(tzinfo=None)


def _zone(core: Mapping[str, Any]) -> str:
    """Whether an offset is written: where the type leaves it open, as its bounds have one or not."""
    asked = core.get("tz_constraint")
    if isinstance(asked, int):
        raise FormError("an offset of a certain size is not enforced; use AwareDatetime")
    has_offset = {core[key].tzinfo is not None for key in ("ge", "gt", "le", "lt") if core.get(key) is not None}
    if len(has_offset) > 1 or (asked and has_offset and (asked == "aware") not in has_offset):
        raise FormError("some of the bounds have an offset and others have none, so that no time compares with all")
    return asked or ("naive" if has_offset == {False} else "aware")


def _closest(core: Mapping[str, Any], keys: tuple[str, str], step: dt.timedelta, of: Any) -> Any:
    """The closer of two bounds, the strict one moved by a step."""
    found = [core[keys[0]]] if core.get(keys[0]) is not None else []
    if core.get(keys[1]) is not None:
        found.append(core[keys[1]] + step)
    return of(found, default=None)


def time(core: Mapping[str, Any]) -> JSON:
    zone = _zone(core)
    low = _moved(core, ("ge", "gt"), MICROSECOND, max)
    high = _moved(core, ("le", "lt"), -MICROSECOND, min)
    if zone == "aware" and (low or high):
        if any(bound is not None and bound.utcoffset() != dt.timedelta(0) for bound in (low, high)):
            raise FormError("bounds of a time with an offset other than UTC's are not enforced; give them in UTC")
        zone = "utc"
    shown = [None if bound is None else bound.replace(tzinfo=None).isoformat() for bound in (low, high)]
    return text(None if zone == "naive" else "time", "time", ge=shown[0], le=shown[1],
                zone=None if zone == "aware" else zone)  # fmt: skip


def _moved(core: Mapping[str, Any], keys: tuple[str, str], step: dt.timedelta, of: Any) -> dt.time | None:
    """As `_closest`, of times without a day."""
    day = dt.date(2000, 1, 2)
    moments = {key: dt.datetime.combine(day, core[key]) for key in keys if core.get(key) is not None}
    found = _closest(moments, keys, step, of)
    if found is not None and found.date() != day:
        raise FormError("no time of a day lies beyond its first or its last")
    return None if found is None else found.timetz()


def duration(core: Mapping[str, Any]) -> JSON:
    low = _closest(core, ("ge", "gt"), MICROSECOND, max)
    high = _closest(core, ("le", "lt"), -MICROSECOND, min)
    return text("duration", "duration", ge=_seconds(low), le=_seconds(high))


def _seconds(value: dt.timedelta | None) -> Fraction | None:
    return None if value is None else Fraction(value // MICROSECOND, 1_000_000)
