"""Regexes against `re.fullmatch` and `re.search` themselves, on patterns and texts that hypothesis makes up."""

import re
import string
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.fsm.errors import RegexError
from stemma.fsm.languages.regex.regex import Regex, search_language
from stemma.fsm.syntax.recogniser import Recogniser

ATOMS = [
    "a",
    "b",
    "1",
    " ",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\W",
    "[ab]",
    "[^a]",
    "[a-c1]",
    r"\.",
    "é",
    "(?i:k)",
    "(?:)",
    "[^\\W\\d]",
]
EDGES = ["^", "$", r"\b", r"\B", r"\A", r"\Z"]
QUANTIFIERS = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "*?", "+?", "??"]


def patterns(edges: list[str]) -> st.SearchStrategy[str]:
    atom = st.builds(str.__add__, st.sampled_from(ATOMS), st.sampled_from(QUANTIFIERS))
    return st.recursive(
        st.one_of(atom, atom, st.sampled_from(edges)) if edges else atom,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.builds(lambda part, quantifier: f"({part}){quantifier}", inner, st.sampled_from(["", "*", "?", "{2}"])),
        ),
        max_leaves=6,
    )


TEXTS = st.lists(st.text(alphabet="ab1 .k\u212aéK\n_-", max_size=6), min_size=5, max_size=20)


@settings(max_examples=400, deadline=None)
@given(patterns([]), TEXTS)
def test_agrees_with_fullmatch(pattern: str, texts: list[str]) -> None:
    recogniser, language = Recogniser(), Regex(pattern).language()
    for text in texts:
        assert recogniser.matches(language, text) == bool(re.fullmatch(pattern, text)), (pattern, text)


@settings(max_examples=400, deadline=None)
@given(patterns(EDGES), TEXTS)
def test_agrees_with_fullmatch_and_anchors(pattern: str, texts: list[str]) -> None:
    try:
        language = Regex(pattern).language()
    except RegexError as error:
        if "not supported" not in str(error):
            raise
        return
    for text in texts:
        assert Recogniser().matches(language, text) == bool(re.fullmatch(pattern, text)), (pattern, text)


@settings(max_examples=400, deadline=None)
@given(patterns(["^", "$", r"\b"]), st.lists(st.text(alphabet="ab1 .k", max_size=6), min_size=5, max_size=20))
def test_search_language_agrees_with_search(pattern: str, texts: list[str]) -> None:
    if "{," in pattern:
        return
    try:
        language = search_language(pattern)
    except RegexError as error:
        if "not supported" not in str(error):
            raise
        return
    for text in texts:
        assert Recogniser().matches(language, text) == bool(re.search(pattern, text, re.ASCII)), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "accepted", "rejected"),
    [
        ("(?=.*[A-Z])(?=.*[0-9]).{4,}", ["abC1", "1Xyz"], ["abcd", "A1"]),
        ("(?!admin)[a-z]+", ["user", "adm"], ["admin", "administrator"]),
        ("[a-z]*+1", ["abc1"], ["abc"]),
        ("[a-z]*+a", [], ["a", "aa", "ba"]),
        ("a{2,4}+a", ["aaaaa"], ["aaa", "aaaa", "aaaaaa"]),
        ("a{1000,2000}", ["a" * 1000, "a" * 2000], ["a" * 999, "a" * 2001]),
        (r"(?P<year>\d{4})-(?P<month>\d\d)", ["2024-01", "٢٠٢٤-01"], ["2024-1"]),
        ("(?i)straße|k", ["STRAßE", "K", "\u212a"], ["x"]),
        ("(?x) a b # comment\n c", ["abc"], ["a b c"]),
        (r"\N{SNOWMAN}\u2603\x41\101", ["☃☃AA"], ["☃"]),
        ("[]a]+|[^]a]", ["]a", "b"], ["]b"]),
        ("(?s:.)|.", ["\n", "x"], ["xx"]),
        ("x{,2}|y{a}", ["", "xx", "y{a}"], ["xxx"]),
        ("a$\\n?", ["a", "a\n"], ["a\n\n"]),
    ],
)
def test_what_hypothesis_does_not_write(pattern: str, accepted: list[str], rejected: list[str]) -> None:
    language = Regex(pattern).language()
    assert [Recogniser().matches(language, text) for text in accepted] == [True] * len(accepted)
    assert [Recogniser().matches(language, text) for text in rejected] == [False] * len(rejected)
    assert [bool(re.fullmatch(pattern, text)) for text in accepted + rejected] == [True] * len(accepted) + [
        False
    ] * len(rejected)


@pytest.mark.parametrize(
    ("pattern", "accepted", "rejected"),
    [
        (r"^\d+$", ["12"], ["٢", "12\n", "a1"]),
        (r"^[\w.-]+\/x$", ["a-b./x"], ["é/x"]),
        (r"\p{Lu}\u{1F600}", ["aÉ😀b"], ["é😀"]),
        (r"^(?<name>a|^b)$", ["a", "b"], ["ab"]),
        (r"^$|^a", ["", "ab"], ["ba"]),
        (r"[^]", ["\n"], [""]),
        (r"\cA", ["\x01"], ["A"]),
        (r"\ud83d\ude00", ["😀"], ["x"]),
        (r"\A[a-z]+\z", ["ab"], ["Aabz", "a1", "1ab", "ab\n"]),
        (r"\Aab", ["abx"], ["xAab", "xab"]),
        (r"ab\Z", ["ab", "xab"], ["abZ", "ab\n"]),
        (r"^\/\-\.\@\ \_\"$", ['/-.@ _"'], ["/"]),
    ],
)
def test_ecma_search(pattern: str, accepted: list[str], rejected: list[str]) -> None:
    language = search_language(pattern)
    assert [Recogniser().matches(language, text) for text in accepted] == [True] * len(accepted)
    assert [Recogniser().matches(language, text) for text in rejected] == [False] * len(rejected)


REFUSED = [
    r"(a)\1",
    "(?<=a|bc)b",
    "x*(?:(?<!ab)y|z)",
    "(",
    ")",
    "[a",
    "a{2,1}",
    "*a",
    r"\q",
    "(?P=x)",
    "a{99999999}",
    "[z-a]",
]
REFUSED += [
    "(?P<a>x)(?P<a>y)",
    "a(?i)b",
    "(?<a>x)",
    r"[\8]",
    r"\z" if sys.version_info < (3, 14) else "(",
    "^*",
    "(?#a",
]
REFUSED += ["(?m)a", r"\u12", "a**", "(?>a*)a", "(" * 500 + ")" * 500, r"\ud800"]


KNOWN_ESCAPES = frozenset("AZzbBdDwWsSpPkntrfvcxu")


@pytest.mark.parametrize("letter", [*sorted(set(string.ascii_letters) - KNOWN_ESCAPES), "c1", "c", "é", "x1", "u12"])
@pytest.mark.parametrize("pattern", ["a\\{}", "[a\\{}]", "(?:\\{})?"])
def test_no_letter_is_escaped_for_nothing(letter: str, pattern: str) -> None:
    with pytest.raises(RegexError, match="position"):
        search_language(pattern.format(letter))


@pytest.mark.parametrize("pattern", [r"[\A]", r"[\z]", r"[\Z]", r"[\B]", "^a{,2}$", "a{,}"])
def test_what_validators_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(RegexError, match="position"):
        search_language(pattern)


@pytest.mark.parametrize("pattern", REFUSED)
def test_refuses_with_a_position(pattern: str) -> None:
    with pytest.raises(RegexError, match="position"):
        Regex(pattern).grammar()


@pytest.mark.parametrize(
    "pattern", [r"[^\s\S]", "a(?=b)", r"(?<=a)b", r"a[^\s\S]", "a++" * 40, "(a++)" * 300, "c" + "[ab]*+a" * 40]
)
def test_what_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(RegexError, match="no text"):
        Regex(pattern).grammar()


def test_a_part_that_matches_nothing_is_left_out() -> None:
    grammar = Regex("c|d" + "a++" * 40).grammar()
    assert Recogniser().matches(grammar.start, "c")
    assert grammar.start == Regex("c").grammar().start


@pytest.mark.parametrize("pattern", ["(?:(?<!a|bc)d){0}", "(?:b(?<=a*))?", "(?:x|(?<=a|bc)y){0,2}", "a(?<=(?:a|bc)d?)"])
def test_a_look_behind_has_one_width_wherever_it_stands(pattern: str) -> None:
    with pytest.raises(re.error):
        re.compile(pattern)
    with pytest.raises(RegexError, match="one width"):
        Regex(pattern).grammar()


def test_a_look_behind_of_one_width_may_be_made_of_many_parts() -> None:
    grammar = Regex("[a-z]{2}(?<=a(?:b|[cd])(?:){0,3})x").grammar()
    assert [text for text in ("abx", "adx", "aex", "bbx") if Recogniser().matches(grammar.start, text)] == [
        "abx",
        "adx",
    ]
