"""Leases: partial blocks, adoption, forks, and refusals that change nothing."""

from array import array
from typing import Any

import numpy as np
import pytest

from stemma.radix import BlockCopy, LeaseError, OutOfBlocks, PrefixCache


def test_a_hit_inside_a_block_is_copied_not_computed(cache: PrefixCache, store: Any) -> None:
    blocks = store(cache, list(range(10)))
    lease = cache.acquire([0, 1, 2, 3, 4, 5, 99])
    assert lease.hit_len == 6
    (copy,) = lease.reserve(1)
    assert copy == BlockCopy(blocks[1], lease.blocks[1], 2)
    assert lease.blocks[0] == blocks[0]
    assert lease.reserve(1) == []


def test_the_end_of_a_leaf_is_written_on_in_place_by_one_lease_alone(cache: PrefixCache, store: Any) -> None:
    blocks = store(cache, list(range(6)))
    first, second = cache.acquire(list(range(7))), cache.acquire(list(range(7)))
    assert first.reserve(1) == []
    assert first.blocks.tolist() == blocks
    (copy,) = second.reserve(1)
    assert copy.source == blocks[1]
    assert copy.num_tokens == 2


def test_max_hit_leaves_a_token_to_compute(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(8)))
    lease = cache.acquire(list(range(8)), max_hit=7)
    assert lease.hit_len == lease.num_tokens == 7
    assert lease.reserve(1)[0].num_tokens == 3
    with pytest.raises(ValueError, match="max_hit"):
        cache.acquire([1], max_hit=-1)


@pytest.mark.parametrize("first_commits_first", [True, False])
def test_two_that_compute_the_same_share_it_whoever_is_first(cache: PrefixCache, first_commits_first: bool) -> None:
    text = list(range(9))
    leases = [cache.acquire(text), cache.acquire(text)]
    for lease in leases:
        lease.reserve(9)
        lease.extend(text)
    for lease in leases if first_commits_first else reversed(leases):
        lease.commit()
        cache.check()
    assert leases[0].blocks == leases[1].blocks
    assert cache.stats().leased == 3
    assert cache.stats().free == 13


def test_forks_share_and_part_where_they_differ(cache: PrefixCache) -> None:
    trunk = cache.acquire([])
    trunk.reserve(6)
    trunk.extend(range(6))
    branch = trunk.fork()
    assert branch.blocks == trunk.blocks
    assert branch.num_tokens == 6
    copies = branch.reserve(1) + trunk.reserve(1)
    assert [copy.num_tokens for copy in copies] == [2]
    assert branch.blocks[0] == trunk.blocks[0]
    assert branch.blocks[1] != trunk.blocks[1]


def test_refusals_change_nothing(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(20)))
    lease = cache.acquire(list(range(20)))
    with pytest.raises(OutOfBlocks) as refused:
        lease.reserve(4 * 12)
    assert (refused.value.needed, refused.value.available) == (12, 11)
    assert lease.reserve(4 * 11) == []
    with pytest.raises(LeaseError, match="reserve first"):
        lease.extend(range(45))
    lease.release()
    lease.release()
    for use in (lambda: lease.reserve(1), lambda: lease.extend([1]), lease.commit, lease.fork):
        with pytest.raises(LeaseError, match="released"):
            use()
    cache.check()
    assert cache.available == 16


def test_tokens_come_as_lists_arrays_numpy_and_packed_bytes(cache: PrefixCache, store: Any) -> None:
    store(cache, [5, -1, 7, 2**31 - 1])
    for tokens in (
        (5, -1, 7, 2**31 - 1),
        array("i", [5, -1, 7, 2**31 - 1]),
        array("q", [5, -1, 7, 2**31 - 1]),
        np.array([5, -1, 7, 2**31 - 1], dtype=np.int32),
        np.array([5, -1, 7, 2**31 - 1], dtype=np.int64),
        np.array([5, -1, 7, 2**31 - 1], dtype=np.int32).tobytes(),
    ):
        assert cache.match(tokens).hit_len == 4
    with pytest.raises(OverflowError):
        cache.match([2**31])


def test_a_full_pool_is_evicted_from_a_little_ahead() -> None:
    """A pool of 512 blocks gives up two at once at least, and never more than wait."""
    cache = PrefixCache(512, 1)
    for first in (0, 1000):
        with cache.acquire([]) as lease:
            lease.reserve(256)
            lease.extend(range(first, first + 256))
            lease.commit()
    lease = cache.acquire([])
    lease.reserve(1)
    assert (cache.stats().free, cache.stats().evicted_blocks) == (1, 2)
    lease.reserve(512)
    assert (cache.stats().free, cache.stats().evicted_blocks) == (0, 512)
    cache.check()
