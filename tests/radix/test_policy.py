"""Which leaf goes first under each policy, and what the default policy learns."""

from typing import Any

import pytest

from stemma.radix import NextUse, Policy, PrefixCache, ReuseQueue, by_priority, lfu, lru, slru, time_to_live


def text(number: int) -> list[int]:
    return [100 * number + position for position in range(16)]


def kept(cache: PrefixCache) -> set[int]:
    return {number for number in range(20) if cache.match(text(number)).hit_len}


@pytest.mark.parametrize(
    ("policy", "priorities", "uses", "gone"),
    [
        (lru, (0, 0, 0), (1, 0), 2),
        (lfu, (0, 0, 0), (0, 0, 1, 1, 2), 2),
        (slru, (0, 0, 0), (0, 1), 2),
        (by_priority, (5, 1, 5), (1,), 1),
        (time_to_live({0: 1000.0, 1: 10.0}), (0, 1, 0), (1,), 1),
    ],
)
def test_ranks(
    store: Any, clock: Any, policy: Policy, priorities: tuple[int, ...], uses: tuple[int, ...], gone: int
) -> None:
    cache = PrefixCache(12, 4, policy, clock)
    for number, priority in enumerate(priorities):
        store(cache, text(number), priority=priority)
    for number in uses:
        cache.acquire(text(number)).release()
    store(cache, text(9))
    assert kept(cache) == {0, 1, 2, 9} - {gone}


@pytest.mark.parametrize("policy", [lru, ReuseQueue])
def test_a_branch_that_has_ended_goes_first(store: Any, clock: Any, policy: Policy) -> None:
    cache = PrefixCache(12, 4, policy, clock)
    store(cache, text(0))
    store(cache, text(1), next_use=NextUse.NEVER)
    store(cache, text(2))
    store(cache, text(9))
    assert kept(cache) == {0, 2, 9}


def test_what_is_said_to_come_back_outlives_what_is_as_old(store: Any, clock: Any) -> None:
    cache = PrefixCache(12, 4, ReuseQueue, clock)
    for number in range(3):
        store(cache, text(number))
    cache.acquire(text(0)).release(NextUse.SOON)
    for number in range(1, 3):
        cache.acquire(text(number)).release()
    store(cache, text(9))
    assert 0 in kept(cache)


def test_a_partial_hit_refreshes_the_matched_part_only(store: Any, clock: Any) -> None:
    cache = PrefixCache(8, 4, lru, clock)
    store(cache, text(0))
    store(cache, text(1))
    cache.acquire(text(0)[:8]).release()
    store(cache, text(2)[:8])
    assert cache.match(text(0)).hit_len == 8
    assert cache.match(text(1)).hit_len == 16


def test_eviction_takes_blocks_from_the_end_not_whole_texts(store: Any, clock: Any) -> None:
    cache = PrefixCache(8, 4, ReuseQueue, clock)
    store(cache, text(0) + text(1))
    store(cache, text(2)[:5])
    assert cache.match(text(0) + text(1)).hit_len == 24


def test_documents_read_once_do_not_push_out_those_that_are_used(store: Any, clock: Any) -> None:
    hits = {}
    for policy in (lru, ReuseQueue):
        cache = PrefixCache(80, 4, policy, clock)
        for turn in range(400):
            store(cache, text(turn % 10))
            for scan in range(2):
                store(cache, [100_000 + 1000 * turn + 40 * scan + position for position in range(32)])
        hits[policy] = cache.stats().hit_tokens
    assert hits[ReuseQueue] > hits[lru] + 2000


def test_a_round_of_sessions_larger_than_the_pool_still_hits(store: Any, clock: Any) -> None:
    """In turn, over and over: LRU evicts each session just before it comes again, and never hits."""
    cache = PrefixCache(60, 4, ReuseQueue, clock)
    for _ in range(60):
        for number in range(20):
            store(cache, text(number))
    assert cache.stats().hit_rate > 0.35
    plain = PrefixCache(60, 4, lru, clock)
    for _ in range(60):
        for number in range(20):
            store(plain, text(number))
    assert plain.stats().hit_tokens == 0
