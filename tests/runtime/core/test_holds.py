"""Held paths: which one goes when blocks run out, and that each lets go of its blocks exactly once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.radix import PrefixCache
from stemma.runtime.core.holds import Held, Holds


def path(cache, number):
    """A lease on a path of its own, of two blocks."""
    tokens = [number] * 8
    lease = cache.acquire(tokens)
    lease.reserve(8)
    lease.extend(tokens)
    return lease


def clocked():
    """Holds on a clock that stands until it is set."""
    now = [0.0]
    return Holds(clock=lambda: now[0]), now


def test_the_path_used_longest_ago_goes_first():
    cache, (holds, _) = PrefixCache(16, 4), clocked()
    first, second, third = (Held() for _ in range(3))
    for number, held in enumerate((first, second, third)):
        holds.keep(held, path(cache, number))
    holds.keep(first, path(cache, 9))  # used again
    given_up = []
    while holds.give_up_one():
        given_up.append([held.lease is None for held in (first, second, third)])
    assert given_up == [[False, True, False], [False, True, True], [True, True, True]]
    assert cache.stats().leased == len(holds) == 0


def test_a_pin_is_passed_over_until_its_time_is_over():
    cache, (holds, now) = PrefixCache(16, 4), clocked()
    pinned, wish = Held(pinned_until=10.0), Held()
    holds.keep(pinned, path(cache, 0))
    holds.keep(wish, path(cache, 1))
    assert holds.give_up_one()
    assert (pinned.lease is None, wish.lease is None) == (False, True)
    now[0] = 9.9
    assert not holds.give_up_one()
    now[0] = 10.0
    assert holds.give_up_one()
    assert pinned.lease is None


def test_who_let_go_before_its_request_ended_keeps_nothing():
    cache, (holds, _) = PrefixCache(16, 4), clocked()
    held = Held()
    holds.release(held)
    holds.keep(held, path(cache, 0))
    assert held.lease is None
    assert cache.stats().leased == len(holds) == 0


def test_a_copy_outlives_what_it_was_copied_from():
    cache, (holds, _) = PrefixCache(16, 4), clocked()
    held, other, of_nothing = Held(), Held(), Held()
    holds.copy(of_nothing, other)
    assert other.lease is None
    lease = path(cache, 0)
    lease.commit()
    holds.keep(held, lease)
    holds.copy(held, other)
    holds.release(held)
    assert cache.stats().leased == 2
    assert list(other.lease.blocks) == list(cache.acquire([0] * 8).blocks)


OPERATIONS = st.one_of(
    st.tuples(st.just("keep"), st.integers(0, 4)),
    st.tuples(st.just("copy"), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("release"), st.integers(0, 4)),
    st.tuples(st.just("pin"), st.integers(0, 4), st.integers(0, 20)),
    st.tuples(st.just("tick")),
    st.tuples(st.just("give_up_one")),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(OPERATIONS, max_size=40))
def test_any_order_of_events_is_a_list_by_use(operations):
    """Against a plain list of who holds something, least recently used first; no block is lost or freed twice."""
    cache, (holds, now) = PrefixCache(128, 4), clocked()
    everybody = [Held() for _ in range(5)]
    model: list[int] = []
    for number, (what, *who) in enumerate(operations):
        held = everybody[who[0]] if who else None
        if what == "keep":
            holds.keep(held, path(cache, number))
            model = [at for at in model if at != who[0]] + ([] if held.is_released else [who[0]])
        elif what == "copy" and who[0] in model:
            other = everybody[who[1]]
            holds.copy(held, other)
            model = [at for at in model if at != who[1]] + ([] if other.is_released else [who[1]])
        elif what == "release":
            holds.release(held)
            model = [at for at in model if at != who[0]]
        elif what == "pin":
            held.pinned_until = float(who[1])
        elif what == "tick":
            now[0] += 5.0
        elif what == "give_up_one":
            free = [at for at in model if everybody[at].pinned_until <= now[0]]
            assert holds.give_up_one() == bool(free)
            model = [at for at in model if at != free[0]] if free else model
        assert [at for at, each in enumerate(everybody) if each.lease is not None] == sorted(model)
        assert len(holds) == len(model)
        cache.check()
    for held in everybody:
        holds.release(held)
    assert cache.stats().leased == 0
