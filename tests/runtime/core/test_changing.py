"""What a request changes of its logits, as places: each token once, with all that concerns it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stemma.kernels.changes import NOTHING_ADDED
from stemma.runtime.core.changing import Position, places_of
from stemma.runtime.core.sampling import Sampling
from tests.runtime.core.making import Words, sequence


def entries(position, vocabulary=100):
    """token: (bias, factor, added); None where nothing is added, and that to the bit."""
    places = places_of(position, vocabulary)
    assert set(places.rows.tolist()) <= {position.logits_row}
    columns = [column.tolist() for column in places[1:]]
    found = {}
    for token, bias, factor, added in zip(*columns, strict=True):
        assert token not in found
        found[token] = tuple(None if x == 0 and math.copysign(1, x) < 0 else x for x in (bias, factor, added))
    assert np.signbit(NOTHING_ADDED)
    return found


def position(generated=(), drafts=(), **options):
    item = sequence([1, 2, 3], max_tokens=50, **options)
    item.tokens += generated
    item.drafts = list(drafts)
    return Position(4, item, len(item.tokens) + len(drafts))


def test_all_that_concerns_a_token_is_one_place():
    sampling = Sampling(
        logit_bias={2: 5.0, 9: -3.0}, repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25, min_tokens=9
    )
    found = entries(position([2, 7, 7], sampling=sampling, end_tokens=frozenset({7, 11})))
    assert found == {
        1: (None, 2.0, None), 2: (5.0, 2.0, -0.75), 3: (None, 2.0, None), 7: (None, 2.0, -math.inf),
        9: (-3.0, 1.0, None), 11: (None, 1.0, -math.inf),
    }  # fmt: skip


def test_drafts_before_it_count():
    made = position([5], [5, 6], sampling=Sampling(frequency_penalty=1.0))
    assert entries(made) == {5: (None, 1.0, -2.0), 6: (None, 1.0, -1.0)}
    assert entries(made._replace(num_tokens=made.num_tokens - 1)) == {5: (None, 1.0, -2.0)}


def test_an_end_is_held_back_until_its_time_unless_a_grammar_says_when():
    waits = Sampling(min_tokens=2)
    assert entries(position([5], sampling=waits, end_tokens=frozenset({8}))) == {8: (None, 1.0, -math.inf)}
    late, guided = position([5, 6], sampling=waits), position([5], sampling=waits, matcher=Words([5, 6]))
    assert not late.changes_logits
    assert not guided.changes_logits


@pytest.mark.parametrize("token", [-1, 100])
def test_a_token_that_there_is_not_is_told(token):
    with pytest.raises(IndexError, match=f"token {token} is not one of 100"):
        entries(position(sampling=Sampling(logit_bias={token: 1.0})))
