"""The formats that are enforced, each as a regular language. A format that is not here is an annotation.

Sources: RFC 3339 (dates and times), RFC 4291 (IPv6), RFC 3986/3987 (URI, IRI), RFC 6570 (URI templates), RFC 6901 (JSON
pointers), RFC 4122 (UUID), ISO 8601 as in RFC 3339 appendix A (durations); for the others their own files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from stemma.fsm.languages.json_schema import host_names
from stemma.fsm.languages.json_schema.regex_format import pattern_texts
from stemma.fsm.languages.regex.regex import Regex
from stemma.fsm.languages.typed.language import typed_language
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.nodes import choice, concat, text

LONGEST_FRACTION = 18  # digits of a second, so that a model that writes zeros comes to an end
LONGEST_COUNT = 80  # digits of one number of a duration or a relative pointer

_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)"
)
_FRACTION = rf"(?:\.[0-9]{{1,{LONGEST_FRACTION}}})?"
_OFFSET = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
TIME = rf"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]{_FRACTION}{_OFFSET})"

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_H16 = "[0-9A-Fa-f]{1,4}"
_LS32 = rf"(?:{_H16}:{_H16}|{IPV4})"
IPV6 = "(?:" + "|".join((
    rf"(?:{_H16}:){{6}}{_LS32}", rf"::(?:{_H16}:){{5}}{_LS32}", rf"(?:{_H16})?::(?:{_H16}:){{4}}{_LS32}",
    rf"(?:(?:{_H16}:){{0,1}}{_H16})?::(?:{_H16}:){{3}}{_LS32}",
    rf"(?:(?:{_H16}:){{0,2}}{_H16})?::(?:{_H16}:){{2}}{_LS32}",
    rf"(?:(?:{_H16}:){{0,3}}{_H16})?::{_H16}:{_LS32}", rf"(?:(?:{_H16}:){{0,4}}{_H16})?::{_LS32}",
    rf"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}", rf"(?:(?:{_H16}:){{0,6}}{_H16})?::",
)) + ")"  # fmt: skip

_UCSCHAR = (
    r"\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef"
    + "".join(rf"\U000{plane:x}0000-\U000{plane:x}fffd" for plane in range(1, 14))
    + r"\U000e1000-\U000efffd"
)
_IPRIVATE = r"\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"


def _uri(beyond: str, private: str, reference: bool) -> str:
    """The grammar of RFC 3986, or of RFC 3987: characters `beyond` ASCII are allowed, `private` ones in queries."""
    escaped = "%[0-9A-Fa-f]{2}"
    plain = rf"A-Za-z0-9._~!$&'()*+,;={beyond}-"
    pchar = rf"(?:[:@{plain}]|{escaped})"
    user = rf"(?:(?:[:{plain}]|{escaped})*@)?"
    host = rf"(?:\[(?:{IPV6}|[Vv][0-9A-Fa-f]+\.[:{plain}]+)\]|(?:[{plain}]|{escaped})*)"
    absolute_path = rf"/(?:{pchar}+(?:/{pchar}*)*)?"
    hierarchical = rf"(?://{user}{host}(?::[0-9]*)?(?:/{pchar}*)*|{absolute_path}|{pchar}+(?:/{pchar}*)*)?"
    tail = rf"(?:\?(?:{pchar}|[/?{private}])*)?(?:#(?:{pchar}|[/?])*)?"
    scheme = r"[A-Za-z][A-Za-z0-9+.-]*:"
    if not reference:
        return rf"{scheme}{hierarchical}{tail}"
    no_colon = pchar.replace(":@", "@", 1)
    relative = rf"(?://{user}{host}(?::[0-9]*)?(?:/{pchar}*)*|{absolute_path}|{no_colon}+(?:/{pchar}*)*)?"
    return rf"(?:{scheme}{hierarchical}{tail}|{relative}{tail})"


_TEMPLATE_NAME = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*(?:\*|:[1-9][0-9]{0,3})?"
_EXPRESSION = rf"\{{[+#./;?&=,!@|]?{_TEMPLATE_NAME}(?:,{_TEMPLATE_NAME})*\}}"
_TEMPLATE = rf"(?:[^\x00-\x20\"%<>\\^`{{|}}\x7f]|%[0-9A-Fa-f]{{2}}|{_EXPRESSION})*"
_POINTER = r"(?:/(?:[^~/]|~[01])*)*"
_NUMBER = rf"[0-9]{{1,{LONGEST_COUNT}}}"


def _duration(number: str) -> str:
    clock = rf"(?:{number}H(?:{number}M(?:{number}S)?)?|{number}M(?:{number}S)?|{number}S)"
    day = rf"(?:{number}Y(?:{number}M(?:{number}D)?)?|{number}M(?:{number}D)?|{number}D)"
    return rf"P(?:{number}W|{day}(?:T{clock})?|T{clock})"


_SOURCES = {
    "date": _DATE,
    "duration": _duration(_NUMBER),
    "ipv4": IPV4,
    "ipv6": IPV6,
    "uri": _uri("", "", reference=False),
    "uri-reference": _uri("", "", reference=True),
    "iri": _uri(_UCSCHAR, _IPRIVATE, reference=False),
    "iri-reference": _uri(_UCSCHAR, _IPRIVATE, reference=True),
    "uri-template": _TEMPLATE,
    "json-pointer": _POINTER,
    "relative-json-pointer": rf"(?:0|[1-9][0-9]{{0,{LONGEST_COUNT - 1}}})(?:#|{_POINTER})",
    "uuid": r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
_LITERALS = rf"{IPV4}|IPv6:{IPV6}"
_BUILT: dict[str, Callable[[], Node]] = {
    "hostname": host_names.host_name,
    "idn-hostname": host_names.internationalised_host_name,
    "email": lambda: host_names.mail_address(_LITERALS),
    "idn-email": lambda: host_names.internationalised_mail_address(_LITERALS),
    "regex": pattern_texts,
}
# What is written of these formats is not all that there is of them; beyond these texts there is nothing of them.
_ANY_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?" + _OFFSET
_WIDER = {
    "time": _ANY_TIME,
    "date-time": rf"{_DATE}[Tt]{_ANY_TIME}",
    "duration": _duration("[0-9]+"),
    "relative-json-pointer": rf"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
    "hostname": host_names.WIDER_HOST,
    "idn-hostname": host_names.WIDER_FOREIGN_HOST,
    "email": r".+@.+",
    "idn-email": r".+@.+",
    "regex": r"(?:[^*+?(){}\[\]\\].*|[(\[\\].+)?",
}
LEAP_MINUTES = (29, 59)
OF_TIMES = {"time": "", "date-time": rf"{_DATE}[Tt]"}  # and what stands before the time of day

FORMATS = frozenset((*_SOURCES, *_BUILT, *OF_TIMES))
# The first draft that knows a format, where that is a later one: for those before, no text violates it.
SINCE = {
    **dict.fromkeys(("uri-reference", "uri-template", "json-pointer"), 6),
    **dict.fromkeys(("idn-hostname", "iri", "iri-reference", "relative-json-pointer"), 7),
    **dict.fromkeys(("duration", "uuid"), 2019),
}


@cache
def leap_minute(minute: int) -> Node:
    """What follows the hour of a leap second, up to its offset."""
    return Regex(rf":{minute}:60{_FRACTION}").language()


@cache
def leap_offset(hour: int, minute: int) -> Node:
    """The offsets at which a time of day is 23:59 in UTC."""
    east, west = divmod(hour * 60 + minute + 1, 60), (23 - hour, 59 - minute)
    offsets = rf"\+{east[0] % 24:02}:{east[1]:02}|-{west[0]:02}:{west[1]:02}"
    return Regex(f"{offsets}|[Zz]" if west == (0, 0) else offsets).language()


@cache
def format_language(name: str) -> Node:
    """The texts that are written of an enforced format, all of them valid, or of what `x-stemma-format` names."""
    if name.startswith("python-"):
        return typed_language(name)
    if name in OF_TIMES:
        return time_language(name, leap_minute, leap_offset)
    return Regex(f"(?s:{_SOURCES[name]})").language() if name in _SOURCES else _BUILT[name]()


def time_language(name: str, minute: Callable[[int], Node], offset: Callable[[int, int], Node]) -> Node:
    """A time of day, and what stands before it; a leap second for offsets of whole and half hours."""
    leaps = (
        concat((text(f"{hour:02}"), choice(concat((minute(m), offset(hour, m))) for m in LEAP_MINUTES)))
        for hour in range(24)
    )
    return concat((Regex(OF_TIMES[name]).language(), choice((Regex(TIME).language(), *leaps))))


@cache
def wider_language(name: str) -> Node:
    """Texts beyond which there are none of a format: what is outside is surely not valid."""
    return Regex(f"(?s:{_WIDER[name]})").language() if name in _WIDER else format_language(name)
