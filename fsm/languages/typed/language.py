"""`python-date;ge=2024-01-01`: the names of languages that JSON Schema's `format` has no words for.

A name and its parameters, with semicolons between. They stand in schemas as `x-stemma-format`, which the forms of
Python types write and `json_schema/readers.py` reads.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from zoneinfo import available_timezones

from stemma.fsm.languages.typed import addresses, codes, ranges, times
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.nodes import ANY_TEXT, choice, concat, text

Parameters = Mapping[str, str]
KEYWORD = "x-stemma-format"
LONGEST_NAME = 2_000
WHOLE = re.compile("-?[0-9]{1,40}")
NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40}|/[1-9][0-9]{0,40})?(?:e-?[0-9]{1,2})?")


def named(kind: str, **parameters: object) -> str:
    """The name of a language; parameters that are None are left out."""
    settings = (f"{key}={value}" for key, value in parameters.items() if value is not None)
    return ";".join((f"python-{kind}", *settings))


@lru_cache(maxsize=512)
def typed_language(name: str) -> Node:
    """The texts of a named language. Raises ValueError for a name or a parameter that says nothing."""
    kind, _, rest = name.partition(";")
    made = _MAKERS.get(kind)
    if made is None:
        raise ValueError(f"unknown; there are {', '.join(sorted(_MAKERS))}")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"longer than {LONGEST_NAME} characters")
    given = dict(part.partition("=")[::2] for part in rest.split(";") if part)
    maker, allowed = made
    unknown = given.keys() - set(allowed)
    if unknown:
        raise ValueError(f"{kind} has no {', '.join(sorted(unknown))}; it has {', '.join(allowed) or 'no parameters'}")
    return maker(given)


def _count(given: Parameters, key: str) -> int | None:
    if key in given and not WHOLE.fullmatch(given[key]):
        raise ValueError(f"{key} is a whole number of few digits")
    return int(given[key]) if key in given else None


def _sizes(given: Parameters) -> tuple[int, int | None]:
    return _count(given, "min") or 0, _count(given, "max")


def _number(given: Parameters, key: str) -> Fraction | None:
    if key in given and not NUMBER.fullmatch(given[key]):
        raise ValueError(f"{key} is a number of few digits")
    return Fraction(given[key]) if key in given else None


def _date(given: Parameters) -> Node:
    low, high = given.get("ge", "0001-01-01"), given.get("le", "9999-12-31")
    return times.date(dt.date.fromisoformat(low), dt.date.fromisoformat(high))


def _date_time(given: Parameters) -> Node:
    low, high = given.get("ge"), given.get("le")
    moment = times.date_time(
        dt.datetime.min if low is None else dt.datetime.fromisoformat(low),
        dt.datetime.max if high is None else dt.datetime.fromisoformat(high),
    )
    return concat((moment, times.zone(given.get("zone", "aware"))))


def _time(given: Parameters) -> Node:
    low, high = given.get("ge"), given.get("le")
    clock = times.clock(
        dt.time.min if low is None else dt.time.fromisoformat(low),
        dt.time.max if high is None else dt.time.fromisoformat(high),
    )
    return concat((clock, times.zone(given.get("zone", "aware"))))


def _integer(given: Parameters) -> Node:
    return ranges.whole(_count(given, "ge"), _count(given, "le"))


def _decimal(given: Parameters) -> Node:
    low, high = _number(given, "ge"), _number(given, "le")
    strict = ("gt" in given, "lt" in given)
    least, most = ranges.filled(_number(given, "gt") if strict[0] else low, _number(given, "lt") if strict[1] else high)
    return ranges.decimals(least, most, strict, _count(given, "places") or 0)


def _zones(given: Parameters) -> Node:
    return choice(map(text, sorted(available_timezones())))


def _url(given: Parameters) -> Node:
    schemes = tuple(filter(None, given.get("schemes", "").split(",")))
    return addresses.url(schemes, _count(given, "max"), many_hosts="hosts" in given, with_host="host" in given)


def _internet(kind: str, version: int | None) -> tuple[Callable[[Parameters], Node], tuple[str, ...]]:
    return lambda given: addresses.internet(kind, version), ()


TYPED_LENGTHS = frozenset(
    ("python-bytes", "python-base64", "python-base64url", "python-base64-text", "python-base64url-text", "python-hex")
)
"""The languages whose lengths count what their texts stand for."""

_BETWEEN = ("ge", "le")
_SIZE = ("min", "max")
_MAKERS: dict[str, tuple[Callable[[Parameters], Node], tuple[str, ...]]] = {
    "python-date": (_date, _BETWEEN),
    "python-date-time": (_date_time, (*_BETWEEN, "zone")),
    "python-time": (_time, (*_BETWEEN, "zone")),
    "python-duration": (lambda given: times.duration(_number(given, "ge"), _number(given, "le")), _BETWEEN),
    "python-uuid": (lambda given: addresses.uuid(_count(given, "version")), ("version",)),
    "python-ipv4": _internet("address", 4),
    "python-ipv6": _internet("address", 6),
    "python-ip": _internet("address", None),
    "python-ipv4-network": _internet("network", 4),
    "python-ipv6-network": _internet("network", 6),
    "python-ip-network": _internet("network", None),
    "python-ipv4-interface": _internet("interface", 4),
    "python-ipv6-interface": _internet("interface", 6),
    "python-ip-interface": _internet("interface", None),
    "python-email": (lambda given: addresses.email(), ()),
    "python-name-email": (lambda given: addresses.named_email(), ()),
    "python-url": (_url, ("schemes", "max", "hosts", "host")),
    "python-integer": (_integer, _BETWEEN),
    "python-decimal": (_decimal, (*_BETWEEN, "gt", "lt", "places")),
    "python-bytes": (lambda given: codes.encoded(*_sizes(given)), _SIZE),
    "python-base64": (lambda given: codes.base64(*_sizes(given), of_urls=False, of_ascii=False), _SIZE),
    "python-base64url": (lambda given: codes.base64(*_sizes(given), of_urls=True, of_ascii=False), _SIZE),
    "python-base64-text": (lambda given: codes.base64(*_sizes(given), of_urls=False, of_ascii=True), _SIZE),
    "python-base64url-text": (lambda given: codes.base64(*_sizes(given), of_urls=True, of_ascii=True), _SIZE),
    "python-hex": (lambda given: codes.hexadecimal(*_sizes(given)), _SIZE),
    "python-stripped": (lambda given: codes.stripped(), ()),
    "python-ascii": (lambda given: codes.ascii_text(), ()),
    "python-fraction": (lambda given: codes.fraction(), ()),
    "python-complex": (lambda given: codes.complex_number(), ()),
    "python-regex": (lambda given: codes.pattern(), ()),
    "python-colour": (lambda given: codes.colour(), ()),
    "python-timezone": (_zones, ()),
    "python-text": (lambda given: ANY_TEXT, ()),
}
