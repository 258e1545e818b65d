"""What operators use: drop, segments, explain, events, snapshots, statistics, admission."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.radix import (
    AdmissionEstimator,
    BlocksRemoved,
    BlocksStored,
    Event,
    PrefixCache,
    Progress,
    Reason,
    Segments,
    SnapshotError,
    lru,
)


def test_tenants_share_the_public_part_and_nothing_else(cache: PrefixCache, store: Any) -> None:
    ours, theirs = Segments("", 6, "ours"), Segments("", 6, "theirs")
    store(cache, list(range(12)), ours)
    assert cache.match(range(12), ours).hit_len == 12
    assert cache.match(range(12), theirs).hit_len == 6
    assert cache.match(range(12)).hit_len == 6
    assert cache.explain(range(12), theirs).reason is Reason.NEVER_SEEN
    assert cache.explain(range(12), theirs).expected == ()
    store(cache, list(range(12)), theirs)
    assert cache.drop(ours) > 0
    assert cache.match(range(12), ours).hit_len == 6
    assert cache.match(range(12), theirs).hit_len == 12
    cache.check()


def test_what_is_dropped_under_a_lease_stays_its_own(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(8)), "tenant")
    lease = cache.acquire(list(range(8)), "tenant")
    cache.drop("tenant")
    assert cache.match(range(8), "tenant").hit_len == 0
    lease.reserve(3)
    lease.extend([1, 2, 3])
    lease.commit()
    cache.check()
    assert cache.match([*range(8), 1, 2, 3], "tenant").hit_len == 0
    lease.release()
    assert cache.available == 16
    cache.check()


def test_explanations(cache: PrefixCache, store: Any) -> None:
    store(cache, [1, 2, 3, 4, 5, 6, 7, 8])
    assert cache.explain([1, 2, 3]).reason is Reason.COMPLETE
    told = cache.explain([1, 2, 3, 4, 5, 9])
    assert (told.reason, told.hit_len, told.position, told.got, told.expected) == (Reason.DIVERGED, 5, 5, 9, (6,))
    assert told.copied_tokens == 1
    assert "token 5: expected 6, got 9" in str(told)
    assert cache.explain([1, 2], "tenant").reason is Reason.OTHER_NAMESPACE
    assert cache.explain([1, 2, 3, 4, 5, 6, 7, 8, 9]).reason is Reason.NEVER_SEEN
    store(cache, list(range(100, 160)))
    gone = cache.explain([1, 2, 3, 4, 5, 6, 7, 8])
    assert (gone.reason, gone.hit_len, gone.evicted_len) == (Reason.EVICTED, 4, 4)
    assert gone.evicted_at is not None


def test_events_let_a_listener_rebuild_the_tree_and_hash_the_same_everywhere(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(6)))
    heard: list[Event] = []
    stop = cache.subscribe(heard.append)
    assert heard == [BlocksStored(b"", heard[0].hashes, [0, 1, 2, 3], 4, "")]  # type: ignore[union-attr]
    assert heard[0].hashes[0].hex() == FIRST_HASH  # type: ignore[union-attr]
    store(cache, list(range(9)))
    assert heard[1] == BlocksStored(heard[0].hashes[0], heard[1].hashes, [4, 5, 6, 7], 4, "")  # type: ignore[union-attr]
    store(cache, list(range(9)), "salt")
    assert not set(heard[2].hashes) & {*heard[0].hashes, *heard[1].hashes}  # type: ignore[union-attr]
    store(cache, list(range(100, 148)))
    assert any(isinstance(event, BlocksRemoved) for event in heard)
    stop()
    num_heard = len(heard)
    cache.clear()
    assert len(heard) == num_heard


FIRST_HASH = "968b3b51a224e6a85d8ed26f9fa359cd"


def test_a_snapshot_comes_back_whole_or_not_at_all(cache: PrefixCache, store: Any, tmp_path: Path) -> None:
    blocks = store(cache, list(range(11)))
    store(cache, [0, 1, 2, 9], Segments("", 3, "tenant"))
    cache.save(tmp_path / "tree")
    data = (tmp_path / "tree").read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "tree"]
    again = PrefixCache(16, 4, lru)
    for wrong, what in (
        (b"x" + data[1:], "not a snapshot"),
        (data[:13] + b"\x01" + data[14:], "version 1"),
        (data[:-1] + b"\x00\x01", "corrupt"),
        (data[:-1], "corrupt"),
        (b"", "not a snapshot"),
    ):
        with pytest.raises(SnapshotError, match=what):
            again.restore(wrong)
        assert again.stats().free == 16
    with pytest.raises(SnapshotError, match="num_blocks"):
        PrefixCache(17, 4).restore(data)
    again.restore(data)
    again.check()
    assert again.match(range(11)).blocks.tolist() == blocks
    assert again.match([0, 1, 2, 9], Segments("", 3, "tenant")).hit_len == 4
    assert again.match([0, 1, 2, 9]).hit_len == 3
    with pytest.raises(SnapshotError, match="empty"):
        again.restore(data)


def test_statistics_add_up(cache: PrefixCache, store: Any, clock: Any) -> None:
    store(cache, list(range(10)))
    lease = cache.acquire(list(range(12)))
    stats = cache.stats()
    assert (stats.total, stats.free, stats.leased, stats.cached, stats.published) == (16, 13, 3, 0, 3)
    assert (stats.hit_tokens, stats.miss_tokens, stats.num_leases, stats.requests) == (10, 12, 1, 2)
    assert stats.hit_rate == pytest.approx(10 / 22)
    assert stats.fragmentation == pytest.approx(1 - 10 / 12)
    assert stats.oldest_age is None
    lease.release()
    clock.now += 50
    assert cache.stats().oldest_age == pytest.approx(50, abs=0.1)


def test_matching_changes_neither_shape_nor_recency(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(10)))
    before = [(node.tokens, node.last_access, node.hits) for node in cache.walk()]
    assert cache.match([0, 1, 2, 50]).hit_len == 3
    cache.explain([0, 1, 2, 50])
    assert [(node.tokens, node.last_access, node.hits) for node in cache.walk()] == before


def test_admission_learns_how_long_answers_are() -> None:
    """Three quarters of a hundred answers had 20 tokens and one quarter 200; who has 50 already will have 200."""
    estimator = AdmissionEstimator(16, quantile=0.75)
    waiting = Progress(num_tokens=0, num_blocks=0, num_output=0, max_output=1000)
    assert estimator.expected_output(0, 1000) == 1000
    for length in [20] * 75 + [200] * 25:
        estimator.finished(length)
    assert estimator.expected_output(0, 1000) <= 200
    assert estimator.expected_output(0, 10) == 10
    assert estimator.expected_output(50, 1000) == 200
    assert estimator.expected_output(300, 1000) > 300
    assert estimator.blocks_needed(waiting, 160) <= 23
    running = Progress(num_tokens=100, num_blocks=7, num_output=50, max_output=1000)
    assert estimator.blocks_needed(running) == 9
    with pytest.raises(ValueError, match="quantile"):
        AdmissionEstimator(16, quantile=0)


@given(
    ended=st.lists(st.integers(0, 40), max_size=30),
    requests=st.lists(
        st.builds(Progress, st.integers(0, 60), st.integers(0, 8), st.integers(0, 50), st.integers(0, 50)), max_size=8
    ),
)
def test_what_all_need_is_the_sum_of_what_each_does(ended: list[int], requests: list[Progress]) -> None:
    estimator = AdmissionEstimator(8)
    for length in ended:
        estimator.finished(length)
    assert estimator.blocks_needed_by_all(requests) == sum(map(estimator.blocks_needed, requests))
