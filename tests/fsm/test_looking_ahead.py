"""Expressions that look ahead several times, as rules for passwords do: few configurations, and what `re` accepts."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from stemma.fsm import Matcher, compile
from stemma.fsm.kernels.columns import COUNT
from stemma.fsm.regex import Regex
from stemma.fsm.syntax.ast import Characters, Choice, Literal
from stemma.fsm.syntax.recogniser import Recogniser
from stemma.fsm.work import work_limit
from tests.fsm.conftest import build_vocabulary

PASSWORDS = [
    r"(?=.*[A-Z])(?=.*\d)\S{8,24}",
    r"(?=.*[A-Z])(?=.*\d)(?=.*[^\w])\S{8,24}",
    r"(?!.*\d{5})(?=.*[A-Z])(?=.*\d)(?=.*[^\w])\S{8,64}",
    r"(?=.*[a-z])(?!.*(?:abc|12))(?=.*[!@#$é])[!-~é]{4,12}",
]
VOCABULARY = build_vocabulary(3)


@pytest.mark.parametrize("pattern", PASSWORDS)
def test_looks_are_taken_together_without_the_length_that_is_counted_beside_them(pattern: str) -> None:
    with work_limit(200_000):
        grammar = compile(Regex(pattern), VOCABULARY)
        grammar.mask(grammar.start)
    assert grammar.automaton.num_configurations < 8_000
    assert grammar.automaton.tables.counts[COUNT.num_products] < 8_000


@pytest.mark.parametrize("pattern", PASSWORDS)
def test_walks_end_in_what_the_expression_accepts(pattern: str) -> None:
    draw, row = random.Random(pattern), np.zeros(VOCABULARY.num_words, np.uint32)
    grammar = compile(Regex(pattern), VOCABULARY)
    for _ in range(4):
        matcher = Matcher(grammar)
        while not matcher.is_finished:
            matcher.mask_into(row)
            allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()
            if not matcher.tokens or draw.random() < 0.1:
                for token in range(VOCABULARY.size):
                    data = VOCABULARY.token_bytes[token]
                    if data:
                        assert (token in allowed) == (grammar.after(matcher.config, data) != 0)
            assert matcher.advance(draw.choice(allowed))
        assert re.fullmatch(pattern, matcher.output.decode())


@pytest.mark.parametrize("pattern", PASSWORDS)
def test_texts_are_accepted_as_by_re(pattern: str) -> None:
    draw, grammar = random.Random(pattern), compile(Regex(pattern), VOCABULARY)
    known = set()
    for _ in range(600):
        text = "".join(draw.choices("aZ1!é b23", (8, 3, 4, 3, 2, 0.2, 3, 2, 2), k=draw.randint(2, 14)))
        accepted = bool(re.fullmatch(pattern, text))
        config = grammar.after(grammar.start, text.encode())
        assert (config != 0 and grammar.is_accepting(config)) == accepted, text
        known.add(accepted)
    assert known == {True, False}


def test_a_class_of_characters_has_one_that_stands_for_it() -> None:
    every_other = Characters(tuple((code, code) for code in range(0x100, 0x900, 2)))
    recogniser = Recogniser()
    state = recogniser.start(Choice((every_other, Characters(((0x100, 0x8FF),)), Literal(b"a"))))
    found = recogniser.representatives(state)
    assert found == [0, ord("a"), 0x100, 0x101]
