"""What each source guesses: against a plain search through the text, and against what is in the cache."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.radix import PrefixCache
from stemma.runtime.core.drafts.prompt import LEAST_RUN, MAX_PLACES, NEAR, PromptSource
from stemma.runtime.core.drafts.source import NOTHING
from stemma.runtime.core.drafts.tree import LOOK_AHEAD, TreeSource
from tests.runtime.core.making import running, sequence


def longest_past(tokens: list[int]) -> int:
    """Of the newest places where the last two tokens stood before: how much of what is before them is the same."""
    end, found = len(tokens), []
    for place in range(end - 1, 1, -1):
        if tokens[place - 2 : place] == tokens[end - 2 :]:
            past = 0
            while past < place and tokens[place - 1 - past] == tokens[end - 1 - past]:
                past += 1
            found.append(past)
    return max(found[:MAX_PLACES], default=0)


@settings(max_examples=300, deadline=None)
@given(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=40), at_most=st.integers(1, 12))
def test_the_prompt_goes_on_as_behind_the_longest_common_past(tokens, at_most):
    guess = PromptSource().guess(sequence(tokens), at_most)
    past = longest_past(tokens)
    assert guess.grounds == past
    if not past:
        assert guess == NOTHING
        return
    assert len(guess.tokens) == at_most
    text = [*tokens, *guess.tokens]
    periods = [len(tokens) - place for place in range(2, len(tokens)) if tokens[place - past : place] == tokens[-past:]]
    assert any(all(text[at] == text[at - period] for at in range(len(tokens), len(text))) for period in periods), (
        "no place with that past goes on so"
    )


@settings(max_examples=100, deadline=None)
@given(tokens=st.lists(st.integers(0, 2), min_size=4, max_size=60), steps=st.lists(st.integers(1, 5), max_size=30))
def test_asked_on_the_way_or_at_the_end_it_is_text_that_followed(tokens, steps):
    """However many tokens come between two questions: what it guesses on grounds of two tokens did follow these."""
    source, item = PromptSource(), sequence(tokens[:2])
    for step in steps:
        guess = source.guess(item, 1)
        if guess.grounds >= 2:
            pairs = [
                item.tokens[at - 2 : at] for at in range(2, len(item.tokens)) if item.tokens[at] == guess.tokens[0]
            ]
            assert item.tokens[-2:] in pairs
        item.tokens.extend(tokens[len(item.tokens) : len(item.tokens) + step])


@pytest.mark.parametrize(
    ("said", "goes_on", "grounds"),
    [
        ([50], [17, 18, 19], 0),  # in place of 16
        ([17], [18, 19, 20], 1),  # 16 is left out
        ([50, 16], [17, 18, 19], 1),  # 50 is put in
        ([50, 51], [18, 19, 20], 0),  # in place of 16 and 17
        ([50, 51, 19], [20, 21, 22], 1),
    ],
)
def test_a_quotation_with_a_word_changed_left_out_or_put_in_goes_on_behind_it(said, goes_on, grounds):
    source, item = PromptSource(), sequence([*range(10, 30), 1, 2, 10, 11])
    assert source.guess(item, 9).tokens[:4] == [12, 13, 14, 15]
    item.tokens += [12, 13, 14, 15]
    for token in said:
        source.guess(item, 3)
        item.tokens.append(token)
    assert source.guess(item, 3) == (goes_on, grounds)


def test_what_is_said_long_behind_a_quotation_or_a_short_one_has_nothing_to_do_with_it():
    source, item = PromptSource(), sequence([*range(10, 30), 1, 2, 10, 11])
    for token in range(12, 12 + LEAST_RUN - 3):
        source.guess(item, 3)
        item.tokens.append(token)
    source.guess(item, 3)
    item.tokens.append(50)
    assert source.guess(item, 3) == NOTHING, "too short"
    source, item = PromptSource(), sequence([*range(10, 30), 1, 2, 10, 11])
    source.guess(item, 3)
    item.tokens += [12, 13, 14, *range(50, 51 + NEAR)]
    assert source.guess(item, 3) == NOTHING, "too long ago"


def stored(cache: PrefixCache, tokens: list[int]) -> None:
    with cache.acquire(tokens) as lease:
        lease.reserve(len(tokens) - lease.num_tokens)
        lease.extend(tokens[lease.num_tokens :])
        lease.commit()


def test_the_tree_goes_on_with_what_is_cached_and_with_another_text_where_it_was_wrong():
    cache = PrefixCache(64, 4)
    stored(cache, [1, 2, 3, 10, 11, 12, 13])
    stored(cache, [1, 2, 3, 4, 5, 6, 7, 8])
    item, source = running(cache, sequence([1, 2, 3]), 2), TreeSource()
    assert source.guess(item, 2) == ([4, 5], 0)
    item.tokens += [4, 5]
    assert source.guess(item, 9) == ([6, 7, 8], 2)
    other = running(cache, sequence([1, 2, 3]), 2)
    source = TreeSource()
    assert source.guess(other, 1).tokens == [4]
    other.tokens += [10]
    assert source.guess(other, 9) == ([11, 12, 13], 0)
    other.tokens += [50]
    assert source.guess(other, 9) == NOTHING
    for each in (item, other):
        each.lease.release()


def test_text_that_was_evicted_is_guessed_no_more_than_was_read():
    cache, text = PrefixCache(256, 4), list(range(900))
    stored(cache, text)
    item, source = running(cache, sequence(text[:3]), 2), TreeSource()
    assert source.guess(item, 5).tokens == text[3:8]
    cache.clear()
    item.tokens = text[: LOOK_AHEAD + 2]
    assert source.guess(item, 5).tokens == [LOOK_AHEAD + 2]
    item.tokens = text[: LOOK_AHEAD + 3]
    assert source.guess(item, 5) == NOTHING
    assert np.array_equal(item.request.prompt, text[:3])
    item.lease.release()
