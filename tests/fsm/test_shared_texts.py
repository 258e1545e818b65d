"""Masks of patterns that grammars of one vocabulary share: found once, true wherever else they are used."""

from __future__ import annotations

import numpy as np
import pytest

from stemma.fsm import Matcher, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.kernels.columns import PAIR, STACK_BITS, product_of
from stemma.fsm.matching.grammar import CompiledGrammar
from stemma.fsm.matching.shared_texts import name_of, sides_of
from tests.fsm.conftest import build_vocabulary
from tests.fsm.test_masks import Vocabularies, bits, brute_force

TEXTS = {
    "hostname": (b"ab", b"ab-", b"ab-1.the", b"the.abc."),
    "email": (b"ab", b"ab.the", b"ab@", b"ab@the", b"ab@the.bc"),
}


def grammar_of(format: str, name: str, vocabulary: object) -> CompiledGrammar:
    """A schema that has not been compiled before, by its name; what follows the text differs with it too."""
    text = {"type": "string", "format": format}
    schema = {"type": "object", "properties": {name: text, f"{name}2": {"type": "integer"}}, "required": [name]}
    return compile(JSONSchema(schema), vocabulary)  # type: ignore[arg-type]


def place(grammar: CompiledGrammar, name: str, text: bytes) -> int:
    config = grammar.after(grammar.start, b'{"' + name.encode() + b'":"' + text)
    assert config
    return config


def pattern_at(grammar: CompiledGrammar, config: int) -> int:
    """The configuration of the pattern, of which the text is bounded."""
    automaton = grammar.automaton
    first = int(automaton.tables.items[automaton.items_of(config).start])
    assert first < 0
    return int(automaton.tables.products[product_of(first >> STACK_BITS), PAIR.left])


@pytest.mark.parametrize("format", TEXTS)
def test_masks_are_brute_force_where_others_have_found_their_half(format: str) -> None:
    vocabulary = build_vocabulary(5)
    for name in ("a", "b", "long_name", "d"):
        grammar = grammar_of(format, name, vocabulary)
        for text in TEXTS[format]:
            config = place(grammar, name, text)
            assert bits(grammar.mask(config)) == brute_force(grammar, config)
    assert sides_of(vocabulary)


def test_the_second_grammar_takes_what_the_first_has_found(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(1)
    grammars = {name: grammar_of("hostname", name, vocabulary) for name in ("x", "y", "z")}  # the first has no copy
    names = []
    for name in ("y", "z"):
        grammar = grammars[name]
        matcher = Matcher(grammar)
        matcher.mask_into(np.zeros(vocabulary.num_words, np.uint32))
        config = place(grammar, name, b"ab-")
        grammar.mask(config)
        left = pattern_at(grammar, config)
        names.append(name_of(grammar.automaton, left))
        assert names[-1] is not None
        assert grammar._cache.bases[left] is sides_of(vocabulary)[names[-1]].mask
    assert names[0] == names[1]


def test_places_are_told_apart(byte_vocabulary: Vocabularies) -> None:
    grammar_of("hostname", "x", byte_vocabulary(0))
    grammar = grammar_of("hostname", "y", byte_vocabulary(0))
    names = [
        name_of(grammar.automaton, pattern_at(grammar, place(grammar, "y", text))) for text in (b"", b"a", b"a-", b"a.")
    ]
    assert None not in names
    assert len(set(names)) == len(names)


def test_what_belongs_to_one_grammar_has_no_name(byte_vocabulary: Vocabularies) -> None:
    grammar = grammar_of("hostname", "y", byte_vocabulary(0))
    for config in (grammar.start, place(grammar, "y", b"a")):
        assert name_of(grammar.automaton, config) is None
