"""Masks against brute force: a token is allowed if, and only if, the automaton reads all of its bytes."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from stemma.fsm import Limits, Matcher, Vocabulary, compile, fill_masks
from stemma.fsm.automaton import automaton
from stemma.fsm.automaton.program import FIRST_SPECIAL
from stemma.fsm.ebnf import EBNF
from stemma.fsm.kernels.loader import PLAIN
from stemma.fsm.matching.grammar import CompiledGrammar
from stemma.fsm.syntax import ast
from tests.fsm.ambiguous import AMBIGUOUS

Vocabularies = Callable[[int], Vocabulary]
STRING = ast.Characters(((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF)))
ESCAPE = ast.Concatenation((ast.Literal(b"\\"), ast.Characters(((34, 34), (92, 92), (110, 110)))))
CHARACTER = ast.Choice((STRING, ESCAPE))
QUOTE = ast.Literal(b'"')
DIGITS = ast.Repeat(ast.Characters(((48, 57),)), 1, None)
LETTERS = ast.Characters(((97, 122),))
WORD = ast.Characters(((48, 57), (65, 90), (95, 95), (97, 122)))
ANYTHING = ast.Characters(((1, 0xD7FF), (0xE000, 0x10FFFF)))
LATIN = ast.Characters(((97, 122), (0xC0, 0x24F), (0x4E00, 0x9FFF)))


def text(minimum: int, maximum: int | None) -> ast.Node:
    return ast.Concatenation((QUOTE, ast.Repeat(CHARACTER, minimum, maximum), QUOTE))


def several(*parts: ast.Node | bytes) -> ast.Node:
    return ast.Concatenation(tuple(ast.Literal(part) if isinstance(part, bytes) else part for part in parts))


VALUE = ast.RuleRef("value")
KNOWN_KEYS = ast.Choice((ast.Literal(b"a"), ast.Literal(b"abc"), ast.Literal(b"the")))
OTHER_KEY = ast.Difference(ast.Repeat(CHARACTER, 0, None), KNOWN_KEYS)
LIST = ast.Choice((several(), several(VALUE, ast.Repeat(several(b",", VALUE), 0, None))))
RULES: dict[object, ast.Node] = {
    "value": ast.Choice(
        (ast.Literal(b"true"), ast.Literal(b"null"), DIGITS, text(0, None), ast.RuleRef("list"), ast.RuleRef("object"))
    ),
    "list": several(b"[", LIST, b"]"),
    "maybe": ast.Choice((several(b"ab"), several(), several(LETTERS, b"-", LETTERS))),
    "object": several(b'{"a": ', text(0, 40), b', "abc":', text(3, 5), b', "', OTHER_KEY, b'": ', VALUE, b"}"),
}

NO_LINES = ast.Characters(((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x2027), (0x202A, 0xD7FF), (0xE000, 0x10FFFF)))
DOTS = ast.Repeat(ast.Choice((NO_LINES, ESCAPE)), 0, None)
NOT_SPACE = ast.Repeat(ast.Characters(((0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF))), 1, None)
WORDS = several(ast.Repeat(several(NOT_SPACE, ast.Repeat(ast.Literal(b" "), 1, None)), 0, 5), NOT_SPACE)
HOST = several(WORD, ast.Repeat(several(ast.Repeat(ast.Choice((WORD, ast.Literal(b"-"))), 0, None), WORD), 0, 1))
SEVERAL_TEXTS = ast.Choice(
    (
        text(0, 12),
        several(b'"', ast.Bounded(HOST, ast.Repeat(CHARACTER, 0, 16)), b'"'),
        several(b'"', DOTS, b"ab", DOTS, b'"'),
        ast.Literal(b'"the"'),
        ast.Literal(b'"abc"'),
    )
)

GRAMMARS = {
    "value": ast.Grammar(ast.RuleRef("value"), RULES.__getitem__),
    "words": ast.Grammar(ast.Repeat(ast.Choice((LETTERS, ast.Literal(b" "))), 2, 9), RULES.__getitem__),
    "choices": ast.Grammar(
        ast.Choice(tuple(ast.Literal(f"{'abc'[i % 3]}{i}the".encode()) for i in range(200))), RULES.__getitem__
    ),
    "bounded": ast.Grammar(text(0, 14), RULES.__getitem__),
    "at least": ast.Grammar(text(6, None), RULES.__getitem__),
    "between": ast.Grammar(text(4, 7), RULES.__getitem__),
    "then more": ast.Grammar(several(ast.Repeat(LETTERS, 2, 5), ast.Repeat(WORD, 0, None), b'"'), RULES.__getitem__),
    "exactly": ast.Grammar(several(ast.Repeat(WORD, 9, 9), ast.Repeat(LETTERS, 0, 3), b"."), RULES.__getitem__),
    "names": ast.Grammar(several(ast.Repeat(several(WORD, b"-"), 0, 4), ast.Repeat(WORD, 1, 63)), RULES.__getitem__),
    "both": ast.Grammar(ast.Intersection(ast.Repeat(WORD, 0, None), ast.Repeat(CHARACTER, 3, 12)), RULES.__getitem__),
    "bounded words": ast.Grammar(
        several(b'"', ast.Bounded(WORDS, ast.Repeat(CHARACTER, 0, 30)), b'"}'), RULES.__getitem__
    ),
    "bounded host": ast.Grammar(
        several(b'"', ast.Bounded(HOST, ast.Repeat(CHARACTER, 0, 21)), b'":1'), RULES.__getitem__
    ),
    "bounded escapes": ast.Grammar(
        several(
            b'"', ast.Bounded(ast.Repeat(several(CHARACTER, CHARACTER), 1, None), ast.Repeat(CHARACTER, 0, 9)), b'"'
        ),
        RULES.__getitem__,
    ),
    "searched": ast.Grammar(several(b'"', DOTS, b"ab", DOTS, b'"'), RULES.__getitem__),
    "extension": ast.Grammar(
        several(b'"', DOTS, b".", ast.Choice((ast.Literal(b"the"), ast.Literal(b"abc"))), b'"'),
        RULES.__getitem__,
    ),
    "turns": ast.Grammar(
        ast.Repeat(several(b"[", ast.Repeat(CHARACTER, 0, None), b'"', DIGITS, b"]"), 2, 14), RULES.__getitem__
    ),
    "turns in turns": ast.Grammar(
        ast.Repeat(several(b"<", ast.Repeat(several(LETTERS, b"-"), 1, 12), b">"), 0, 9), RULES.__getitem__
    ),
    "turns of values": ast.Grammar(several(b"[", ast.Repeat(several(VALUE, b","), 0, 12), b"]"), RULES.__getitem__),
    "turns that may be empty": ast.Grammar(
        several(b"(", ast.Repeat(ast.RuleRef("maybe"), 3, 13), b")"), RULES.__getitem__
    ),
    "turns of choices": ast.Grammar(
        ast.Repeat(ast.Choice((LETTERS, several(b"the", WORD), several(b"-", ast.Repeat(DIGITS, 0, 6), b"."))), 0, 40),
        RULES.__getitem__,
    ),
    "words in turns": ast.Grammar(
        ast.Repeat(several(b'"', ast.Bounded(WORDS, ast.Repeat(CHARACTER, 0, 30)), b'",'), 1, 11), RULES.__getitem__
    ),
    "bounded end": ast.Grammar(ast.Bounded(HOST, ast.Repeat(STRING, 0, 12)), RULES.__getitem__),
    "two bounded": ast.Grammar(
        ast.Choice(
            (
                several(b'"', ast.Bounded(HOST, ast.Repeat(CHARACTER, 0, 16)), b'"'),
                several(b'"', ast.Bounded(WORDS, ast.Repeat(CHARACTER, 0, 18)), b'",'),
            )
        ),
        RULES.__getitem__,
    ),
    "some of which is no space": ast.Grammar(
        several(b'"', DOTS, ast.Choice((LETTERS, LATIN)), ast.Repeat(CHARACTER, 0, None), b'"'), RULES.__getitem__
    ),
    "a text or what was searched for": ast.Grammar(
        several(b'"', ast.Choice((ast.Repeat(CHARACTER, 0, None), several(DOTS, LATIN, DOTS, b"-"))), b'"'),
        RULES.__getitem__,
    ),
    "many characters": ast.Grammar(text(3, 60), RULES.__getitem__),
    "many characters in many turns": ast.Grammar(
        several(b"[", ast.Repeat(several(text(0, 40), b","), 1, 30), b"]"), RULES.__getitem__
    ),
    "turns of characters and more": ast.Grammar(
        ast.Repeat(several(ast.Repeat(WORD, 0, 33), b"-", ast.Repeat(LETTERS, 2, 30), b"."), 0, 20), RULES.__getitem__
    ),
    "texts at once": ast.Grammar(SEVERAL_TEXTS, RULES.__getitem__),
    "texts at once in turns": ast.Grammar(
        several(b"[", ast.Repeat(several(SEVERAL_TEXTS, b","), 0, 9), b"]"), RULES.__getitem__
    ),
    "a text and a longer one": ast.Grammar(ast.Choice((text(2, 7), text(0, None))), RULES.__getitem__),
    "counted texts at once": ast.Grammar(
        several(b'"', ast.Choice((ast.Repeat(CHARACTER, 0, 6), ast.Repeat(WORD, 3, 11), DOTS)), b'"'),
        RULES.__getitem__,
    ),
    "texts that go on into each other": ast.Grammar(
        several(ast.Repeat(LETTERS, 0, None), ast.Repeat(LETTERS, 0, None), b"the"), RULES.__getitem__
    ),
    "any text": ast.Grammar(several(ast.Repeat(ANYTHING, 0, None), b"\x00"), RULES.__getitem__),
    "some letters": ast.Grammar(several(b'"', ast.Repeat(LATIN, 0, None), b'"'), RULES.__getitem__),
    "special": ast.Grammar(
        ast.Concatenation((ast.Repeat(LETTERS, 0, None), ast.Special("<|tool|>"), ast.RuleRef("object"))),
        RULES.__getitem__,
    ),
}

SEVERAL_WAYS = ["operators", "not at an end", "palindromes", "turns", "counted"]
GRAMMARS |= {f"ambiguous: {name}": EBNF(AMBIGUOUS[name]).grammar() for name in SEVERAL_WAYS}


def brute_force(grammar: CompiledGrammar, config: int) -> set[int]:
    vocabulary, automaton = grammar.vocabulary, grammar.automaton
    allowed = {t for t, data in enumerate(vocabulary.token_bytes) if data and automaton.step_bytes(config, data)}
    for symbol in automaton.special_symbols(config):
        allowed.add(vocabulary.special[automaton.program.specials[symbol - FIRST_SPECIAL]])
    return allowed | (set(vocabulary.eos_ids) if automaton.is_accepting(config) else set())


def bits(row: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist())


@pytest.fixture(params=["plain", "compiled"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernels compiled, and as the Python that they are compiled from."""
    if request.param == "plain":
        monkeypatch.setattr(automaton, "kernels", lambda: PLAIN)
    return str(request.param)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GRAMMARS)
def test_masks_equal_brute_force(name: str, seed: int, kernels: str, byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(seed)
    draw = random.Random(f"{name} {seed}")
    grammar = compile(GRAMMARS[name], vocabulary)
    seen: set[int] = set()
    for _ in range(12):
        matcher = Matcher(grammar)
        config = grammar.start
        for _ in range(25):
            row = np.zeros(vocabulary.num_words, np.uint32)
            matcher.mask_into(row)
            allowed = bits(row)
            if config not in seen:
                assert allowed == brute_force(grammar, config)
                seen.add(config)
            token = draw.choice(sorted(allowed))
            assert matcher.advance(token)
            if token in vocabulary.eos_ids:
                break
            config = grammar.step(config, token)
            assert config
        else:
            continue
        assert matcher.is_finished


def test_a_refused_token_changes_nothing(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    matcher = Matcher(compile(GRAMMARS["value"], vocabulary))
    assert matcher.advance(ord("["))
    assert not matcher.advance(ord("x"))
    assert not matcher.advance(vocabulary.eos_ids[0])
    assert matcher.output == b"["


def test_rollback_and_fork_are_independent(byte_vocabulary: Vocabularies) -> None:
    matcher = Matcher(compile(GRAMMARS["value"], byte_vocabulary(0)))
    for byte in b"[12":
        assert matcher.advance(byte)
    other = matcher.fork()
    matcher.rollback(2)
    assert (matcher.output, other.output) == (b"[", b"[12")
    assert matcher.advance(ord("]"))
    assert matcher.is_complete
    assert not other.is_complete
    with pytest.raises(ValueError, match="only 2"):
        matcher.rollback(3)


def test_end_of_text_only_when_complete(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    [end] = vocabulary.eos_ids
    matcher = Matcher(compile(GRAMMARS["value"], vocabulary))
    for byte in b"12":
        assert matcher.advance(byte)
    assert matcher.is_complete
    assert not matcher.is_finished
    assert matcher.advance(end)
    assert matcher.is_finished
    assert matcher.output == b"12"
    row = np.ones(vocabulary.num_words, np.uint32)
    matcher.mask_into(row)
    assert not row.any()


def test_a_batch_is_what_its_members_are(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    matchers = [Matcher(compile(grammar, vocabulary)) for grammar in GRAMMARS.values()] * 2
    rows = np.zeros((len(matchers), vocabulary.num_words), np.uint32)
    fill_masks(matchers, rows)
    for matcher, row in zip(matchers, rows, strict=True):
        alone = np.zeros(vocabulary.num_words, np.uint32)
        matcher.mask_into(alone)
        assert (row == alone).all()
        assert alone.any()


def test_many_sequences_do_not_exhaust_a_grammar(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    grammar = compile(GRAMMARS["value"], vocabulary, Limits(configurations=8192))
    draw = random.Random(5)
    first = Matcher(grammar)
    assert first.advance(ord("["))
    for _ in range(60):
        matcher = Matcher(grammar)
        text = "".join(draw.choice("[{") for _ in range(12)).replace("{", '{"a": "", "abc":"xyz", "q": ')
        for byte in text.encode():
            assert matcher.advance(byte)
    assert first.advance(ord("]"))
    assert first.is_complete
    assert Matcher(grammar).grammar is not grammar


HEX = ast.Characters(((48, 57), (65, 70), (97, 102)))
NOT_D = ast.Characters(((48, 57), (65, 67), (69, 70), (97, 99), (101, 102)))
INNER = {
    "an escape of four": several(b"\\u", NOT_D, HEX, HEX, HEX),
    "two at once": several(NOT_D, HEX),
    "one, and perhaps a call": ast.Choice((WORD, several(WORD, ast.RuleRef("more")))),
    "a call": ast.RuleRef("more"),
}


@pytest.mark.parametrize("limits", [(0, 3), (2, 3), (3, 3), (1, None)])
@pytest.mark.parametrize("name", INNER)
def test_counted_bodies_of_several_bytes(
    name: str, limits: tuple[int, int | None], byte_vocabulary: Vocabularies
) -> None:
    vocabulary = byte_vocabulary(1)
    node = several(b'"', ast.Repeat(ast.Choice((INNER[name], ast.Literal(b"-"))), *limits), b'"')
    grammar = compile(ast.Grammar(node, {"more": ast.Repeat(WORD, 1, 2)}.__getitem__), vocabulary)
    draw = random.Random(name)
    seen: set[int] = set()
    for _ in range(60):
        config = grammar.start
        while config:
            if config not in seen:
                assert bits(grammar.mask(config).copy()) == brute_force(grammar, config)
                seen.add(config)
            row = np.flatnonzero(grammar.automaton.row(config))
            config = grammar.automaton.step(config, int(draw.choice(row))) if len(row) else 0
