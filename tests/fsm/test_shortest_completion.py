"""Shortest completions: they are accepted, and no shorter text is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.automaton import shortest_completion
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import GrammarError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast
from stemma.fsm.work import work_limit
from tests.fsm.test_left_recursion import drawn, language, written

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


@pytest.mark.parametrize("seed", range(8))
def test_random_ambiguous_rules_end_as_the_shortest_text_of_their_language_does(
    seed: int, byte_vocabulary: Vocabularies
) -> None:
    draw = random.Random(seed)
    num_known = 0
    for _ in range(12):
        rules = drawn(draw, ["root", "x", "y"][: draw.randint(1, 3)], 3)
        texts = language(rules)
        try:
            matcher = Matcher(compile(EBNF(written(rules)), byte_vocabulary(0)))
        except GrammarError:
            continue  # it has no text at all
        for text in sorted(texts):
            for end in range(len(text) + 1):
                before = text[:end].encode()
                assert all(map(matcher.advance, before))
                tokens = matcher.shortest_completion()
                assert tokens is not None
                shortest = min(len(each) for each in texts if each.startswith(text[:end]))
                completion = b"".join(matcher.grammar.vocabulary.token_bytes[token] for token in tokens)
                assert len(completion) == shortest - end, (written(rules), before)
                assert (before + completion).decode() in texts
                matcher.rollback(end)
                num_known += 1
    assert num_known > 100


DEEP = r"""
root ::= (([a-b] root) (([\x80-\U000007ff] root) y)) | (w{5,9} | (y "ed"))
x ::= "\"}"{2}
y ::= x{5,9}
z ::= ((("  " [\U00004e00-\U00009fff] z) ([0-9] | "\\")) ([0-9] | w | "\u0078"){,40})
w ::= ("\"" | root | z){2}
"""


def walked(matcher: Matcher, draw: random.Random) -> bool:
    allowed = matcher.grammar.next_bytes(matcher.config)
    return bool(allowed) and matcher.advance(draw.choice(allowed))


def test_stacks_that_many_items_share_are_looked_at_once(byte_vocabulary: Vocabularies) -> None:
    """Each search does no more work than what is new takes, however deep the unions below it are."""
    grammar = compile(EBNF(DEEP), byte_vocabulary(0))
    for seed in range(4):
        matcher, draw = Matcher(grammar), random.Random(seed)
        while len(matcher.tokens) < 40 and walked(matcher, draw):
            with work_limit(60_000):
                completion = matcher.shortest_completion()
            assert completion is not None
            with work_limit(10 + 4 * len(completion)):
                assert matcher.shortest_completion() == completion
            ahead = matcher.fork()
            assert all(map(ahead.advance, completion))
            assert ahead.is_complete


def test_what_takes_too_much_work_is_not_told_and_is_soon_not_tried(
    byte_vocabulary: Vocabularies, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = Matcher(compile(EBNF(DEEP), byte_vocabulary(0)))
    monkeypatch.setattr(shortest_completion, "MAX_WORK", 40)
    with work_limit(200):  # of 100 searches together
        assert [matcher.shortest_completion() for _ in range(100)] == [None] * 100
    monkeypatch.undo()
    assert Matcher(compile(EBNF(DEEP), byte_vocabulary(0))).shortest_completion()


def test_a_long_text_is_spelled_with_the_fewest_tokens(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    tokens = Vocabulary([*vocabulary.token_bytes[:256], b"aaaa", b"aaa", None], {"<|end|>": 258}, [258])
    matcher = Matcher(compile(ast.Grammar(ast.Repeat(ast.Literal(b"a"), 5001, 6000), RULES.__getitem__), tokens))
    completion = matcher.shortest_completion()
    assert completion is not None
    assert len(completion) == 1251
    assert sum(len(tokens.token_bytes[token]) for token in completion) == 5001
