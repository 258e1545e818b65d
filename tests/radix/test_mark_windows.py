"""Marks of windows, whose blocks are counted and copied; and what is told and kept of marks."""

import pytest

from stemma.radix import (
    BlockCopy,
    MarkRoom,
    OutOfBlocks,
    PrefixCache,
    SnapshotError,
    lru,
)
from tests.radix.marking import TEXT, compute, kept_of, leave, marks_of, states, stats, windows

# Windows -----------------------------------------------------------------------------------------


def test_window_blocks_behind_the_window_of_the_lease_and_of_every_mark_are_free() -> None:
    cache = windows(window=6)
    lease = cache.acquire([])
    for token in range(15):
        compute(lease, [token])
    assert list(lease.window_blocks[:2]) == [0, 0]
    assert stats(cache).leased_window_blocks == 2, "of positions 10 to 14"
    lease.mark()
    lease.commit()
    for token in range(30):
        compute(lease, [token])
    assert stats(cache).cached_window_blocks == 2
    lease.release()
    assert cache.available_window_blocks == 12
    cache.check()


def test_a_window_block_that_others_read_is_copied_before_it_is_written_in() -> None:
    cache = windows(window=6)
    leave(cache, TEXT[:10], 10)
    leases = [cache.acquire(TEXT[:10]), cache.acquire(TEXT[:10])]
    for lease in leases:
        shared = list(lease.window_blocks)
        assert shared[0] == 0
        lease.reserve(1)
        (copy,) = lease.advance(1).copies
        assert copy == BlockCopy(shared[2], lease.window_blocks[2], 2)
        assert lease.advance(1).copies == [copy], "it may not have been run"
        lease.extend([7])
        lease.reserve(1)
        assert lease.advance(1).copies == []
    assert leases[0].window_blocks[2] != leases[1].window_blocks[2]
    cache.check()


def test_the_lease_that_leaves_a_mark_inside_a_block_writes_on_in_place() -> None:
    cache = windows(window=6)
    lease = cache.acquire([])
    compute(lease, TEXT[:6])
    lease.mark()
    lease.commit()
    lease.reserve(1)
    assert lease.advance(1).copies == []
    cache.check()


def test_window_blocks_run_out_with_nothing_changed() -> None:
    cache = windows(num_window_blocks=4, window=6)
    leave(cache, TEXT[:8], 8)
    lease = cache.acquire([50] * 20)
    lease.reserve(20)
    assert cache.available_window_blocks == 4
    with pytest.raises(OutOfBlocks, match="needs 5 window blocks, 4 are"):
        lease.advance(20)
    assert marks_of(cache) == [8]
    lease.advance(12)
    assert marks_of(cache) == []
    lease.release()
    assert cache.available_window_blocks == 4
    cache.check()


# What others are told ----------------------------------------------------------------------------


def test_explain_says_between_which_marks_is_replayed() -> None:
    cache = states()
    leave(cache, TEXT, 5, 18)
    told = cache.explain([*TEXT[:14], 99])
    assert (told.hit_len, told.match_len, told.replayed_len, told.marks) == (5, 14, 9, (5, 18))
    assert "matched 14, no mark between 5 and 14: replayed" in str(told)
    assert "replayed" not in str(cache.explain(TEXT[:5]))
    assert cache.explain([99]).marks == ()


def test_a_snapshot_has_the_marks_and_fits_only_the_same_room() -> None:
    cache = PrefixCache(40, 4, lru, marks=MarkRoom(6, 20, 12))
    leave(cache, TEXT, 5, 18)
    before = kept_of(cache)
    data = cache.state()
    again = PrefixCache(40, 4, lru, marks=MarkRoom(6, 20, 12))
    again.restore(data)
    again.check()
    assert kept_of(again) == before
    assert stats(again)[:9] == stats(cache)[:9]
    for room in (MarkRoom(7, 20, 12), MarkRoom(6, 20, 13), MarkRoom(None, 0, 12), None):
        with pytest.raises(SnapshotError, match="mark_room"):
            PrefixCache(40, 4, lru, marks=room).restore(data)


@pytest.mark.parametrize(
    "room", [MarkRoom(None), MarkRoom(0, 4), MarkRoom(4, 0, 3), MarkRoom(None, 4, 3), MarkRoom(None, 0, -1)]
)
def test_a_room_that_keeps_nothing_is_refused(room: MarkRoom) -> None:
    with pytest.raises(ValueError, match="window"):
        PrefixCache(4, 4, marks=room)
