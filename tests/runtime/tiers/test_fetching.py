from __future__ import annotations

import threading
import time

from stemma.runtime.tiers.fetching import Fetch, Fetcher
from stemma.runtime.tiers.host import HostTier
from stemma.runtime.tiers.stack import Stack
from stemma.runtime.tiers.writing import Writer
from tests.runtime.tiers.blocks import Odd, key, payload


class Played:
    """A fetcher over a host tier and an odd one that has the first blocks."""

    def __init__(self, count: int = 8, max_bytes: int = 10_000) -> None:
        self.odd, self.host = Odd(), HostTier(1 << 20)
        self.stack = Stack([self.host, self.odd])
        self.stack.tiers[1].put([(key(number), payload(number)) for number in range(count)])
        self.writer = Writer(self.stack, 1 << 20)
        self.woken = threading.Event()
        self.fetcher = Fetcher(self.stack, self.writer, 1000, max_bytes, self.woken.set)

    def ask(self, fetch: Fetch) -> list[bytes]:
        self.woken.clear()
        self.fetcher.ask(fetch)
        assert self.woken.wait(30)
        assert fetch.is_done
        return [bytes(each) for each in fetch.payloads]

    def close(self) -> None:
        self.fetcher.close()
        self.writer.close(30)


def keys(count: int) -> list[bytes]:
    return [key(number) for number in range(count)]


def test_what_is_there_comes_in_order_up_to_the_first_gap_and_goes_to_the_faster_tier():
    played = Played()
    assert played.ask(Fetch(keys(12), 0.0)) == [payload(number) for number in range(8)]
    assert played.writer.drain(30)
    assert played.host.contains(keys(8)) == [True] * 8
    played.close()


def test_a_payload_of_another_length_ends_it():
    played = Played()
    played.stack.tiers[1].put([(key(8), payload(8, 999)), (key(9), payload(9))])
    assert len(played.ask(Fetch(keys(10), 0.0))) == 8
    played.close()


def test_room_is_counted_and_given_back():
    played = Played(max_bytes=8000)
    fetch = Fetch(keys(8), 0.0)
    played.ask(fetch)
    assert not played.fetcher.has_room
    played.fetcher.drop(fetch)
    played.fetcher.drop(fetch)
    assert played.fetcher.has_room
    assert fetch.payloads == []
    played.close()


def test_what_nobody_waits_for_or_would_be_slower_is_not_loaded():
    played = Played()
    played.odd.num_calls = 0
    assert played.ask(Fetch(keys(8), 0.0, time.monotonic() - 1)) == []
    assert played.odd.num_calls == 0
    played.stack.tiers[1].speed.rate = 1.0
    assert played.ask(Fetch(keys(8), 1e-9)) == []
    assert played.fetcher.num_slower == 1
    assert len(played.ask(Fetch(keys(8), 1e9))) == 8
    played.close()


def marks(count: int) -> list[bytes]:
    return [key(100 + number) for number in range(count)]


def test_where_one_goes_on_at_marks_the_last_one_behind_found_blocks_comes_with_what_stands_before_it():
    played = Played()
    played.stack.tiers[1].put([(key(100 + number), payload(100 + number, 77)) for number in (2, 5, 9)])
    fetch = Fetch(keys(12), 0.0, mark_keys=marks(12))
    assert played.ask(fetch) == [payload(number) for number in range(6)]
    assert (fetch.num_wanted, bytes(fetch.mark or b"")) == (6, payload(105, 77))
    assert played.fetcher._staged == 6 * 1000 + 77
    played.fetcher.drop(fetch)
    assert (played.fetcher._staged, fetch.mark) == (0, None)
    assert played.writer.drain(30)
    assert played.host.contains([key(105)]) == [True]
    played.close()


def test_without_a_mark_that_comes_no_block_is_loaded():
    played = Played()
    assert played.ask(Fetch(keys(8), 0.0, mark_keys=marks(8))) == []
    played.stack.tiers[1].put([(key(103), payload(103))])
    played.odd.records[key(103)] = played.odd.records[key(103)][:-1]
    assert played.ask(Fetch(keys(8), 0.0, mark_keys=marks(8))) == []
    played.close()
