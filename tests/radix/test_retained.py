"""What is retained between requests: pins until their time and within a budget, holds as long as blocks last."""

from typing import Any

import pytest

from stemma.radix import NextUse, OutOfBlocks, PinError, PrefixCache, Retained, ReuseQueue

TEXT = list(range(16))


def test_pins_last_until_they_run_out_and_within_their_budget(
    cache: PrefixCache, store: Any, pin: Any, clock: Any
) -> None:
    store(cache, TEXT)
    pinned = pin(cache, TEXT, ttl=10)
    assert (pinned.num_tokens, pinned.num_blocks, cache.available, cache.stats().pinned) == (16, 4, 12, 4)
    store(cache, list(range(50, 98)))
    assert cache.match(TEXT).hit_len == 16
    with pytest.raises(PinError, match="budget"):
        pin(cache, list(range(50, 98)))
    assert cache.stats().num_leases == 1
    clock.now += 10
    assert cache.available == 16
    assert (pinned.num_tokens, pinned.num_blocks, cache.stats().pinned) == (0, 0, 0)
    again = pin(cache, TEXT)
    cache.let_go(again)
    cache.let_go(again)
    assert cache.stats().pinned == 0
    cache.check()


def test_a_pin_is_checked_before_anything_is_computed_for_it(cache: PrefixCache, store: Any, pin: Any) -> None:
    store(cache, TEXT)
    pinned = pin(cache, TEXT)
    cache.check_pin(Retained(10.0), 16)
    cache.check_pin(pinned, 32)  # what it keeps already does not count against it
    cache.check_pin(Retained(), 1000)
    with pytest.raises(PinError, match="a pin of 5 blocks"):
        cache.check_pin(Retained(10.0), 17)


def test_a_pin_over_the_budget_keeps_what_it_had(cache: PrefixCache, store: Any, pin: Any) -> None:
    store(cache, TEXT)
    pinned = pin(cache, TEXT[:8])
    other = list(range(50, 86))
    store(cache, other)
    with cache.acquire(other) as lease, pytest.raises(PinError):
        lease.retain(pinned)
    assert (pinned.num_tokens, cache.stats().pinned, cache.stats().num_leases) == (8, 2, 1)
    cache.check()


def test_holds_yield_the_one_used_longest_ago_first_and_pins_do_not(cache: PrefixCache, store: Any, pin: Any) -> None:
    holds = [Retained(), Retained()]
    for number, hold in enumerate([*holds, holds[0]]):
        tokens = [100 + number, *range(7)]
        store(cache, tokens)
        with cache.acquire(tokens) as lease:
            lease.retain(hold)
    pinned = pin(cache, [102, *range(7)])
    assert [hold.num_tokens for hold in holds] == [8, 8]
    assert cache.give_up_one()
    assert [hold.num_tokens for hold in holds] == [8, 0]
    assert cache.give_up_one()
    assert not cache.give_up_one()
    assert pinned.num_tokens == 8
    cache.check()


def test_nobody_is_refused_blocks_that_ended_pins_keep(cache: PrefixCache, store: Any, pin: Any, clock: Any) -> None:
    store(cache, TEXT)
    pin(cache, TEXT, ttl=10)
    with cache.acquire([99]) as lease:
        with pytest.raises(OutOfBlocks):
            lease.reserve(4 * 13)
        clock.now += 10
        assert lease.reserve(4 * 16) == []


def test_what_was_let_go_or_ran_out_keeps_nothing_that_comes_later(cache: PrefixCache, store: Any, clock: Any) -> None:
    store(cache, TEXT)
    released, late = Retained(), Retained(10.0)
    cache.let_go(released)
    with cache.acquire(TEXT) as lease:
        lease.retain(late)
        clock.now += 11
        lease.retain(late)
        lease.retain(released)
    assert (late.num_tokens, released.num_tokens, cache.stats().num_leases) == (0, 0, 0)


def test_a_shared_path_is_kept_until_both_let_go(cache: PrefixCache, store: Any) -> None:
    store(cache, TEXT)
    hold, other, empty = Retained(), Retained(), Retained()
    cache.share(hold, empty)
    assert empty.num_tokens == 0
    with cache.acquire(TEXT) as lease:
        lease.retain(hold)
    cache.share(hold, other)
    cache.let_go(hold)
    assert (other.num_tokens, cache.available) == (16, 12)
    cache.let_go(other)
    assert cache.available == 16


def test_what_was_dropped_meanwhile_is_not_kept(cache: PrefixCache, store: Any) -> None:
    """Nobody could find it again."""
    store(cache, TEXT, "tenant")
    pinned = Retained(10.0)
    with cache.acquire(TEXT, "tenant") as lease:
        cache.drop("tenant")
        lease.retain(pinned)
    assert (pinned.num_tokens, cache.stats().free) == (0, 16)


def test_pins_that_end_early_leave_nothing_behind(cache: PrefixCache, store: Any, pin: Any) -> None:
    store(cache, TEXT)
    for _ in range(1000):
        cache.let_go(pin(cache, TEXT))
    assert len(cache._leases.retained.by_expiry) < 100


@pytest.mark.parametrize(("next_use", "lost"), [(NextUse.NEVER, "branch"), (NextUse.SOON, "other")])
def test_a_branch_says_what_becomes_of_it_and_not_of_what_it_shares(
    store: Any, clock: Any, next_use: NextUse, lost: str
) -> None:
    """A branch that has ended goes first, its trunk does not; one that will go on stays, trunk and all."""
    cache = PrefixCache(8, 4, ReuseQueue, clock)
    trunk, other = TEXT[:8], list(range(50, 58))
    branch = [*trunk, *range(70, 78)]
    hold, own = Retained(), Retained()
    store(cache, trunk)
    with cache.acquire(trunk) as lease:
        lease.retain(hold)
    cache.share(hold, own)
    store(cache, branch)
    with cache.acquire(branch) as lease:
        lease.retain(own)
    store(cache, other)
    cache.let_go(hold)
    cache.let_go(own, next_use)
    with cache.acquire([99]) as lease:
        lease.reserve(4 * 4)  # two blocks are free
        assert cache.match(trunk).hit_len == 8
        assert (cache.match(branch).hit_len < 16, cache.match(other).hit_len < 8) == (lost == "branch", lost == "other")
