"""Who may start: hits, waiting for another's blocks, room; all read off a cache, nothing computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.radix import PrefixCache
from stemma.runtime.core.admission import Admission, common_prefix
from tests.runtime.core.making import common, running, sequence

SIZE = 4


def cached(cache, tokens):
    """Has the cache hold these tokens."""
    item = running(cache, sequence(tokens), len(tokens))
    item.lease.commit()
    item.lease.release()


def test_a_hit_leaves_what_logits_are_computed_from():
    cache = PrefixCache(64, SIZE)
    cached(cache, range(20))
    items = [sequence(range(20)), sequence(range(20), prompt_logprobs=0, scored_from=7)]
    assert [Admission(cache, reuse=True).hit_len(item) for item in items] == [19, 6]
    assert [Admission(cache, reuse=False).hit_len(item) for item in items] == [0, 0]


@pytest.mark.parametrize(
    ("prompt", "options", "is_computed"),
    [
        ([*range(20), 99], {}, True),
        ([*range(12), 99, 98], {}, True),  # a block more than is published
        ([*range(11), 99, 98, 97], {}, False),  # less than a block more
        (range(9), {}, False),  # all of it but its last token is published
        (range(10), {}, True),  # what is left is less than a block, but it is all that is left
        ([*range(20), 99], {"namespace": "other"}, False),
        ([*range(20), 99], {"prompt_logprobs": 0}, False),  # it looks nothing up
    ],
    ids=str,
)
def test_it_waits_for_a_prompt_that_will_publish_more_of_its_prefix(prompt, options, is_computed):
    """Eight of the running prompt's twenty tokens are computed and published."""
    cache = PrefixCache(64, SIZE)
    ahead = running(cache, sequence(range(20)), 8)
    ahead.lease.commit()
    item = sequence(prompt, **options)
    limiter = Admission(cache, reuse=True)
    hit_len = limiter.hit_len(item)
    found = limiter.blocker(item, hit_len, [ahead])
    assert (found is not None) == is_computed
    if found is not None:
        assert found.sequence is ahead
        assert hit_len < found.depth <= len(common(prompt, range(20)))
    assert Admission(cache, reuse=False).blocker(item, 0, [ahead]) is None


def test_it_waits_for_the_last_piece_of_a_prompt_even_if_that_fills_no_block():
    """Eight of ten tokens are published; the two that are left are all that the running prompt will ever publish."""
    cache = PrefixCache(64, SIZE)
    ahead = running(cache, sequence(range(10)), 8)
    ahead.lease.commit()
    limiter = Admission(cache, reuse=True)
    assert limiter.blocker(sequence([*range(10), 99, 98, 97, 96]), 8, [ahead])
    assert not limiter.blocker(sequence([*range(9), 99, 98, 97, 96]), 8, [ahead])


def test_alone_it_needs_room_for_its_prompt_and_beside_others_for_all_ends():
    """Sixteen blocks; each prompt takes one, each output up to eight more while nobody knows better."""
    cache = PrefixCache(16, SIZE)
    limiter = Admission(cache, reuse=True)
    first, second = (sequence([number, 1, 2], max_tokens=33) for number in range(2))
    first.lease = limiter.acquire(first, [], 0)
    assert first.lease is not None
    assert limiter.acquire(second, [first], 0) is None
    assert cache.stats().num_leases == 1  # nothing is kept of the attempt
    for _ in range(20):
        limiter.ended(sequence([1]))  # outputs turn out to be short
    assert limiter.acquire(second, [first], 0) is not None


def test_where_a_prompt_does_not_fit_there_is_no_lease():
    cache = PrefixCache(4, SIZE)
    other = running(cache, sequence([9] * 8), 8)
    limiter = Admission(cache, reuse=True)
    assert limiter.acquire(sequence(range(9)), [], 0) is None
    assert limiter.acquire(sequence(range(8)), [], 0) is not None
    other.lease.release()


def test_in_a_small_pool_a_hit_is_rounded_down_to_whole_blocks():
    """Six cached tokens lie in two blocks of four; a path that leaves the second in its middle has to copy it."""
    cache = PrefixCache(4, SIZE)
    cached(cache, range(6))
    lease = Admission(cache, reuse=True).acquire(sequence([*range(6), *range(90, 100)]), [], 0)
    assert lease.num_tokens == 4
    cache = PrefixCache(5, SIZE)
    cached(cache, range(6))
    lease = Admission(cache, reuse=True).acquire(sequence([*range(6), *range(90, 100)]), [], 0)
    assert lease.num_tokens == 6


def test_who_goes_alone_and_who_may_reuse_nothing_looks_nothing_up():
    cache = PrefixCache(16, SIZE)
    cached(cache, range(12))
    alone, plain = sequence(range(12)), sequence(range(12))
    alone.goes_alone = True
    assert Admission(cache, reuse=True).acquire(alone, [], 0).num_tokens == 0
    assert Admission(cache, reuse=False).acquire(plain, [], 0).num_tokens == 0
    assert Admission(cache, reuse=True).acquire(plain, [], 0).num_tokens == 11


TOKENS = st.lists(st.integers(0, 1), max_size=9)


@given(TOKENS, TOKENS)
def test_a_common_prefix_is_what_both_begin_with(left, right):
    arrays = [np.array(tokens, dtype=np.int32) for tokens in (left, right)]
    assert common_prefix(*arrays) == len(common(left, right))
