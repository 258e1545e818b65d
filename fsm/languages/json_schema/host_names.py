"""Host names and mail addresses as regular languages: RFC 1123, 5890 to 5893 (internationalised), 5321 and 6531 (mail).

An `xn--` label is punycode, and whether that decodes to a valid label is more than a regular language knows: none is
written. Of internationalised labels those are written that are valid for sure: characters that IDNA2008 allows
everywhere and that run from left to right, and no more of them than always fit into 63 octets of punycode.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from stemma.fsm.languages.regex.regex import Regex
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Characters, Node
from stemma.fsm.syntax.characters import Ranges
from stemma.fsm.syntax.nodes import choice, concat, of_length, optional, repeat, text

LONGEST_HOST = 253
LONGEST_LOCAL_PART = 64
NUM_FOREIGN_LABELS = 3  # each of up to 63 octets, so that they stay below LONGEST_HOST
LONGEST_FOREIGN = 11  # characters of a label with any number beyond ASCII: on average, one takes at most 5 octets

_ALNUM, _LDH = "[A-Za-z0-9]", "[A-Za-z0-9-]"
# Up to 63 characters, no hyphen at either end, and not two as the third and fourth: those announce an encoding.
LABEL = rf"{_ALNUM}(?:{_LDH}{{0,2}}{_ALNUM}|{_LDH}(?:{_ALNUM}{_LDH}|-{_ALNUM}){_LDH}{{0,58}}{_ALNUM})?"
HOST = rf"{LABEL}(?:\.{LABEL})*"
WIDER_HOST = rf"{_LDH}+(?:\.{_LDH}+)*"  # no text beyond is a host name, and so below
WIDER_FOREIGN_HOST = r"[A-Za-z0-9.\x80-\U0010ffff-]+"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~BEYOND-]+"
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7eBEYOND]|\\[\x20-\x7e])*"'
LOCAL_PART = rf"(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})"
BEYOND_ASCII = r"\x80-\ud7ff\ue000-\U0010ffff"

# What IDNA2008 forbids or allows by context only, though its category is that of letters and digits.
_BY_CONTEXT = ((0xB7, 0xB7), (0x375, 0x375), (0x30FB, 0x30FB))
_FORBIDDEN = (
    (0x34F, 0x34F), (0x640, 0x640), (0x7FA, 0x7FA), (0x1100, 0x11FF), (0x17B4, 0x17B5), (0x302E, 0x302F),
    (0x3031, 0x3035), (0x303B, 0x303B), (0xA960, 0xA97C), (0xD7B0, 0xD7FB), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF),
)  # fmt: skip


def host_name() -> Node:
    return of_length(Regex(HOST).language(), 1, LONGEST_HOST)


def internationalised_host_name() -> Node:
    """ASCII names of any length, or up to three labels of any kind, behind any full stop that IDNA knows."""
    label = choice((Regex(LABEL).language(), foreign_label()))
    stop = Characters(characters.union((ord(c), ord(c)) for c in ".\u3002\uff0e\uff61"))
    return choice((host_name(), concat((label, repeat(concat((stop, label)), 0, NUM_FOREIGN_LABELS - 1)))))


@cache
def foreign_label() -> Node:
    """A label with characters beyond ASCII: a short one of any, or a longer one of ASCII and at most two others."""
    start, other = left_to_right()
    ldh: Ranges = characters.union((*characters.ASCII_DIGIT, (45, 45), (65, 90), (97, 122)))
    alnum = Characters(characters.difference(ldh, ((45, 45),)))
    first, middle, last = (
        Characters(characters.union((*own, *ascii)))
        for own, ascii in ((start, alnum.ranges), (other, ldh), (other, alnum.ranges))
    )
    no_second_hyphen = choice((concat((last, middle)), concat((text("-"), last))))
    short = concat((first, optional(choice((
        concat((repeat(middle, 0, 2), last)),
        concat((middle, no_second_hyphen, repeat(middle, 0, LONGEST_FOREIGN - 5), last)),
    )))))  # fmt: skip
    hyphen = optional(text("-"))
    known = concat((hyphen, alnum))
    foreign = choice((concat((hyphen, Characters(start))), Characters(other)))
    begun = choice((concat((alnum, repeat(known, 0, 5), foreign)), Characters(start)))
    return choice((short, concat((begun, optional(concat((repeat(known, 0, 6), foreign))), repeat(known, 0, 6)))))


@cache
def left_to_right() -> tuple[Ranges, Ranges]:
    """The characters beyond ASCII that a label may begin with, and those that it may go on with."""
    allowed = [code for code in (*range(0x80, 0xD800), *range(0xE000, 0x32000)) if _is_allowed(chr(code))]
    excluded = characters.union((*_BY_CONTEXT, *_FORBIDDEN))
    every = characters.difference(characters.union((code, code) for code in allowed), excluded)
    marks = characters.union((code, code) for code in allowed if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    return characters.difference(every, marks), every


def _is_allowed(character: str) -> bool:
    """RFC 5892: letters, marks and digits that folding leaves as they are; here only those without a direction to the
    left."""
    category = unicodedata.category(character)
    if category not in ("Ll", "Lo", "Lm", "Mn", "Mc", "Nd"):
        return False
    if unicodedata.bidirectional(character) != ("NSM" if category == "Mn" else "L"):
        return False
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
    return folded == character


def mail_address(literals: str) -> Node:
    """`literals`: a pattern of the addresses that may stand in brackets for a host."""
    return _mail(LOCAL_PART.replace("BEYOND", ""), host_name(), literals)


def internationalised_mail_address(literals: str) -> Node:
    return _mail(LOCAL_PART.replace("BEYOND", BEYOND_ASCII), internationalised_host_name(), literals)


def _mail(local_part: str, host: Node, literals: str) -> Node:
    local = of_length(Regex(local_part).language(), 1, LONGEST_LOCAL_PART)
    return concat((local, text("@"), choice((host, Regex(rf"\[(?:{literals})\]").language()))))
