"""Tokens that are counted step by step, against counting all of them each time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.kernels.changes import NOTHING_ADDED
from stemma.runtime.core.seen import SeenTokens

TOKENS = st.lists(st.integers(0, 199), max_size=150)


@given(TOKENS, st.lists(TOKENS, max_size=4), st.sampled_from([1.0, 1.3]), st.booleans(), st.data())
def test_in_steps_is_as_at_once(prompt, steps, factor, is_early, data):
    bias = {3: 1.5, 7: -2.0}
    ends = frozenset({7, 11})
    seen, text = SeenTokens(bias, ends, factor, 200), [*prompt]
    for step in steps:
        text += step
        seen.take(text, len(prompt))
    drafted = seen.copy()
    drafted.take([*text, 5, 5, 199], len(prompt))
    for counted, tokens in ((drafted, [*text, 5, 5, 199]), (seen, text)):
        if not steps and counted is seen:
            continue  # nothing was taken, not even the prompt
        found = {
            token: row
            for token, *row in zip(*map(np.ndarray.tolist, counted.places(0.5, 0.25, is_early=is_early)), strict=True)
        }
        made = Counter(tokens[len(prompt) :])
        came = {*tokens} if factor != 1 else {*made}
        assert set(found) == came | {*bias} | ends
        for token, (added_bias, penalty, added) in found.items():
            assert added_bias == bias.get(token, NOTHING_ADDED)
            assert penalty == pytest.approx(factor if token in came else 1.0)
            if is_early and token in ends:
                assert added == -np.inf
            else:
                assert added == (-(0.5 + 0.25 * made[token]) if made[token] else 0.0)


def test_nothing_added_leaves_zeros_as_they_are():
    seen = SeenTokens({}, (), 2.0, 10)
    seen.take([1, 2], 2)
    _, bias, _, added = seen.places(0.5, 0.5, is_early=False)
    assert np.signbit(bias).all()
    assert np.signbit(added).all()


@pytest.mark.parametrize("token", [-1, 10])
def test_a_token_that_is_none(token):
    with pytest.raises(IndexError, match="is not one of 10"):
        SeenTokens({token: 1.0}, (), 1.0, 10)
    with pytest.raises(IndexError, match="is not one of 10"):
        SeenTokens({}, (), 1.0, 10).take([1, token], 0)
