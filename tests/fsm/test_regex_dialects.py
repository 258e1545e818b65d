"""Dialects of regexes against the engines that have them: pydantic's Rust and Python's `re`."""

import random
import re
import sys
import warnings

import pytest
from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from stemma.fsm.errors import RegexError
from stemma.fsm.languages.regex.regex import Regex, search_language
from stemma.fsm.languages.regex.tree import Dialect
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.recogniser import Recogniser

UNDECIDED = ("not supported", "back-reference", "condition", "atomic", "surrogate", "not possible", "one width")
SIGNS = [*"aAb1 -^$.*+?{}[]()|\\,:=!<>iPsx#&~_\n", "(?", "(?:", "(?i)", "(?P<n>", "(?<n>", "(?<=", "(?<!", "(?=", "(?!",
         r"\d", r"\w", r"\b", r"\B", r"\A", r"\Z", r"\z", r"\p{Lu}", r"\x41", r"\u0041", r"\U00000041", r"\x{41}",
         r"\0", r"\1", r"\12", r"\123", r"\377", r"\477", r"\8", "{2}", "{1,2}", "{,2}", "{2,}", "{ 2 }", "[^", "[a-",
         "[[:alpha:]]", "&&", "--", "~~", r"\q", r"\e", r"\c", r"\_", r"\é", "(?#", "(?x)", "(?i:", "(?-i:", "(?-i)",
         "(?a)", "(?u:", "(?s-i:", r"\-", r"\]", "é", r"\N{SPACE}"]  # fmt: skip
COMMON = ["a", "b", "A", "1", " ", ".", r"\d", r"\w", r"\s", r"\W", r"\S", r"\D", "[ab]", "[^a]", "[a-c1]", "é",
          "(?i:k)", "(?:)", "^", "$", r"\b", r"\B", r"\A", "(?i:[^k])", "(?i:é)", r"[^\w]", r"[^\W1]", "(?i:\u017f)",
          "(?s:.)"]  # fmt: skip
OWN: dict[Dialect, list[str]] = {
    "python": [r"\Z", "(?<=a)", "(?<!a)", "(?=a)", "(?!a)", "(?<=a|b)", "(?<![^ab])", "(?<=ab)", "(?<!ab)", r"(?<!\w)",
               r"(?a:\w)", r"(?a:\d)", "(?ia:k)", r"(?<=\n)"],
    "rust": [r"\z", r"\p{Lu}", r"\pL", r"\P{L}", r"(?i:\p{Lu})", r"(?i:\P{Lu})", "[[:alpha:]]", "[a-z&&[^b]]",
             "[ab--b]", "[a~~b]", r"[^\p{L}]", "[[:^digit:]a]"],
}  # fmt: skip
TEXT = "ab1 kKA\u212aéÉ\n_\u0130s\u017f\u200d\u24b6٣\x1c\x85中\u0345-"


def rust(pattern: str) -> SchemaValidator | None:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def rust_finds(pattern: SchemaValidator, text: str) -> bool:
    try:
        pattern.validate_python(text)
    except ValidationError:
        return False
    return True


def python(pattern: str) -> re.Pattern[str] | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            return re.compile(pattern)
    except re.error:
        return None


@pytest.mark.parametrize("dialect", ["python", "rust"])
def test_what_the_engine_refuses_is_refused_and_nothing_else(dialect: Dialect) -> None:
    draw = random.Random(dialect)
    read = {"python": python, "rust": rust}[dialect]
    for _ in range(4_000):
        pattern = "".join(draw.choices(SIGNS, k=draw.randint(1, 6)))
        found = language_of(pattern, dialect)
        if not isinstance(found, str):
            assert read(pattern) is not None, pattern
        elif not any(word in found for word in UNDECIDED):
            assert read(pattern) is None, (pattern, found)


def language_of(pattern: str, dialect: Dialect, is_whole: bool = False) -> Node | str:
    """The language, or what was said against the pattern."""
    try:
        return Regex(pattern, dialect).language() if is_whole else search_language(pattern, dialect)
    except RegexError as error:
        return str(error)


def drawn(draw: random.Random, dialect: Dialect, depth: int = 0) -> str:
    kind = draw.random()
    if depth > 2 or kind < 0.5:
        return "".join(drawn_atom(draw, dialect) for _ in range(draw.randint(1, 3)))
    if kind < 0.7:
        return f"(?:{'|'.join(drawn(draw, dialect, depth + 1) for _ in range(draw.randint(2, 3)))})"
    if kind < 0.8:
        return f"(?:{drawn(draw, dialect, depth + 1)}){draw.choice(['', '?', '{2}'])}"
    return drawn(draw, dialect, depth + 1) + drawn(draw, dialect, depth + 1)


def drawn_atom(draw: random.Random, dialect: Dialect) -> str:
    atom = draw.choice(COMMON + OWN[dialect])
    is_edge = atom in ("^", "$") or atom[1:] in tuple("bBAZz")
    return atom if is_edge else atom + draw.choice(["", "", "", "*", "+", "?", "{2}", "{1,2}", "*?", "{0}"])


def drawn_text(draw: random.Random) -> str:
    return "".join(draw.choices(TEXT, k=draw.randint(0, 5)))


def test_rust_patterns_are_found_where_pydantic_finds_them() -> None:
    draw, read = random.Random(1), 0
    for _ in range(100):
        pattern = drawn(draw, "rust")
        theirs, language, recogniser = rust(pattern), language_of(pattern, "rust"), Recogniser()
        if isinstance(language, str):
            assert "not supported" in language, pattern
            continue
        assert theirs is not None, pattern
        read += 1
        for text in (drawn_text(draw) for _ in range(6)):
            assert recogniser.matches(language, text) == rust_finds(theirs, text), (pattern, text)
    assert read > 80


def test_looking_behind_and_flags_are_what_re_means() -> None:
    draw, read = random.Random(2), 0
    for number in range(400):
        pattern = drawn(draw, "python")
        theirs, language, recogniser = python(pattern), language_of(pattern, "python", number % 2 == 0), Recogniser()
        if isinstance(language, str):
            assert "not supported" in language or theirs is None, pattern
            continue
        assert theirs is not None, pattern
        read += 1
        for text in (drawn_text(draw) for _ in range(6)):
            found = theirs.search(text) if number % 2 else theirs.fullmatch(text)
            assert recogniser.matches(language, text) == (found is not None), (pattern, text)
    assert read > 300


@pytest.mark.parametrize(
    ("dialect", "accepted", "rejected"),
    [
        ("python", ["٣", "٣\n"], ["٣\n\n", "a"]),
        ("ecma", ["3"], ["٣", "3\n"]),
        ("rust", ["٣"], ["٣\n", "a"]),
    ],
)
def test_digits_and_ends(dialect: Dialect, accepted: list[str], rejected: list[str]) -> None:
    language = search_language(r"^\d$", dialect)
    assert [Recogniser().matches(language, text) for text in accepted] == [True] * len(accepted)
    assert [Recogniser().matches(language, text) for text in rejected] == [False] * len(rejected)


def test_a_look_behind_in_python() -> None:
    pattern = r'"(?!"").*?(?<!\\)(\\\\)*?"'
    language = Regex(pattern).language()
    for text in ['"a"', '""', '"""', r'"\"', r'"\\"', r'"a\"b"', r'"\\\"', '"a"b"']:
        assert Recogniser().matches(language, text) == (re.fullmatch(pattern, text) is not None), text


@pytest.mark.parametrize(("escape", "letter"), [(r"\d", "d"), (r"\w", "w"), (r"\s", "s")])
def test_classes_of_python_are_those_of_re(escape: str, letter: str) -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    spans = [found.span() for found in re.finditer(f"{escape}+", every)]
    assert characters.unicode_class(letter) == tuple((start, end - 1) for start, end in spans)


@pytest.mark.parametrize(("escape", "letter"), [(r"^\d$", "d"), (r"^\w$", "w"), (r"^\s$", "s")])
def test_classes_of_rust_are_those_of_pydantic(escape: str, letter: str) -> None:
    """Of the characters that this interpreter's tables have; Rust's may have more."""
    pattern = rust(escape)
    assert pattern is not None
    ranges, unassigned = characters.rust_class(letter), characters.category("Cn")
    assert unassigned is not None
    edges = {edge + step for span in ranges for edge in span for step in (-1, 0, 1)}
    for code in edges | set(range(0, 0x30000, 83)):
        if not (0xD800 <= code <= 0xDFFF or characters.contains(unassigned, code)):
            assert characters.contains(ranges, code) == rust_finds(pattern, chr(code)), hex(code)


def test_case_folding_is_rusts() -> None:
    for code, alike in characters._folded().items():
        pattern = rust(f"^(?i:\\x{{{code:x}}})$")
        assert pattern is not None
        assert all(rust_finds(pattern, chr(other)) for other in alike), hex(code)
    pattern = rust("(?i:i)")
    assert pattern is not None
    assert not rust_finds(pattern, "\u0130")
    assert characters.folding_case(((0x69, 0x69),)) == ((0x49, 0x49), (0x69, 0x69))
