"""The hashes of a prompt without an engine are those that a cache tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.radix import BlocksStored, Event, Namespace, PrefixCache, Segments
from stemma.runtime.errors import InvalidRequest
from stemma.scale.fleet import hashes_of

names = st.sampled_from(["", "tenant", "a\x1fb", "\ud800"])
segments = st.builds(Segments, names, st.integers(0, 40), st.sampled_from(["", "salt", "4\x1fsalt"]))


def told(tokens: list[int], scope: Namespace, block_size: int) -> list[bytes]:
    """The hashes that a cache tells of a text, in order."""
    cache = PrefixCache(64, block_size)
    events: list[Event] = []
    cache.subscribe(events.append)
    with cache.acquire(tokens, scope) as lease:
        lease.reserve(len(tokens))
        lease.extend(tokens)
        lease.commit()
    return [block for event in events if isinstance(event, BlocksStored) for block in event.hashes]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40), names | segments, st.integers(1, 9))
def test_they_are_those_of_a_cache_in_every_scope(tokens, scope, block_size):
    assert hashes_of(tokens, scope, block_size) == told(tokens, scope, block_size)


def test_text_of_another_salt_has_other_hashes_from_the_boundary_on():
    tokens = list(range(32))
    ours, theirs = (hashes_of(tokens, Segments("", 10, salt), 4) for salt in ("ours", "theirs"))
    assert ours[:2] == theirs[:2] == hashes_of(tokens, "", 4)[:2]
    assert not set(ours[2:]) & set(theirs[2:])


def test_a_block_of_no_tokens_is_refused():
    with pytest.raises(InvalidRequest, match="block_size"):
        hashes_of([1], "", 0)
