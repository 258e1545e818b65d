"""Texts that stand for something else: bytes, base64, hexadecimal digits, numbers, patterns; texts without edges."""

from __future__ import annotations

from functools import cache

from stemma.fsm.languages.regex.regex import Regex
from stemma.fsm.languages.typed.ranges import MOST_DIGITS
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Characters, Node
from stemma.fsm.syntax.nodes import ANY_TEXT, EMPTY, NOTHING, choice, concat, optional, repeat, text

STANDARD, OF_URLS = "+/", "-_"
SIXTY_TWO = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
WIDEST = ((1, 0x7F), (2, 0x7FF), (3, 0xFFFF), (4, 0x10FFFF))
"""How many bytes a character takes, and the last character that takes no more."""

WHITE = characters.union([
    (0x9, 0xD), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200B), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
])  # fmt: skip
"""What is white space to Rust or to Python."""


@cache
def _language(source: str) -> Node:
    return Regex(source).language()


def encoded(minimum: int, maximum: int | None) -> Node:
    """Texts of so many bytes as UTF-8: fewer characters of wider scripts than of ASCII, so that none is too long."""
    ways = []
    for width, last in WIDEST:
        most = None if maximum is None else maximum // width
        if most is None or most >= minimum:
            wide = Characters(characters.intersection(((0, last),), characters.SCALARS))
            ways.append(repeat(wide, minimum, most))
    return choice(ways[-1:] if maximum is None else ways)


def base64(minimum: int, maximum: int | None, of_urls: bool, of_ascii: bool) -> Node:
    """So many bytes in base64, padded; `of_ascii`: only bytes that are ASCII, so that they are a text."""
    letters = SIXTY_TWO + (OF_URLS if of_urls else STANDARD)

    def some(indices: range | list[int]) -> Node:
        return Characters(characters.union((ord(letters[index]), ord(letters[index])) for index in indices))

    first = some(range(32 if of_ascii else 64))
    second = some([value for value in range(64) if not (of_ascii and value & 8)])
    third = some([value for value in range(64) if not (of_ascii and value & 2)])
    one = concat((first, some([0, 16, 32, 48]), text("==")))
    two = concat((first, second, some([value for value in range(0, 64, 4) if not (of_ascii and value & 2)]),
                    text("=")))  # fmt: skip
    group = concat((first, second, third, some(range(64))))
    ways = []
    for rest, last in ((0, EMPTY), (1, one), (2, two)):
        least = max(0, -(-(minimum - rest) // 3))
        most = None if maximum is None else (maximum - rest) // 3
        if most is None or most >= least:
            ways.append(concat((repeat(group, least, most), last)))
    return choice(ways)


def hexadecimal(minimum: int, maximum: int | None) -> Node:
    """So many bytes as two digits each."""
    if maximum is not None and maximum < minimum:
        return NOTHING
    digit = Characters(((48, 57), (97, 102)))
    return repeat(concat((digit, digit)), minimum, maximum)


def stripped() -> Node:
    """Texts that neither begin nor end with white space."""
    inner = Characters(characters.complement(WHITE))
    return optional(concat((inner, optional(concat((ANY_TEXT, inner))))))


def ascii_text() -> Node:
    return repeat(Characters(((0, 0x7F),)), 0, None)


def fraction() -> Node:
    """`-3/4`, or a whole number."""
    return _language("-?(?:0|[1-9][0-9]{0,11})(?:/[1-9][0-9]{0,11})?")


def complex_number() -> Node:
    """`1.5-2j`, or one of its parts."""
    number = rf"(?:0|[1-9][0-9]{{0,{MOST_DIGITS - 1}}})(?:\.[0-9]{{1,{MOST_DIGITS}}})?"
    return _language(f"-?{number}(?:[+-]{number}j|j)?")


def pattern() -> Node:
    """Regular expressions of Python without nested groups: enough for most, and every one of them compiles."""
    one = r"[A-Za-z0-9_ @#%&=:;,<>/'\"~`!-]|\\[dDwWsS.*+?()\[\]{}|^$\\]|\."
    atom = rf"(?:{one}|\[\^?(?:[A-Za-z0-9_]|0-9|a-z|A-Z|\\[dws])+\])"
    times = r"(?:[*+?]|\{[1-9]\})?"
    group = rf"\((?:\?:)?(?:{atom}{times})+(?:\|(?:{atom}{times})+)*\)"
    return _language(rf"\^?(?:(?:{atom}|{group}){times})*(?:\|(?:(?:{atom}|{group}){times})+)*\$?")


def colour() -> Node:
    return _language("#(?:[0-9a-f]{3}){1,2}")
