"""Marks of windows, whose blocks are counted and copied; and what is told and kept of marks."""

import pytest

from stemma.radix import (
    BlockCopy,
    BlocksStored,
    Event,
    MarkRoom,
    MarksRemoved,
    MarksStored,
    OutOfBlocks,
    PrefixCache,
    Segments,
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


def test_a_window_goes_on_wherever_a_mark_behind_reaches_back_as_far() -> None:
    """Of 6 tokens: behind position 9 those from 4 on are read, which the mark at 10 has too, but at 7 those from 2."""
    cache = windows(window=6)
    leave(cache, TEXT[:10], 10)
    assert [cache.match([*TEXT[:end], 99]).hit_len for end in (7, 8, 9, 10)] == [0, 0, 9, 10]
    lease = cache.acquire([*TEXT[:9], 99])
    assert (lease.hit_len, lease.match_len, len(lease.window_blocks)) == (9, 9, 3)
    cache.check()
    assert cache.match([*TEXT[:9], 98]).hit_len == 9, "where the edge has been split"
    short = windows(window=20)
    leave(short, TEXT[:10], 10)
    assert [short.match(TEXT[:end]).hit_len for end in (1, 5, 9)] == [1, 5, 9]
    states_too = PrefixCache(40, 4, lru, marks=MarkRoom(20, 12, 4))
    leave(states_too, TEXT[:10], 10)
    assert states_too.match(TEXT[:9]).hit_len == 0, "a state is of one position"


def test_a_window_behind_a_salt_boundary_serves_nobody_else() -> None:
    cache = windows(window=20)
    mine = Segments("", 8, "mine")
    leave(cache, TEXT[:12], 12, namespace=mine)
    assert cache.match(TEXT[:10], mine).hit_len == 10
    assert (cache.match(TEXT[:8]).hit_len, cache.match(TEXT[:8]).match_len) == (0, 8)


def test_a_mark_left_while_a_copy_waits_refers_to_what_is_copied() -> None:
    cache = windows(window=6)
    leave(cache, TEXT[:10], 10)
    lease = cache.acquire([*TEXT[:9], 99])
    lease.reserve(1)
    (copy,) = lease.advance(1).copies
    lease.mark()
    lease.commit()
    lease.release()
    assert kept_of(cache)[0][2] == [kept_of(cache)[1][2][0], copy.source]
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


def test_listeners_hear_of_marks_with_the_hash_of_the_last_full_block_before() -> None:
    cache, heard = states(num_slots=3), list[Event]()
    leave(cache, TEXT, 5)
    cache.subscribe(heard.append)
    stored = next(event for event in heard if isinstance(event, BlocksStored))
    assert heard[-1] == MarksStored(stored.hashes[0], heard[-1].hashes, [5], "")  # type: ignore[union-attr]
    lease = cache.acquire([])
    compute(lease, [50, 51, 52], num_drafts=2)
    assert heard[-1] == MarksRemoved(heard[1].hashes, [5], "")  # type: ignore[union-attr]
    num_heard = len(heard)
    lease.mark()
    assert len(heard) == num_heard, "it is the lease's own"
    lease.commit()
    assert heard[-1] == MarksStored(b"", heard[-1].hashes, [3], "")  # type: ignore[union-attr]
    assert not set(heard[-1].hashes) & set(heard[1].hashes)  # type: ignore[union-attr]


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
