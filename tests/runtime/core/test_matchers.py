"""What the core relies on in a grammar matcher: of `stemma.fsm`'s, and of the one that its other tests use."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.regex import Regex
from stemma.fsm.vocabulary import disk_cache
from tests.runtime.core.making import Words

WORDS = [b"cat", b"cart", b"dog", b"do", b"a rather long one"]
END = 256


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A token a byte, and the end of text."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk_cache, "cache_folder", lambda: folder)
        return Vocabulary([*(bytes([byte]) for byte in range(256)), None], {"<end>": END}, [END], tokenize=list)


@pytest.fixture(params=["fsm", "words"])
def matcher(request, vocabulary):
    """WORDS with the end of text behind them, as a grammar of `stemma.fsm` ends them by itself."""
    if request.param == "words":
        return Words(*([*word, END] for word in WORDS))
    return Matcher(compile(Regex("|".join(word.decode() for word in WORDS)), vocabulary))


def allowed(matcher):
    row = np.full(9, 0xFFFFFFFF, np.uint32)
    matcher.mask_into(row)
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()


def walk(matcher, draw):
    """Random tokens that are allowed, to where nothing can follow."""
    while not matcher.is_finished:
        token = draw.choice(allowed(matcher))
        assert matcher.advance(token)
        yield token


@pytest.mark.parametrize("seed", range(5))
def test_the_mask_says_what_can_be_taken(matcher, seed):
    draw = random.Random(seed)
    tokens = []
    before = allowed(matcher)
    for token in walk(matcher, draw):
        tokens.append(token)
        for refused in draw.sample(sorted(set(range(257)) - set(before)), 5):
            matcher.rollback(1)
            assert not matcher.advance(refused)
            assert matcher.advance(token)
        before = allowed(matcher)
    assert bytes(token for token in tokens if token != END) in WORDS


@pytest.mark.parametrize("seed", range(5))
def test_what_is_taken_back_was_never_there(matcher, seed):
    before, tokens = [allowed(matcher)], []
    for token in walk(matcher, random.Random(seed)):
        tokens.append(token)
        before.append([] if matcher.is_finished else allowed(matcher))
    for num_tokens in range(1, len(tokens) + 1):
        matcher.rollback(num_tokens)
        assert allowed(matcher) == before[-1 - num_tokens]
        assert not matcher.is_finished
        assert [matcher.advance(token) for token in tokens[-num_tokens:]] == [True] * num_tokens
        assert matcher.is_finished


@pytest.mark.parametrize("seed", range(5))
def test_a_shortest_completion_ends_the_output_within_its_budget(matcher, seed):
    places = 0
    for _ in walk(matcher, random.Random(seed)):
        completion = matcher.shortest_completion(100)
        assert len(matcher.shortest_completion(len(completion))) == len(completion)
        assert not completion or matcher.shortest_completion(len(completion) - 1) is None
        for token in completion:
            assert matcher.advance(token)
        assert matcher.shortest_completion(0) == []
        matcher.rollback(len(completion))
        places += 1
    assert places >= 2


def test_forced_tokens_are_those_that_every_output_goes_on_with(matcher):
    assert matcher.forced().tokens == []
    assert matcher.advance(ord("a"))
    assert bytes(token for token in matcher.forced().tokens if token != END) == b" rather long one"
    matcher.rollback(1)
    for letter in b"ca":
        assert matcher.advance(letter)
    assert matcher.forced().tokens == []
    assert matcher.advance(ord("r"))
    assert matcher.forced().tokens[:1] == [ord("t")]
