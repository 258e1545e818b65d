"""Automata and masks against two libraries that share nothing with ours: `interegular`, whose automaton of a regex must
have the same language (a product of both automata over bytes), and the Index of `outlines-core`, token by token.

Both have limits, which the patterns keep to. interegular's classes are ASCII; it has no look-behind, reads `[]a]` as an
empty class, and its negative look-ahead takes texts out that are shorter than what it looks for. outlines-core reads a
pattern as searches do, so the first alternative that matches counts, and it drops every token after whose last byte but
one the text was whole while it is not after the last: `ab` of `a(bc)?`. The test says exactly which tokens those are.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import outlines_core
import pytest
from interegular import parse_pattern
from interegular.fsm import FSM, anything_else

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.regex import Regex

PATTERNS = [
    "",
    "a",
    "a(bc)?",
    "(a|ab)(c|bcd)(d*)",
    "(a|b)*abb",
    "(a|b)*a(a|b){4}",
    "(?:ab|cd)+?",
    "a{3}",
    "a{2,5}b",
    "a{2,}",
    "a{,3}b",
    "(a{1,2}){2,3}",
    "(a?){4}a{4}",
    "(a*)*b",
    "((a|b)?c)*",
    "(ab|a)(bc|c)",
    "a*?b+?",
    "x|",
    "[abc]",
    "[^abc]",
    "[^a-y]z",
    "[a-cx-z-]+",
    r"[\]a]+[^\]a]",
    r"[\w.+-]+@[\w-]+\.[\w.-]+",
    r"[^\W\d_]+",
    r"\d{4}-\d{2}-\d{2}",
    r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?",
    r"(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}",
    r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})",
    r"(\+\d{1,2}\s?)?\(?\d{3}\)?[\s.-]?\d{3}[\s.-]?\d{4}",
    r"https?://[^\s/$.?#][^\s]*",
    r"(0?[1-9]|1[0-2]):[0-5]\d ?(AM|PM)",
    r"\$\d{1,3}(,\d{3})*(\.\d\d)?",
    r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?",
    "[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}",
    r'"([^"\\\n]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"',
    r"\[(\d+(, \d+)*)?\]",
    r"<(\w+)>[^<]*</\w+>",
    r"(\w+\s){0,2}\w+\.",
    "Thought: [^\n]+\nAction: (search|answer)\n",
    ".",
    ".*",
    ".{2,4}x",
    "(?s:.)",
    "(?s:.)*x.",
    r"\S\s\S",
    r"\D\W",
    r"[\s\d]{2}",
    r"\x41\.\*\\",
    r"\t|\n|\r",
    "é+|[à-ü]x",
    "[а-яё]{2,3}",  # noqa: RUF001
    "[ぁ-ん]{2,3}。",
    "[😀-😎]|👍",
    "[^é中😀]",
    "да|нет|ты",
    "(?i:yes|No)",
    "a(?=b)[a-z]{2}",
    "(?=.*b)[abc]{2,4}",
    "(?=.*b)(?=.*c)[a-c]{2,5}",
    "(?:ab|a)[bc]{1,2}(?:c|)",
    "a*+b",
    "(?P<year>[0-9]{2})(?:x|y(?:z|))",
]


CONTINUED = range(0x80, 0xC0)


class Place(NamedTuple):
    """Where interegular's automaton of characters stands between bytes."""

    state: int
    read: bytes = b""  # of a character that the pattern may name
    rest: tuple[range, ...] = ()  # what is still to come of a character that it does not, and that led to `state`


def length_of(lead: int) -> int:
    """How many bytes the character has that begins so; 0 where none does."""
    starts = ((0x00, 1), (0x80, 0), (0xC2, 2), (0xE0, 3), (0xF0, 4), (0xF5, 0))
    return next(length for start, length in reversed(starts) if lead >= start)


def rest_of(read: bytes) -> tuple[range, ...]:
    """The bytes that may follow `read` in a character."""
    second = {0xE0: range(0xA0, 0xC0), 0xED: range(0x80, 0xA0), 0xF0: range(0x90, 0xC0), 0xF4: range(0x80, 0x90)}
    bounds = (second.get(read[0], CONTINUED), CONTINUED, CONTINUED)
    return bounds[len(read) - 1 : length_of(read[0]) - 1]


class TheirBytes:
    """interegular's automaton of a pattern, of bytes; what leads to no whole text is None."""

    def __init__(self, automaton: FSM) -> None:
        self.automaton = automaton
        self.start = Place(automaton.initial)
        self.named: dict[bytes, list[str]] = {}
        for symbol in automaton.alphabet:
            for end in range(1, 4) if symbol is not anything_else else ():
                self.named.setdefault(symbol.encode()[:end], []).append(symbol)

    def accepts(self, place: Place) -> bool:
        return not place.read and not place.rest and place.state in self.automaton.finals

    def after(self, place: Place, byte: int) -> Place | None:
        if place.rest:
            return Place(place.state, rest=place.rest[1:]) if byte in place.rest[0] else None
        if place.read and byte not in rest_of(place.read)[0]:
            return None
        read = place.read + bytes([byte])
        if not length_of(read[0]):
            return None
        rest = rest_of(read)
        if rest and read in self.named:
            return Place(place.state, read) if self.goes_on(place.state, read, rest) else None
        following = self.after_symbol(place.state, anything_else if rest else read.decode())
        return None if following is None else Place(following, rest=rest)

    def after_symbol(self, state: int, symbol: Any) -> int | None:
        following: int | None = self.automaton.map[state].get(self.automaton.alphabet[symbol])
        return following if following is not None and self.automaton.islive(following) else None

    def goes_on(self, state: int, read: bytes, rest: tuple[range, ...]) -> bool:
        """Whether any character that begins with `read` may stand here."""
        symbols: list[Any] = list(self.named[read])
        if len(symbols) < math.prod(map(len, rest)):
            symbols.append(anything_else)
        return any(self.after_symbol(state, symbol) is not None for symbol in symbols)


def difference(ours: Automaton, theirs: TheirBytes) -> str | None:
    """A beginning of a text at which two automata differ; None where the languages are one."""
    begin = (ours.start, theirs.start)
    seen, todo = {begin}, deque([(*begin, b"")])
    while todo:
        config, place, text = todo.popleft()
        if ours.is_accepting(config) != theirs.accepts(place):
            return f"{text!r} is whole in one"
        for byte, following in enumerate(ours.row(config).tolist()):
            there = theirs.after(place, byte)
            if (following != 0) != (there is not None):
                return f"{text + bytes([byte])!r} begins a text in one"
            if there is not None and (following, there) not in seen:
                seen.add((following, there))
                todo.append((following, there, text + bytes([byte])))
    return None


def our_automaton(pattern: str) -> Automaton:
    return Automaton(Regex(f"(?a){pattern}").grammar())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_same_language_as_interegular(pattern: str) -> None:
    assert difference(our_automaton(pattern), TheirBytes(parse_pattern(pattern).to_fsm())) is None


@pytest.mark.parametrize("other", ["a[^b]", "a[^中]", "a[^b中]?", "a[^b中]{1,2}", "a[^b丮]", "a.", "[^b中]"])
def test_a_difference_is_found(other: str) -> None:
    assert difference(our_automaton(other), TheirBytes(parse_pattern("a[^b中]").to_fsm())) is not None


WORDS = ["ab", "bc", "abc", "aa", "12", "34", "123", ".5", "e+", "-0", "20", "true", "se", '","', '":', "[1", " a",
         "the", "a@b", ".com", "://", "http", "éa", "да", "中文", "😀!", "\n\n", "A1", "00", "no", "on: ", "answ",
         "er\n"]  # fmt: skip
TOKENS = [*map(chr, range(32, 127)), "\t", "\n", "\r", "é", "中", "д", *WORDS]
BYTES = [token.encode() for token in TOKENS]
END = len(TOKENS)
READ_OTHERWISE = ["(a|ab)(c|bcd)(d*)", "(ab|a)(bc|c)", "(?:ab|a)[bc]{1,2}(?:c|)", "a*?b+?", "(?:ab|cd)+?", "x|",
                  "#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", "é+|[à-ü]x", "a{,3}b"]  # fmt: skip
NOT_WRITABLE = ["[ぁ-ん]{2,3}。", "[😀-😎]|👍", "да|нет|ты"]  # with these tokens: the Index refuses them
INDEXED = [pattern for pattern in PATTERNS if "(?=" not in pattern and pattern not in READ_OTHERWISE + NOT_WRITABLE]


def allowed_by(matcher: Matcher) -> set[int]:
    row = np.zeros(matcher.grammar.vocabulary.num_words, np.uint32)
    matcher.mask_into(row)
    return set(np.unpackbits(row.view(np.uint8), bitorder="little").nonzero()[0].tolist())


def dropped(automaton: Automaton, text: bytes, allowed: set[int]) -> set[int]:
    """The tokens that outlines-core drops: before their last byte the text is whole, and after it it is not."""
    found = set()
    for token in allowed - {END}:
        before = automaton.step_bytes(automaton.start, (text + BYTES[token])[:-1])
        after = automaton.step(before, BYTES[token][-1])
        if automaton.is_accepting(before) and not automaton.is_accepting(after):
            found.add(token)
    return found


@pytest.mark.parametrize("pattern", INDEXED)
def test_same_masks_as_outlines_core(pattern: str) -> None:
    index = outlines_core.Index(pattern, outlines_core.Vocabulary(END, {token: [i] for i, token in enumerate(TOKENS)}))
    vocabulary = Vocabulary([*BYTES, None], {"<end>": END}, [END])
    automaton = Automaton(Regex(pattern).grammar())
    todo = [(Matcher(compile(Regex(pattern), vocabulary)), index.get_initial_state(), b"")]
    seen: set[tuple[int, int]] = set()
    while todo:
        matcher, state, text = todo.pop()
        if (matcher.config, state) in seen:
            continue
        seen.add((matcher.config, state))
        allowed = allowed_by(matcher)
        expected = set(index.get_allowed_tokens(state) or ())
        assert allowed - dropped(automaton, text, allowed) == expected, text
        assert matcher.is_complete == index.is_final_state(state)
        for token in expected - {END}:
            following = matcher.fork()
            assert following.advance(token)
            todo.append((following, index.get_next_state(state, token), text + BYTES[token]))


def test_what_outlines_core_drops() -> None:
    automaton = Automaton(Regex("a(bc)?").grammar())
    assert dropped(automaton, b"", {TOKENS.index(token) for token in ("a", "ab", "abc")}) == {TOKENS.index("ab")}
