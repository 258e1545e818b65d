"""Marks: where a lease goes on, what it leaves, who has its slots, and what goes or is refused for want of room."""

from itertools import pairwise

import pytest

from stemma.radix import (
    LeaseError,
    NextUse,
    OutOfBlocks,
    PinError,
    PrefixCache,
    Retained,
    Segments,
    lru,
)
from tests.radix.marking import TEXT, compute, leave, marks_of, states, stats, windows

# Where a lease goes on ---------------------------------------------------------------------------


def test_a_lease_goes_on_at_the_last_mark_and_its_table_covers_all_that_matched() -> None:
    cache = states()
    leave(cache, TEXT, 8, 14, 20)
    found = cache.match([*TEXT[:18], 99])
    assert (found.hit_len, found.match_len, len(found.blocks)) == (14, 18, 5)
    lease = cache.acquire([*TEXT[:18], 99])
    assert (lease.hit_len, lease.match_len, lease.num_tokens, lease.written_from) == (14, 18, 14, 18)
    assert lease.blocks == found.blocks
    assert cache.acquire(TEXT, max_hit=13).hit_len == 8
    assert cache.acquire(TEXT, max_hit=7).hit_len == 0
    assert cache.acquire(TEXT).hit_len == 20
    cache.check()


def test_a_cache_without_marks_hits_everywhere_and_advances_to_nothing() -> None:
    cache = PrefixCache(40, 4, lru)
    lease = cache.acquire([], marks_at=[3])
    assert compute(lease, TEXT) == []
    lease.mark()
    lease.commit()
    assert (lease.wanted, len(lease.window_blocks), lease.match_len) == ([], 0, 0)
    assert cache.match(TEXT[:7])[::2] == (7, 7)
    assert (cache.available_slots, cache.available_window_blocks, cache.stats().marks) == (0, 0, None)


def test_what_is_replayed_needs_no_room_and_is_not_stored_twice() -> None:
    cache = states()
    leave(cache, TEXT, 5)
    lease = cache.acquire([*TEXT[:14], 99])
    assert (lease.hit_len, lease.match_len, lease.room) == (5, 14, 9)
    assert lease.reserve(9) == []
    with pytest.raises(LeaseError, match="room for 9"):
        lease.extend([0] * 10)
    lease.advance(9)
    lease.extend(TEXT[5:14])
    assert (lease.num_tokens, lease.num_published, cache.stats().published) == (14, 14, 5)
    assert len(lease.reserve(1)) == 1, "what is written now begins inside a block of others"
    lease.advance(1)
    lease.extend([99])
    lease.commit()
    assert cache.match([*TEXT[:14], 99]).match_len == 15
    assert stats(cache).replayed_tokens == 9
    cache.check()


def test_a_junction_is_marked_so_that_the_next_one_hits_to_the_token() -> None:
    cache = states()
    leave(cache, TEXT, 20)
    prompt = [*TEXT[:11], *range(50, 70)]
    lease = cache.acquire(prompt, max_hit=len(prompt) - 1)
    assert (lease.hit_len, lease.match_len) == (0, 11)
    assert 11 in lease.wanted
    segments = compute(lease, prompt)
    assert segments[0][:3] == (0, 11, -1)
    assert all(after.source == before.target for before, after in pairwise(segments))
    lease.commit()
    assert cache.match([*TEXT[:11], 99]).hit_len == 11
    assert all(at > len(prompt) for at in lease.wanted)
    cache.check()


def test_another_may_ask_a_lease_for_marks_where_it_has_not_been() -> None:
    cache = states()
    lease = cache.acquire(TEXT, marks_at=[4])
    lease.want_none()
    assert lease.wanted == []
    compute(lease, TEXT[:6])
    assert [lease.want(position) for position in (5, 6, 9)] == [False, True, True]
    assert marks_of(cache) == [6], "it is there"
    assert [segment[:2] for segment in compute(lease, TEXT[6:12])] == [(6, 9), (9, 12)]
    lease.commit()
    assert [mark.position for mark in cache.marks([*TEXT[:10], 99])] == [6, 9]
    assert [mark.position for mark in cache.marks(TEXT[:8])] == [6]
    assert not PrefixCache(4, 4).acquire([]).want(0)
    cache.check()


def test_a_mark_moves_with_the_text_that_it_is_at_the_end_of_when_an_edge_is_split() -> None:
    cache = states()
    leave(cache, TEXT, 5, 10, 15)
    cache.acquire([*TEXT[:10], 99]).release()
    assert sorted((node.end, sorted(node.marks or ())) for node in cache.walk()) == [(10, [5, 10]), (20, [15])]
    cache.check()


# What a step needs -------------------------------------------------------------------------------


def test_a_step_ends_a_segment_at_wanted_marks_and_behind_each_draft_and_writes_no_slot_it_reads() -> None:
    cache = states()
    lease = cache.acquire([], marks_at=[3, 6])
    lease.reserve(9)
    first = lease.advance(9, num_drafts=2).segments
    assert [(segment.start, segment.end) for segment in first] == [(0, 3), (3, 6), (6, 7), (7, 8), (8, 9)]
    again = lease.advance(9, num_drafts=2).segments
    assert again == first, "it is the same step, prepared twice"
    assert cache.available_slots == 12 - 5
    lease.extend(TEXT[:8])
    assert cache.available_slots == 12 - 3, "two marks and a slot to go on from"
    (segment,) = compute(lease, [1])
    assert segment.source == first[3].target
    assert segment.target != segment.source
    cache.check()


def test_refused_drafts_leave_no_trace() -> None:
    cache = states()
    lease = cache.acquire([])
    compute(lease, [1, 2, 3], num_drafts=2, num_refused=2)
    assert lease.num_tokens == 1
    lease.reserve(3)
    lease.advance(3, num_drafts=3)
    lease.extend([])
    assert (lease.num_tokens, cache.available_slots) == (1, 11)
    cache.check()


def test_only_what_was_prepared_can_be_kept() -> None:
    cache = states()
    lease = cache.acquire([])
    lease.reserve(8)
    with pytest.raises(LeaseError, match="advance has prepared 0"):
        lease.extend([1])
    lease.advance(4, num_drafts=1)
    with pytest.raises(LeaseError, match="advance has prepared 4"):
        lease.extend([1] * 5)
    with pytest.raises(LeaseError, match="name the drafts"):
        lease.extend([1] * 2)
    with pytest.raises(LeaseError, match="drafts"):
        lease.advance(2, num_drafts=3)
    assert lease.num_tokens == 0
    lease.extend([1] * 3)
    lease.release()
    with pytest.raises(LeaseError, match="released"):
        lease.advance(1)
    with pytest.raises(LeaseError, match="released"):
        lease.mark()
    cache.check()


def test_a_mark_in_the_room_of_drafts_is_made_if_they_are_kept() -> None:
    cache = states()
    for num_refused, expected in ((1, []), (0, [4])):
        lease = cache.acquire([7 + num_refused], marks_at=[4])
        compute(lease, [7 + num_refused, 1, 2, 3], num_drafts=2, num_refused=num_refused)
        lease.commit()
        lease.release()
        assert marks_of(cache) == expected


# Room --------------------------------------------------------------------------------------------


def test_running_leases_go_before_marks_and_nothing_changes_when_that_is_not_enough() -> None:
    cache = states(num_slots=3)
    leave(cache, TEXT, 4, 8)
    lease = cache.acquire([])
    assert cache.available_slots == 3
    compute(lease, [50])
    assert (cache.available_slots, marks_of(cache)) == (2, [4, 8]), "one is free"
    lease.reserve(4)
    before = (stats(cache), list(lease.blocks))
    with pytest.raises(OutOfBlocks, match="needs 3 slots, 2 are") as error:
        lease.advance(4, num_drafts=2)
    assert (error.value.needed, error.value.available) == (3, 2)
    assert before == (stats(cache), list(lease.blocks))
    compute(lease, [51, 52])
    assert (marks_of(cache), stats(cache).evicted) == ([8], 1)
    cache.check()


def test_a_mark_that_finds_no_room_is_refused_and_counted() -> None:
    cache = states(num_slots=3)
    lease = cache.acquire([], marks_at=[2, 4, 6])
    segments = compute(lease, [0] * 9)
    assert [segment.end for segment in segments] == [2, 9], "one slot is left for the lease's own next step"
    assert stats(cache).refused == 2
    cache.check()


def test_a_mark_may_go_alone_and_text_only_with_the_marks_above_it() -> None:
    cache = states(num_slots=8, num_blocks=6)
    leave(cache, TEXT, 4, 12, 16)
    other = cache.acquire([])
    other.reserve(9)
    assert (cache.match(TEXT).hit_len, marks_of(cache)) == (12, [4, 12]), "the text behind 12 went, and its mark"
    other.release()
    cache.check()


def test_held_marks_are_not_evicted_and_the_retained_resume_to_the_token() -> None:
    cache = states(num_slots=4)
    kept, lease = Retained(), cache.acquire([])
    compute(lease, TEXT[:7])
    lease.retain(kept)
    lease.release()
    assert (cache.available_slots, stats(cache).leased_slots) == (3, 1)
    other = cache.acquire([])
    compute(other, [50] * 4, num_drafts=2)
    assert cache.match(TEXT).hit_len == 7
    assert cache.give_up_one()
    assert stats(cache).cached_slots == 1
    assert cache.match(TEXT).hit_len == 7
    cache.check()


def test_pins_take_at_most_their_share_of_slots_and_window_blocks() -> None:
    cache = states(num_slots=4)
    for number, refused in ((0, False), (1, False), (2, True)):
        lease, pin = cache.acquire([]), Retained(100.0)
        compute(lease, [number] * 3)
        if refused:
            with pytest.raises(PinError, match="a pin of 1 slots goes over the budget: 2 of 2"):
                lease.retain(pin)
            with pytest.raises(PinError, match="slots"):
                cache.check_pin(Retained(1.0), 3)
        else:
            lease.retain(pin)
        lease.release()
    cache = windows(num_window_blocks=4, window=20)
    with pytest.raises(PinError, match="window blocks"):
        cache.check_pin(Retained(1.0), 12)
    cache.check_pin(Retained(1.0), 8)
    cache.check()


# Who has what ------------------------------------------------------------------------------------


def test_a_mark_at_the_end_takes_the_slot_and_the_lease_goes_on_from_it() -> None:
    cache = states()
    lease = cache.acquire([])
    (segment,) = compute(lease, TEXT[:6])
    lease.mark()
    lease.mark()
    lease.commit()
    assert (stats(cache).num_marks, stats(cache).leased_slots) == (1, 1)
    (after,) = compute(lease, [9])
    assert after.source == segment.target
    assert (stats(cache).cached_slots, stats(cache).leased_slots) == (1, 1)
    lease.release()
    assert (stats(cache).cached_slots, stats(cache).leased_slots) == (1, 0)
    cache.check()


def test_of_two_that_leave_the_same_mark_the_tree_has_one() -> None:
    cache = states()
    leases = [cache.acquire([]), cache.acquire([])]
    for lease in leases:
        compute(lease, TEXT[:6])
        lease.mark()
    for lease in leases:
        lease.commit()
        cache.check()
    assert (stats(cache).num_marks, stats(cache).leased_slots) == (1, 2), "one goes on from its own slot"
    for lease in leases:
        compute(lease, [1])
        lease.release()
    assert (stats(cache).num_marks, stats(cache).leased_slots) == (1, 0)
    cache.check()


def test_marks_that_were_not_published_go_with_their_lease() -> None:
    cache = states()
    lease = cache.acquire([], marks_at=[2])
    compute(lease, TEXT[:6])
    lease.mark()
    lease.release()
    lease.release()
    assert (stats(cache).num_marks, stats(cache).free_slots) == (0, 12)
    cache.check()


def test_a_fork_in_the_middle_of_what_is_replayed_goes_on_there() -> None:
    cache = states()
    leave(cache, TEXT, 4)
    lease = cache.acquire([*TEXT[:12], 99])
    compute(lease, TEXT[4:7])
    fork = lease.fork()
    assert (fork.num_tokens, fork.match_len, fork.written_from) == (7, 12, 12)
    assert marks_of(cache) == [4, 7]
    for one in (lease, fork):
        compute(one, [*TEXT[7:12], 50])
        one.commit()
        cache.check()
    assert cache.match([*TEXT[:12], 50]).match_len == 13
    assert stats(cache).replayed_tokens == 3 + 5 + 5


def test_a_fork_between_advance_and_extend_reads_what_the_step_does_not_write() -> None:
    cache = states()
    lease = cache.acquire([])
    compute(lease, TEXT[:3])
    lease.reserve(1)
    (segment,) = lease.advance(1).segments
    fork = lease.fork()
    fork.reserve(1)
    (other,) = fork.advance(1).segments
    assert other.source == segment.source
    assert len({segment.source, segment.target, other.target}) == 3
    lease.extend([7])
    fork.extend([8])
    cache.check()


def test_what_is_forgotten_is_not_hit_and_its_slots_come_free_when_the_last_one_lets_go() -> None:
    cache = states()
    leave(cache, TEXT, 8, 16, namespace="tenant")
    lease = cache.acquire(TEXT, "tenant")
    cache.drop("tenant")
    assert (cache.match(TEXT, "tenant").hit_len, stats(cache).num_marks) == (0, 1), (
        "the one that the lease goes on from"
    )
    fork = lease.fork()
    lease.release()
    cache.check()
    compute(fork, TEXT[16:])
    assert stats(cache).num_marks == 0
    fork.release(NextUse.SOON)
    assert stats(cache).free_slots == 12
    cache.check()


def test_a_mark_behind_a_salt_boundary_is_private_and_one_at_it_public() -> None:
    cache = states()
    mine = Segments("", 8, "mine")
    leave(cache, TEXT, 8, 12, namespace=mine)
    assert cache.match(TEXT, mine).hit_len == 12
    assert cache.match(TEXT, Segments("", 8, "yours")).hit_len == 8
    assert cache.match(TEXT).hit_len == 8
