"""The formats that are enforced, each as a regular language. A format that is not here is an annotation.

Sources: RFC 3339 (dates and times), RFC 5321 (mail), RFC 1123 (hosts), RFC 4291 (IPv6), RFC 3986/3987 (URI, IRI),
RFC 6570 (URI templates), RFC 6901 (JSON pointers), RFC 4122 (UUID), ISO 8601 as in RFC 3339 appendix A (durations).
"""

from __future__ import annotations

from functools import cache

from stemma.fsm.ast import Node
from stemma.fsm.nodes import both, repeat
from stemma.fsm.regex import Regex
from stemma.fsm.typed.language import typed_language

_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)"
)
_CLOCK = r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
_OFFSET = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
_TIME = rf"(?:{_CLOCK}{_OFFSET}|23:59:60(?:\.[0-9]+)?(?:[Zz]|[+-]00:00))"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_H16 = "[0-9A-Fa-f]{1,4}"
_LS32 = rf"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6 = "(?:" + "|".join((
    rf"(?:{_H16}:){{6}}{_LS32}", rf"::(?:{_H16}:){{5}}{_LS32}", rf"(?:{_H16})?::(?:{_H16}:){{4}}{_LS32}",
    rf"(?:(?:{_H16}:){{0,1}}{_H16})?::(?:{_H16}:){{3}}{_LS32}",
    rf"(?:(?:{_H16}:){{0,2}}{_H16})?::(?:{_H16}:){{2}}{_LS32}",
    rf"(?:(?:{_H16}:){{0,3}}{_H16})?::{_H16}:{_LS32}", rf"(?:(?:{_H16}:){{0,4}}{_H16})?::{_LS32}",
    rf"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}", rf"(?:(?:{_H16}:){{0,6}}{_H16})?::",
)) + ")"  # fmt: skip

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"'
_EMAIL = rf"(?:{_ATEXT}+(?:\.{_ATEXT}+)*|{_QUOTED})@(?:{_HOST}|\[(?:{_IPV4}|IPv6:{_IPV6})\])"
_BEYOND = (
    r"\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U0010fffd"  # ucschar, roughly: no private or special ones
)
_IDN_EMAIL = _EMAIL.replace("A-Za-z0-9", rf"A-Za-z0-9{_BEYOND}")
_IDN_HOST = _HOST.replace("A-Za-z0-9", rf"A-Za-z0-9{_BEYOND}")


def _uri(beyond: str, reference: bool) -> str:
    """The grammar of RFC 3986, or of RFC 3987 where characters `beyond` ASCII are allowed."""
    escaped = "%[0-9A-Fa-f]{2}"
    plain = rf"A-Za-z0-9._~!$&'()*+,;={beyond}-"
    pchar = rf"(?:[:@{plain}]|{escaped})"
    user = rf"(?:(?:[:{plain}]|{escaped})*@)?"
    host = rf"(?:\[(?:{_IPV6}|v[0-9A-Fa-f]+\.[:{plain}]+)\]|(?:[{plain}]|{escaped})*)"
    absolute_path = rf"/(?:{pchar}+(?:/{pchar}*)*)?"
    hierarchical = rf"(?://{user}{host}(?::[0-9]*)?(?:/{pchar}*)*|{absolute_path}|{pchar}+(?:/{pchar}*)*)?"
    tail = rf"(?:\?(?:{pchar}|[/?])*)?(?:#(?:{pchar}|[/?])*)?"
    scheme = r"[A-Za-z][A-Za-z0-9+.-]*:"
    if not reference:
        return rf"{scheme}{hierarchical}{tail}"
    no_colon = pchar.replace(":@", "@", 1)
    relative = rf"(?://{user}{host}(?::[0-9]*)?(?:/{pchar}*)*|{absolute_path}|{no_colon}+(?:/{pchar}*)*)?"
    return rf"(?:{scheme}{hierarchical}{tail}|{relative}{tail})"


_TEMPLATE_NAME = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*(?:\*|:[1-9][0-9]{0,3})?"
_TEMPLATE = (
    rf"(?:[^\x00-\x20\"'%<>\\^`{{|}}]|%[0-9A-Fa-f]{{2}}|\{{[+#./;?&=,!@|]?{_TEMPLATE_NAME}(?:,{_TEMPLATE_NAME})*\}})*"
)
_POINTER = r"(?:/(?:[^~/]|~[01])*)*"
_CLOCK_PART = r"(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DAY_PART = r"(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"

_SOURCES = {
    "date": _DATE,
    "time": _TIME,
    "date-time": rf"{_DATE}[Tt]{_TIME}",
    "duration": rf"P(?:[0-9]+W|{_DAY_PART}(?:T{_CLOCK_PART})?|T{_CLOCK_PART})",
    "email": _EMAIL,
    "idn-email": _IDN_EMAIL,
    "hostname": _HOST,
    "idn-hostname": _IDN_HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uri": _uri("", reference=False),
    "uri-reference": _uri("", reference=True),
    "iri": _uri(_BEYOND, reference=False),
    "iri-reference": _uri(_BEYOND, reference=True),
    "uri-template": _TEMPLATE,
    "json-pointer": _POINTER,
    "relative-json-pointer": rf"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
    "uuid": r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
_LONGEST_HOST = 253

FORMATS = frozenset(_SOURCES)


@cache
def format_language(name: str) -> Node:
    """The texts of an enforced format, or of a language that `x-stemma-format` names."""
    if name.startswith("python-"):
        return typed_language(name)
    language = Regex(f"(?s:{_SOURCES[name]})").language()
    if name in ("hostname", "idn-hostname"):
        return both(language, repeat(Regex("(?s:.)").language(), 1, _LONGEST_HOST))
    return language
