"""What a caller may ask of sampling, and the numbers that are drawn for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.runtime.core.sampling import MAX_LOGPROBS, Sampling, uniform
from stemma.runtime.errors import InvalidRequest

EDGES = {
    "temperature": ([0, 100], [-0.001, 100.1, float("nan")]),
    "top_k": ([0, 2**40], [-1]),
    "top_p": ([1e-9, 1], [0, 1.001, float("nan")]),
    "min_p": ([0, 1], [-0.001, 1.001]),
    "repetition_penalty": ([1e-9, 100], [0, -1, 100.1]),
    "presence_penalty": ([-2, 2], [-2.001, 2.001]),
    "frequency_penalty": ([-2, 2], [-2.001, 2.001]),
    "stop": (["x", ("x", "y"), ()], ["", ("x", "")]),
    "logit_bias": ([{1: 100}, {1: -100}], [{1: 100.1}, {1: -100.1}]),
    "logprobs": ([None, 0, MAX_LOGPROBS], [-1, MAX_LOGPROBS + 1]),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (good, _) in EDGES.items() for value in good])
def test_a_value_at_the_edge_of_its_range_is_taken(name, value):
    taken = getattr(Sampling(**{name: value}), name)
    assert taken == ((value,) if isinstance(value, str) else value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, bad) in EDGES.items() for value in bad])
def test_a_value_beyond_its_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidRequest, match=name) as refused:
        Sampling(**{name: value})
    assert refused.value.param == name


def test_every_field_says_what_it_does():
    for field in fields(Sampling):
        assert f"{field.name}:" in Sampling.__doc__ or f"{field.name}, " in Sampling.__doc__


@pytest.mark.parametrize(
    ("options", "penalties", "changes"),
    [
        ({}, False, False),
        ({"temperature": 1.0, "top_k": 3, "seed": 1, "stop": "x", "logprobs": 2}, False, False),
        ({"logit_bias": {1: 0.0}}, False, True),
        ({"repetition_penalty": 1.1}, True, True),
        ({"presence_penalty": -0.1}, True, True),
        ({"frequency_penalty": 0.1}, True, True),
    ],
)
def test_it_knows_what_changes_logits(options, penalties, changes):
    made = Sampling(**options)
    assert (made.has_penalties, made.changes_logits) == (penalties, changes)


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**20))
def test_a_number_depends_on_seed_and_position_alone(seed, position):
    drawn = uniform(seed, position)
    assert 0 <= drawn < 1
    assert drawn == uniform(seed, position) == uniform(seed + 2**64, position)


def test_numbers_are_spread_evenly_along_positions_and_along_seeds():
    for drawn in ([uniform(7, at) for at in range(16000)], [uniform(at, 7) for at in range(16000)]):
        counts = Counter(int(number * 16) for number in drawn)
        assert len(counts) == 16
        assert max(abs(count - 1000) for count in counts.values()) < 150  # five standard deviations
        following = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
        assert abs(following) < 0.05
        assert len(set(drawn)) == len(drawn)
