"""Sets of Unicode scalar values as sorted, disjoint, inclusive ranges, and the named classes of `re` and ECMA-262.

Never sees bytes: the automaton compiles ranges to UTF-8. The tables come from the interpreter's own Unicode data.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

Ranges = tuple[tuple[int, int], ...]

LAST = 0x10FFFF
SCALARS: Ranges = ((0, 0xD7FF), (0xE000, LAST))
ASCII_DIGIT: Ranges = ((48, 57),)
ASCII_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
ASCII_SPACE: Ranges = ((9, 13), (32, 32))
ECMA_SPACE: Ranges = (
    (9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
    (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Any ranges, in any order and overlapping, as sorted and disjoint ones."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """Every scalar value that is not in `ranges`."""
    gaps: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        if low > start:
            gaps.append((start, low - 1))
        start = high + 1
    if start <= LAST:
        gaps.append((start, LAST))
    return intersection(tuple(gaps), SCALARS)


def intersection(left: Ranges, right: Ranges) -> Ranges:
    """What is in both."""
    both: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            both.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(both)


def difference(left: Ranges, right: Ranges) -> Ranges:
    """What is in `left` and not in `right`."""
    return intersection(left, complement(right))


def contains(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)


@cache
def _every_character() -> str:
    return "".join(map(chr, range(LAST + 1)))


@cache
def unicode_class(letter: str) -> Ranges:
    r"""`\d`, `\w` or `\s` as Python's `re` understands it in `str` patterns."""
    spans = (match.span() for match in re.finditer(rf"\{letter}+", _every_character()))
    return intersection(tuple((start, end - 1) for start, end in spans), SCALARS)


CATEGORIES = {
    "letter": "L", "uppercase_letter": "Lu", "lowercase_letter": "Ll", "titlecase_letter": "Lt", "cased_letter": "LC",
    "modifier_letter": "Lm", "other_letter": "Lo", "mark": "M", "number": "N", "decimal_number": "Nd", "digit": "Nd",
    "letter_number": "Nl", "other_number": "No", "punctuation": "P", "punct": "P", "symbol": "S", "separator": "Z",
    "space_separator": "Zs", "other": "C", "control": "Cc", "cntrl": "Cc", "format": "Cf",
    "math_symbol": "Sm", "currency_symbol": "Sc", "nonspacing_mark": "Mn", "dash_punctuation": "Pd",
}  # fmt: skip
GENERAL = frozenset(
    "L Lu Ll Lt LC Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn".split()  # noqa: SIM905
)


@cache
def category(name: str) -> Ranges | None:
    r"""The class `\p{name}` of a general category, or None where the name is not one."""
    if name in ("Any", "ASCII"):
        return SCALARS if name == "Any" else ((0, 127),)
    short = name.removeprefix("General_Category=").removeprefix("gc=")
    short = CATEGORIES.get(short.lower(), short)
    if short not in GENERAL:
        return None
    wanted = ("Lu", "Ll", "Lt") if short == "LC" else (short,)
    category_of = unicodedata.category
    return union((code, code) for low, high in SCALARS for code in range(low, high + 1)
                 if category_of(chr(code)).startswith(wanted))  # fmt: skip


@cache
def _case_orbits() -> dict[int, tuple[int, ...]]:
    """Every cased character to all characters that `re.IGNORECASE` takes for the same."""
    leader: dict[int, int] = {}

    def find(code: int) -> int:
        while leader.get(code, code) != code:
            code = leader[code]
        return code

    for code in (*range(0xD800), *range(0xE000, 0x1F000)):
        character = chr(code)
        for other in (character.lower(), character.upper()):
            if len(other) == 1 and other != character:
                leader[max(find(code), find(ord(other)))] = min(find(code), find(ord(other)))
    for extra in ((0x69, 0x130), (0x69, 0x131), (0x390, 0x1FD3), (0x3B0, 0x1FE3), (0xFB05, 0xFB06)):
        leader[max(map(find, extra))] = min(map(find, extra))
    orbits: dict[int, list[int]] = {}
    for code in leader:
        orbits.setdefault(find(code), [find(code)]).append(code)
    whole = {code: tuple(sorted(set(orbit))) for orbit in orbits.values() for code in orbit}
    return {code: orbit for code, orbit in whole.items() if len(orbit) > 1}


def ignoring_case(ranges: Ranges) -> Ranges:
    """`ranges` and every other case of their characters."""
    cased = _case_orbits()
    others = [(other, other) for code, orbit in cased.items() if contains(ranges, code) for other in orbit]
    return union((*ranges, *others))
