"""With what cached text goes on: against all texts that were stored, in the namespace that asks and no other."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.radix import LeaseError, Namespace, PrefixCache, Segments, lru

Store = Callable[..., list[int]]
TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=8)


def shape(cache: PrefixCache) -> list[tuple[int, bytes, float, int]]:
    return [(node.start, node.tokens, node.last_access, node.hits) for node in cache.walk()]


def follows(cache: PrefixCache, known: list[int], num_wanted: int, namespace: Namespace = "") -> list[int]:
    """Of a lease that holds half of what it knows, and has written the rest."""
    with cache.acquire(known, namespace, max_hit=len(known) // 2) as lease:
        before = shape(cache)
        found = lease.continuation(known[lease.num_published :], num_wanted)
        assert shape(cache) == before, "a look has changed the tree"
    return found


@settings(max_examples=200, deadline=None)
@given(
    texts=TEXTS,
    known=st.lists(st.integers(0, 2), max_size=6),
    num_wanted=st.integers(0, 12),
    size=st.sampled_from([1, 3, 4]),
)
def test_it_is_text_that_was_stored_and_as_long_as_that_goes_on(
    texts: list[list[int]], known: list[int], num_wanted: int, size: int
) -> None:
    cache = PrefixCache(256, size, lru)
    for text in texts:
        with cache.acquire(text) as lease:
            lease.reserve(len(text) - lease.hit_len)
            lease.extend(text[lease.hit_len :])
            lease.commit()
    found = follows(cache, known, num_wanted)
    longer = [text for text in texts if text[: len(known)] == known and len(text) > len(known)]
    assert bool(found) == bool(longer and num_wanted)
    if found:
        ends = [text[len(known) :] for text in longer]
        assert any(end[:num_wanted] == found or (len(found) < num_wanted and end == found) for end in ends)
    cache.check()


def test_at_a_junction_it_is_the_branch_used_last(store: Store) -> None:
    cache = PrefixCache(64, 4, lru)
    for end in ([7, 8, 9], [5, 6], [3, 4]):
        store(cache, [1, 2, *end])
    assert follows(cache, [1, 2], 8) == [3, 4]
    cache.acquire([1, 2, 7, 8, 9]).release()
    assert follows(cache, [1, 2], 8) == [7, 8, 9]
    assert follows(cache, [1, 2, 5], 8) == [6]
    assert follows(cache, [1, 2, 5, 7], 8) == []


def test_no_namespace_sees_how_another_goes_on(store: Store) -> None:
    cache = PrefixCache(64, 4, lru)
    store(cache, [1, 2, 3, 4, 5], "a")
    assert follows(cache, [1, 2], 3, "b") == []
    assert follows(cache, [1, 2], 3, "a") == [3, 4, 5]


@pytest.mark.parametrize("known", [2, 4, 5])
def test_private_text_goes_on_under_its_salt_alone(known: int, store: Store) -> None:
    cache, text = PrefixCache(64, 4, lru), [1, 2, 3, 4, 5, 6, 7]
    store(cache, [*text[:4], 8, 8], "app")
    store(cache, text, Segments("app", 4, "a"))
    assert follows(cache, text[:known], 9, Segments("app", 4, "a")) == text[known:]
    assert follows(cache, text[:known], 9, Segments("app", 4, "b")) == text[known:4]
    assert follows(cache, text[:known], 9, "app") == ([*text[known:4], 8, 8] if known <= 4 else [])


def test_what_was_forgotten_goes_on_for_nobody(store: Store) -> None:
    cache = PrefixCache(64, 4, lru)
    store(cache, [1, 2, 3, 4, 5])
    lease = cache.acquire([1, 2, 3])
    cache.drop("")
    assert lease.continuation([], 4) == []
    lease.release()
    with pytest.raises(LeaseError, match="released"):
        lease.continuation([], 4)
