"""What a grammar remembers of its places: it may forget them and stay the same, matchers share them, and it holds
nobody alive."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from stemma.fsm import Matcher, Vocabulary, compile, fill_masks
from stemma.fsm.matching import place
from stemma.fsm.matching.grammar import CompiledGrammar
from tests.fsm.test_masks import GRAMMARS, bits

Vocabularies = Callable[[int], Vocabulary]


def walk(matcher: Matcher, draw: random.Random) -> list[tuple[set[int], bool, bool]]:
    """A random output: at each place its mask, and whether it is complete and finished."""
    met, row = [], np.zeros(matcher.grammar.vocabulary.num_words, np.uint32)
    for _ in range(40):
        matcher.mask_into(row)
        allowed = bits(row.copy())
        met.append((allowed, matcher.is_complete, matcher.is_finished))
        if matcher.is_finished:
            break
        assert matcher.advance(draw.choice(sorted(allowed)))
    return met


@pytest.mark.parametrize("name", GRAMMARS)
def test_what_is_forgotten_is_found_again(
    name: str, byte_vocabulary: Vocabularies, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = byte_vocabulary(0)
    whole, forgetful = compile(GRAMMARS[name], vocabulary), compile(GRAMMARS[name], vocabulary)
    monkeypatch.setattr(place, "MAX_STEPS", 3)
    monkeypatch.setattr(forgetful.places, "_max_masked", 2)
    for seed in range(4):
        assert walk(Matcher(forgetful), random.Random(seed)) == walk(Matcher(whole), random.Random(seed))
    assert sum(len(each.steps) for each in forgetful.places.values()) <= 3
    assert sum(each.mask is not None for each in forgetful.places.values()) <= 2


def test_masks_of_a_batch_are_those_of_its_members(byte_vocabulary: Vocabularies) -> None:
    """Known and unknown places, ends of text and several grammars beside each other."""
    vocabulary = byte_vocabulary(1)
    grammars = [compile(grammar, vocabulary) for grammar in GRAMMARS.values()]
    draw = random.Random(0)
    for count in range(40):
        matchers = [Matcher(draw.choice(grammars)) for _ in range(count)]
        for matcher in matchers:
            for _ in range(draw.randrange(6)):
                following = matcher.grammar.next_bytes(matcher.config)
                if matcher.is_complete and draw.random() < 0.5:
                    matcher.advance(vocabulary.eos_ids[0])
                elif following:
                    assert matcher.advance(draw.choice(following)) or matcher.is_finished
        rows = np.full((count, vocabulary.num_words), 7, np.uint32)
        fill_masks(matchers, rows)
        for matcher, row in zip(matchers, rows, strict=True):
            alone = np.zeros_like(row)
            matcher.fork().mask_into(alone)
            assert (row == alone).all()


def test_a_mask_that_fails_leaves_all_rows_as_they_are(
    byte_vocabulary: Vocabularies, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = byte_vocabulary(0)
    good, bad = (Matcher(compile(GRAMMARS["value"], vocabulary)) for _ in range(2))

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(bad.grammar, "_computed", fail)
    rows = np.full((2, vocabulary.num_words), 7, np.uint32)
    with pytest.raises(MemoryError):
        fill_masks([good, bad], rows)
    assert (rows == 7).all()
    with pytest.raises(MemoryError):  # nor is it remembered
        bad.mask_into(rows[0])


@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_a_batch_has_a_row_for_each(num_rows: int, byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    matchers = [Matcher(compile(GRAMMARS["value"], vocabulary))] * 2
    with pytest.raises(ValueError, match="one for each of the 2 matchers"):
        fill_masks(matchers, np.zeros((num_rows, vocabulary.num_words), np.uint32))


def test_rows_may_lie_apart(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    matchers = [Matcher(compile(GRAMMARS[name], vocabulary)) for name in ("value", "words")]
    wide = np.zeros((4, 2 * vocabulary.num_words), np.uint32)
    near = np.zeros((2, vocabulary.num_words), np.uint32)
    fill_masks(matchers, wide[::2, ::2])
    fill_masks(matchers, near)
    assert (wide[::2, ::2] == near).all()
    assert not wide[1::2].any()
    assert not wide[:, 1::2].any()


def test_behind_the_end_of_text_nothing_is_taken(byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    [end] = vocabulary.eos_ids
    matcher = Matcher(compile(GRAMMARS["value"], vocabulary))
    assert matcher.advance(ord("1"))
    config = matcher.config
    assert matcher.advance(end)
    assert (matcher.config, matcher.tokens, matcher.forced()) == (config, [ord("1"), end], ([], []))
    assert not any(matcher.advance(token) for token in (end, ord("1"), vocabulary.size, -1))
    matcher.rollback(1)
    assert not matcher.is_finished
    assert matcher.advance(ord("2"))


def test_a_grammar_that_nobody_uses_is_gone_at_once(byte_vocabulary: Vocabularies) -> None:
    """It and its masks are large; the collector of circles may come late."""
    matcher = Matcher(compile(GRAMMARS["value"], byte_vocabulary(0)))
    grammar: weakref.ref[CompiledGrammar] = weakref.ref(matcher.grammar)
    walk(matcher, random.Random(0))
    gc.collect()
    gc.disable()
    try:
        del matcher
        assert grammar() is None
    finally:
        gc.enable()
