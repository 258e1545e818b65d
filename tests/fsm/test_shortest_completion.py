"""Shortest completions: they are accepted, and no shorter text is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast

Vocabularies = Callable[[int], Vocabulary]
DIGIT = ast.Characters(((48, 57),))
RULES: dict[object, ast.Node] = {
    "tree": ast.Concatenation(
        (
            ast.Literal(b"("),
            ast.Choice((ast.Concatenation((ast.RuleRef("tree"), ast.RuleRef("tree"))), DIGIT)),
            ast.Literal(b")"),
        )
    )
}
WORDS = ast.Repeat(ast.Characters(((97, 99),)), 0, None)
CASES = [
    (ast.Concatenation((ast.Literal(b"ab"), ast.Choice((ast.Literal(b"long"), ast.Literal(b"x"))))), b"", 3),
    (ast.Concatenation((ast.Repeat(DIGIT, 5, 9), ast.Literal(b"."))), b"12", 4),
    (ast.RuleRef("tree"), b"((", 6),
    (ast.RuleRef("tree"), b"((1)", 4),
    (ast.Difference(WORDS, ast.Choice((ast.Literal(b""), ast.Literal(b"a"), ast.Literal(b"b")))), b"", 1),
    (ast.Difference(WORDS, ast.Choice((ast.Literal(b"a"), ast.Literal(b"ab")))), b"a", 1),
    (ast.Concatenation((ast.Intersection(WORDS, ast.Repeat(ast.Literal(b"c"), 2, 3)), ast.Literal(b"!"))), b"c", 2),
    (
        ast.Repeat(ast.Concatenation((ast.Literal(b"<"), ast.Repeat(DIGIT, 2, 3), ast.Literal(b">"))), 3, None),
        b"<12><",
        7,
    ),
]


@pytest.mark.parametrize(("node", "before", "length"), CASES)
def test_it_is_accepted_and_shortest(node: ast.Node, before: bytes, length: int, byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    matcher = Matcher(compile(ast.Grammar(node, RULES.__getitem__), vocabulary))
    for byte in before:
        assert matcher.advance(byte)
    tokens = matcher.shortest_completion()
    assert tokens is not None
    assert sum(len(vocabulary.token_bytes[token]) for token in tokens) == length
    for token in tokens:
        assert matcher.advance(token)
    assert matcher.is_complete


def test_it_keeps_to_the_budget(byte_vocabulary: Vocabularies) -> None:
    matcher = Matcher(compile(ast.Grammar(ast.Repeat(DIGIT, 40, 50), RULES.__getitem__), byte_vocabulary(0)))
    tokens = matcher.shortest_completion(40)
    assert tokens is not None
    assert matcher.shortest_completion(len(tokens) - 1) is None


def test_special_tokens_are_on_the_way(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    node = ast.Concatenation((ast.Literal(b"a"), ast.Special("<|tool|>"), ast.Literal(b"b")))
    matcher = Matcher(compile(ast.Grammar(node, RULES.__getitem__), vocabulary))
    assert matcher.shortest_completion() == [ord("a"), vocabulary.special["<|tool|>"], ord("b")]


def test_arrays_of_unique_items_end_in_time_wherever_they_stand(byte_vocabulary: Vocabularies) -> None:
    """Each set of values seen is a rule of its own: there are 2^30 of them."""
    names = [f"v{number}" for number in range(30)]
    schema = {"type": "array", "items": {"enum": names}, "uniqueItems": True, "minItems": 25}
    vocabulary, draw = byte_vocabulary(0), random.Random(0)
    matcher = Matcher(compile(JSONSchema(schema), vocabulary))
    while not matcher.is_finished:
        ahead = matcher.fork()
        completion = ahead.shortest_completion()
        assert completion is not None
        assert all(map(ahead.advance, completion))
        assert ahead.is_complete
        items = json.loads(ahead.output)
        assert len(items) >= 25
        assert len(set(items)) == len(items)
        words = matcher.grammar.mask(matcher.config)
        allowed = [token for token in range(vocabulary.size) if words[token >> 5] >> (token & 31) & 1]
        assert matcher.advance(draw.choice(allowed))
