"""What is said of a miss is exact, whatever there is, and found without a look at all there is."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from radix_truth import told_from

from stemma.radix import Explanation, Namespace, PrefixCache, Reason, Segments, lru, tree

NAMESPACES: tuple[Namespace, ...] = (
    *("", "a", "b", "c"),
    *(Segments("", salt_boundary, salt) for salt_boundary in (0, 2, 5) for salt in "xy"),
    Segments("a", 2, "x"),
)
texts = st.lists(st.integers(0, 1), max_size=14)
operations = st.tuples(
    st.sampled_from(("store", "store", "store", "drop", "clear", "hold")), texts, st.sampled_from(NAMESPACES)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(operations, max_size=30), st.integers(0, 2), st.sampled_from((1, 2, 3, 4)), st.integers(6, 40))
def test_an_explanation_is_what_a_look_at_everything_shows(
    ways: list[tuple[str, list[int], Namespace]], max_alone: int, block_size: int, num_tokens: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "MAX_ALONE", max_alone)
        cache = PrefixCache(-(-num_tokens // block_size), block_size, lru, ghost_tokens=0)
        state = [cache.acquire_uncounted([])]
        for way, tokens, namespace in ways:
            if way == "drop":
                cache.drop(namespace)
            elif way == "clear":
                cache.clear()
            elif way == "hold":
                state.append(cache.acquire_uncounted(tokens, namespace))
                state.pop(0).release()
            else:
                with cache.acquire(tokens, namespace) as lease:
                    if -(-len(tokens) // block_size) < cache.available:
                        lease.reserve(len(tokens) - lease.hit_len)
                        lease.extend(tokens[lease.hit_len :])
                        lease.commit()
            cache.check()
            for other in NAMESPACES:
                is_right(cache, tokens, other)


def is_right(cache: PrefixCache, tokens: list[int], namespace: Namespace) -> None:
    told = cache.explain(tokens, namespace)
    hit_len, goes_on, elsewhere = told_from(cache, tokens, namespace)
    assert told.hit_len == hit_len
    if hit_len < len(tokens):
        assert set(told.expected) == goes_on
        here = Reason.DIVERGED if goes_on else Reason.NEVER_SEEN
        assert told.reason is (Reason.OTHER_NAMESPACE if elsewhere else here)


def steps(explain: Callable[[], Explanation]) -> int:
    """How many lines of Python run."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        explain()
    finally:
        sys.settrace(before)
    return count


def test_the_oldest_of_very_many_namespaces_is_found_in_a_few_steps(store: Any) -> None:
    system, taken = [1, 2, 3], []
    for num_namespaces in (100, 3000):
        cache = PrefixCache(4 * num_namespaces, 4, lru)
        for number in range(num_namespaces):
            with cache.acquire([], f"user {number}") as lease:
                lease.reserve(6)
                lease.extend([*system, number, 7, 8])
                lease.commit()
        for number in (0, 10, 70, num_namespaces - 1):
            told = cache.explain([*system, number, 7, 9], "new")
            assert (told.reason, told.hit_len) == (Reason.OTHER_NAMESPACE, 0)
        assert cache.explain([*system, 10, 7, 9], "user 10").reason is Reason.DIVERGED
        assert cache.explain([*system, 11, 7], "user 10").reason is Reason.OTHER_NAMESPACE
        assert cache.explain([*system, 9999, 7], "user 10").reason is Reason.DIVERGED
        taken.append(steps(lambda: cache.explain([*system, 70, 7, 9], "new")))  # noqa: B023
    assert taken[1] <= taken[0] + 20, "as many for 3,000 namespaces as for 100"


@pytest.mark.parametrize("private", [True, False])
def test_the_oldest_behind_a_fence_is_found_among_very_many_others(private: bool) -> None:
    """One tenant's text, or the public one, was there before that of all others."""
    system, taken = [1, 2, 3, 4], []
    first: Namespace = Segments("app", 4, "first") if private else "app"
    for num_tenants in (20, 3000):
        cache = PrefixCache(3 * num_tenants, 4, lru)
        for place in (first, *(Segments("app", 4, f"tenant {number}") for number in range(num_tenants))):
            with cache.acquire(system, place) as lease:
                lease.reserve(8)
                lease.extend([*system, 5, 6][lease.hit_len :])
                lease.commit()
        told = cache.explain([*system, 9], first)
        assert (told.reason, told.expected) == (Reason.DIVERGED, (5,))
        assert cache.explain([*system, 9], Segments("app", 4, "new")).reason is Reason.NEVER_SEEN
        taken.append(steps(lambda: cache.explain([*system, 9], first)))  # noqa: B023
    assert taken[1] <= taken[0] + 20, "as many for 3,000 tenants as for 20"


def test_nothing_is_kept_of_namespaces_that_are_gone(store: Any) -> None:
    cache = PrefixCache(200, 4, lru)
    for number in range(600):
        store(cache, [1, 2, 3, number % 7, *range(number, number + 5)], f"user {number}")
        store(cache, [1, 2, number], Segments(f"app {number % 20}", 2, f"{number}"))
    for name in list(cache._store.tree.roots):
        cache.drop(name)
    assert not cache._store.tree.namespace_trie.root.children
    assert not cache._store.tree.beginnings.of
