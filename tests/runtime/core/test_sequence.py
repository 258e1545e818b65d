"""Where a sequence's tokens came from, how much of its prompt may be looked up, when it counts as passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.radix import PrefixCache
from stemma.runtime.core.sequence import FinishReason, Usage
from tests.runtime.core.making import running, sequence


@pytest.mark.parametrize(
    ("options", "max_hit"),
    [
        ({}, 9),  # the last token's logits are computed, whatever is cached
        ({"prompt_logprobs": 0}, 0),  # the first token that is scored is predicted by the token before it
        ({"prompt_logprobs": 3, "scored_from": 4}, 3),
        ({"prompt_logprobs": 0, "scored_from": 10}, 9),
        ({"scored_from": 4}, 9),  # nobody asked for scores
    ],
)
def test_no_more_is_looked_up_than_logits_allow(options, max_hit):
    assert sequence(range(10), **options).request.max_hit == max_hit


COUNTS = st.lists(st.integers(0, 100), min_size=7, max_size=7)


@given(COUNTS, COUNTS)
def test_usages_add_up_count_by_count(one, other):
    added = Usage(*one) + Usage(*other)
    assert added == Usage(*(mine + yours for mine, yours in zip(one, other, strict=True)))
    assert sum([Usage(*one), Usage(*other)], Usage()) == added


def test_a_usage_is_not_joined_to_another_tuple():
    other: tuple[int, ...] = (1,)
    with pytest.raises(TypeError):
        Usage() + other


@given(num_prompt=st.integers(1, 20), num_cached=st.integers(0, 19), num_computed=st.integers(0, 30))
def test_prompt_tokens_are_cached_or_prefilled_and_never_both(num_prompt, num_cached, num_computed):
    item = sequence(range(num_prompt))
    item.num_cached = min(num_cached, num_prompt - 1)
    item.num_computed_once = max(num_computed, item.num_cached)
    usage = item.usage
    assert usage.cached_tokens + usage.prefilled_tokens == min(item.num_computed_once, num_prompt)
    assert min(usage) >= 0


def test_it_is_in_its_prompt_while_some_of_it_has_no_kv():
    cache, item = PrefixCache(8, 4), sequence(range(10))
    assert not item.is_in_prompt  # it does not run
    running(cache, item, 9)
    assert item.is_in_prompt
    item.num_computed = 10
    assert not item.is_in_prompt
    item.lease.release()


def test_what_is_generated_stands_behind_the_prompt():
    item = sequence([1, 2, 3])
    item.tokens += [7, 8]
    assert (item.generated, item.num_generated, item.num_prompt) == ([7, 8], 2, 3)
    assert item.request.prompt.tolist() == [1, 2, 3]


def test_finished_is_who_has_a_reason():
    item = sequence([1])
    assert not item.is_finished
    item.finish_reason = FinishReason.ABORT
    assert item.is_finished
