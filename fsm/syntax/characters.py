"""Sets of Unicode scalar values as sorted, disjoint, inclusive ranges, and the named classes of `re` and ECMA-262.

Never sees bytes: the automaton compiles ranges to UTF-8. The tables come from the interpreter's own Unicode data.
"""

from __future__ import annotations

import itertools
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache, lru_cache

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
PYTHON_SPACE: Ranges = (
    (9, 13), (28, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
RUST_SPACE: Ranges = (
    (9, 13), (32, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
OTHER_WORD: Ranges = (  # joiners, and the symbols that Unicode calls alphabetic
    (0x200C, 0x200D), (0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189),
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


@lru_cache(maxsize=64)
def complement(ranges: Ranges) -> Ranges:
    """Every scalar value not in `ranges`. Kept: of words there are hundreds of ranges, and each boundary asks."""
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
    place = bisect_right(ranges, (code, LAST))
    return place > 0 and code <= ranges[place - 1][1]


@cache
def _category_runs() -> tuple[tuple[int, int, str], ...]:
    """The general category of every character, as runs of equal ones. Planes 4 to 13 hold none, 15 and 16 private ones:
    they are taken for what their first and last characters are."""
    runs: list[tuple[int, int, str]] = []
    for start, end in ((0, 0x40000), (0xE0000, 0xE1000)):
        at = start
        for name, group in itertools.groupby(map(unicodedata.category, map(chr, range(start, end)))):
            size = sum(1 for _ in group)
            runs.append((at, at + size - 1, name))
            at += size
    beyond = [(0x40000, 0xDFFFF), (0xE1000, 0xEFFFF)]
    private = [(first, first + 0xFFFD) for first in (0xF0000, 0x100000)]
    ends = [(last + 1, last + 2) for _, last in private]
    return tuple(
        sorted([*runs, *((low, high, unicodedata.category(chr(low))) for low, high in beyond + private + ends)])
    )


@cache
def _of_categories(wanted: tuple[str, ...]) -> Ranges:
    """The characters whose category begins with one of `wanted`."""
    return intersection(union((low, high) for low, high, name in _category_runs() if name.startswith(wanted)), SCALARS)


@cache
def unicode_class(letter: str) -> Ranges:
    r"""`\d`, `\w` or `\s` as Python's `re` understands it in `str` patterns."""
    if letter == "d":
        return _of_categories(("Nd",))
    return PYTHON_SPACE if letter == "s" else union((*_of_categories(("L", "N")), (95, 95)))


@cache
def rust_class(letter: str) -> Ranges:
    r"""`\d`, `\w` or `\s` as Rust's `regex` understands it: Unicode's Nd, its words (UTS 18), White_Space."""
    if letter == "d":
        return _of_categories(("Nd",))
    return RUST_SPACE if letter == "s" else union((*_of_categories(("L", "M", "Nd", "Nl", "Pc")), *OTHER_WORD))


CATEGORIES = {
    "Letter": "L", "Cased_Letter": "LC", "Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll", "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm", "Other_Letter": "Lo", "Mark": "M", "Combining_Mark": "M", "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc", "Enclosing_Mark": "Me", "Number": "N", "Decimal_Number": "Nd", "digit": "Nd",
    "Letter_Number": "Nl", "Other_Number": "No", "Punctuation": "P", "punct": "P", "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd", "Open_Punctuation": "Ps", "Close_Punctuation": "Pe", "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf", "Other_Punctuation": "Po", "Symbol": "S", "Math_Symbol": "Sm", "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk", "Other_Symbol": "So", "Separator": "Z", "Space_Separator": "Zs", "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp", "Other": "C", "Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Private_Use": "Co",
    "Unassigned": "Cn",
}  # fmt: skip
GENERAL = frozenset(
    "L Lu Ll Lt LC Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn".split()  # noqa: SIM905
)
BY_NAME = {name.lower(): short for name, short in CATEGORIES.items()}
BY_LOOSE_NAME = {name.replace("_", ""): short for name, short in BY_NAME.items()} | {
    short.lower(): short for short in GENERAL}  # fmt: skip


def category(name: str) -> Ranges | None:
    r"""The class `\p{name}` of a general category, or None where the name is not one."""
    if name in ("Any", "ASCII"):
        return SCALARS if name == "Any" else ((0, 127),)
    short = name.removeprefix("General_Category=").removeprefix("gc=")
    return _general(BY_NAME.get(short.lower(), short))


def loose_category(name: str) -> Ranges | None:
    r"""The same as Rust reads names: the case and what stands between words do not matter."""
    loose = "".join(character for character in name.lower() if character not in " _-")
    for prefix in ("generalcategory", "gc"):
        for sign in ("=", ":"):
            loose = loose.removeprefix(prefix + sign)
    if loose in ("any", "ascii"):
        return SCALARS if loose == "any" else ((0, 127),)
    return _general(BY_LOOSE_NAME.get(loose, ""))


def _general(short: str) -> Ranges | None:
    if short not in GENERAL:
        return None
    return _of_categories(("Lu", "Ll", "Lt") if short == "LC" else (short,))


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
    return _with_alike(ranges, _case_orbits())


def _with_alike(ranges: Ranges, alike: dict[int, tuple[int, ...]]) -> Ranges:
    """`ranges` and what is like their characters. Most are a letter, so it is not all that is alike that is tried."""
    if sum(high - low + 1 for low, high in ranges) < len(alike):
        found = [alike.get(code, ()) for low, high in ranges for code in range(low, high + 1)]
    else:
        found = [same for code, same in alike.items() if contains(ranges, code)]
    return union((*ranges, *((other, other) for same in found for other in same)))


def ignoring_ascii_case(ranges: Ranges) -> Ranges:
    """`ranges` and the other case of its ASCII letters."""
    letters = intersection(ranges, ((65, 90), (97, 122)))
    return union((*ranges, *((low ^ 32, high ^ 32) for low, high in letters)))


@cache
def _folded() -> dict[int, tuple[int, ...]]:
    """Every cased character to all that have the same simple case folding (Unicode's CaseFolding.txt, C and S)."""
    alike: dict[int, set[int]] = {}
    for low, high, name in _category_runs():
        if name[0] in "LMNS":
            for code in range(low, high + 1):
                folded = _simple_folding(code)
                if folded != code:
                    alike.setdefault(folded, {folded}).add(code)
    return {code: tuple(sorted(same)) for same in alike.values() for code in same}


def _simple_folding(code: int) -> int:
    character = chr(code)
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return ord(folded)
    return SIMPLE_FOLDINGS.get(code, code)


SIMPLE_FOLDINGS = {0x1FD3: 0x390, 0x1FE3: 0x3B0, 0xFB05: 0xFB06}


def folding_case(ranges: Ranges) -> Ranges:
    """`ranges` and all that Rust's `(?i)` takes for the same."""
    return _with_alike(ranges, _folded())
