"""Forced tokens: what is forced stays what a later encoding of the whole output gives, and nothing legal is lost."""

from __future__ import annotations

import functools
import random

import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.syntax import ast
from tests.fsm.jumping import generate, places

CORPUS = [
    '{"name": "value", "names": [1, 2], "id": 12345}', '{"is_it": true,\n  "kind": "it\'s we\'ll they\'re"}',
    "the quick brown fox  jumps\n\n over the lazy dog", '{"a":{"b":{"c":[{"d":"e"}]}}}', '","name":"', '"}],"id":',
] * 3  # fmt: skip


def no_rules(name: object) -> ast.Node:
    raise AssertionError(name)


@functools.cache
def trained() -> tuple[tokenizers.Tokenizer, Vocabulary]:
    """A byte-level BPE learnt from a few lines, its vocabulary, and two special tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=480, min_frequency=1, initial_alphabet=alphabet, special_tokens=["<|end|>", "<|tool|>"]
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    token_bytes: list[bytes | None] = [None] * tokenizer.get_vocab_size()
    for text, token in tokenizer.get_vocab().items():
        if text not in ("<|end|>", "<|tool|>"):
            token_bytes[token] = bytes(byte_of[char] for char in text)
    special = {text: tokenizer.token_to_id(text) for text in ("<|end|>", "<|tool|>")}

    def encode(data: bytes) -> list[int]:
        return list(tokenizer.encode(data.decode(), add_special_tokens=False).ids)

    return tokenizer, Vocabulary(token_bytes, special, [special["<|end|>"]], encode)


def literal(*texts: str) -> ast.Node:
    return ast.Choice(tuple(ast.Literal(text.encode()) for text in texts))


PIECES = [
    '{"name": ',
    '"value"',
    ", ",
    '"id": ',
    "12",
    "  ",
    "\n",
    "it's",
    "we",
    "'",
    "ll",
    "true",
    "}",
    "]",
    "names",
    "é",
]
FOREIGN = ["да", "нет", "大", "小", "été", "être", "👍", "👎", "ё", "¡", "中a", "𐍈"]
RANGES = [
    ((0xE01, 0xE5B),),
    ((0x3041, 0x3093),),
    ((0x1F600, 0x1F64F),),
    ((0x430, 0x44F),),
    ((0x61, 0x7A), (0x400, 0x4FF)),
]


def nodes() -> st.SearchStrategy[ast.Node]:
    leaf = st.sampled_from(PIECES).map(lambda text: ast.Literal(text.encode()))
    words = st.lists(st.sampled_from(PIECES), min_size=2, max_size=3).map(lambda texts: literal(*texts))
    letters = st.builds(
        ast.Repeat, st.just(ast.Characters(((97, 122),))), st.integers(0, 1), st.sampled_from([2, None])
    )
    parts = st.one_of(leaf, leaf, words, letters)
    return st.lists(parts, min_size=1, max_size=8).map(lambda found: ast.Concatenation(tuple(found)))


@settings(max_examples=300, deadline=None)
@given(nodes(), st.integers(0, 1000))
def test_hard_tokens_are_canonical_whatever_follows(node: ast.Node, seed: int) -> None:
    _, vocabulary = trained()
    grammar = compile(ast.Grammar(node, no_rules), vocabulary)
    text, certain = generate(grammar, random.Random(seed), 60)
    canonical = places(vocabulary, text)
    for place, token in certain:
        assert canonical.get(place) == token, (text, place, vocabulary.token_bytes[token])


def beginnings() -> st.SearchStrategy[ast.Node]:
    """Outputs that begin with one of several characters, of which the first bytes may be the same."""
    words = st.lists(st.sampled_from(FOREIGN), min_size=2, max_size=3).map(lambda texts: literal(*texts))
    characters = st.builds(ast.Repeat, st.sampled_from(RANGES).map(ast.Characters), st.integers(0, 1), st.just(3))
    return st.tuples(st.one_of(words, characters), st.one_of(words, characters, nodes())).map(ast.Concatenation)


@settings(max_examples=150, deadline=None)
@given(beginnings(), st.integers(0, 1000))
def test_the_beginning_of_a_character_is_no_text_of_its_own(node: ast.Node, seed: int) -> None:
    _, vocabulary = trained()
    text, certain = generate(compile(ast.Grammar(node, no_rules), vocabulary), random.Random(seed), 60)
    canonical = places(vocabulary, text)
    for place, token in certain:
        assert canonical.get(place) == token, (text, place, vocabulary.token_bytes[token])


def test_a_known_first_byte_is_not_forced() -> None:
    _, vocabulary = trained()
    assert Matcher(compile(ast.Grammar(literal("да", "нет"), no_rules), vocabulary)).forced() == ([], [])


def test_a_forced_output_is_all_hard() -> None:
    tokenizer, vocabulary = trained()
    text = '{"name": "value", "id": 12345}'
    matcher = Matcher(compile(ast.Grammar(ast.Literal(text.encode()), no_rules), vocabulary))
    forced = matcher.forced()
    assert forced.tokens == tokenizer.encode(text).ids
    assert forced.drafts == []


def test_a_tail_that_may_join_what_follows_is_a_draft() -> None:
    _, vocabulary = trained()
    node = ast.Concatenation((ast.Literal(b'{"a": {"name"'), literal(": 1", "x")))
    forced = Matcher(compile(ast.Grammar(node, no_rules), vocabulary)).forced()
    text = b"".join(vocabulary.token_bytes[token] for token in forced.tokens + forced.drafts)
    assert text == b'{"a": {"name"'
    assert forced.drafts
    assert forced.tokens


def test_a_special_token_that_must_come_is_hard() -> None:
    _, vocabulary = trained()
    node = ast.Concatenation((ast.Special("<|tool|>"), ast.Literal(b"true")))
    matcher = Matcher(compile(ast.Grammar(node, no_rules), vocabulary))
    assert matcher.forced().tokens == [vocabulary.special["<|tool|>"]]
    assert matcher.advance(vocabulary.special["<|tool|>"])
    assert b"".join(vocabulary.token_bytes[token] for token in matcher.forced().tokens) == b"true"


def test_specials_whose_rules_bring_further_ones() -> None:
    """What a special token leads to is asked while it is looked for: rules built then may bring further specials."""
    _, vocabulary = trained()
    rules = {
        "tag": ast.Concatenation((ast.Special("<|tool|>"), ast.RuleRef("inside"))),
        "inside": ast.Choice((ast.Literal(b"true"), ast.Special("<|end|>"), ast.RuleRef("tag"))),
    }
    matcher = Matcher(compile(ast.Grammar(ast.RuleRef("tag"), rules.__getitem__), vocabulary))
    tool, end = vocabulary.special["<|tool|>"], vocabulary.special["<|end|>"]
    assert matcher.forced().tokens == [tool]
    assert matcher.advance(tool)
    words = matcher.grammar.mask(matcher.config)
    assert [token for token in (tool, end) if words[token >> 5] >> (token & 31) & 1] == [tool, end]
    assert matcher.advance(end)
    assert matcher.is_finished


def test_without_an_encoder_nothing_is_forced() -> None:
    _, known = trained()
    vocabulary = Vocabulary(known.token_bytes, known.special, known.eos_ids)
    assert Matcher(compile(ast.Grammar(ast.Literal(b"abc"), no_rules), vocabulary)).forced() == ([], [])


def test_an_encoder_that_changes_the_text_is_not_believed() -> None:
    _, known = trained()
    vocabulary = Vocabulary(known.token_bytes, known.special, known.eos_ids, lambda data: [5])
    assert Matcher(compile(ast.Grammar(ast.Literal(b"abc"), no_rules), vocabulary)).forced() == ([], [])
