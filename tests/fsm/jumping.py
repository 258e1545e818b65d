"""Outputs that take every forced token, and what their tokens are when they are encoded whole."""

from __future__ import annotations

import random

from stemma.fsm import Matcher, Vocabulary
from stemma.fsm.matching.grammar import CompiledGrammar


def generate(grammar: CompiledGrammar, draw: random.Random, most: int) -> tuple[bytes, list[tuple[int, int]]]:
    """A random output of `most` tokens or a few more, and where in it the forced ones lie (byte, token)."""
    matcher, vocabulary = Matcher(grammar), grammar.vocabulary
    certain: list[tuple[int, int]] = []
    while True:
        forced = matcher.forced()
        for token in forced.tokens:
            certain.append((len(matcher.output), token))
            assert matcher.advance(token)
        for draft in forced.drafts:
            assert matcher.advance(draft)
        matcher.rollback(len(forced.drafts))
        if matcher.is_finished or len(matcher.tokens) > most:
            return matcher.output, certain
        words = grammar.mask(matcher.config)
        allowed = [token for token in range(vocabulary.size) if words[token >> 5] >> (token & 31) & 1]
        if forced.drafts and draw.random() < 0.3:
            allowed = forced.drafts[:1]
        assert matcher.advance(draw.choice(allowed))


def places(vocabulary: Vocabulary, text: bytes) -> dict[int, int]:
    """The tokens of a whole text by where they begin."""
    assert vocabulary.tokenize is not None
    found, position = {}, 0
    for token in vocabulary.tokenize(text):
        found[position] = token
        position += len(vocabulary.token_bytes[token])
    return found
