"""What is forgotten is told once and never again; what nothing needs any more leaves nothing behind."""

import json
import random
from hashlib import sha256
from typing import Any

import pytest

from stemma.radix import (
    AllCleared,
    BlocksRemoved,
    BlocksStored,
    Event,
    PrefixCache,
    Segments,
    SnapshotError,
    lru,
)

TEXT = list(range(8))


@pytest.fixture
def heard(cache: PrefixCache) -> list[Event]:
    events: list[Event] = []
    cache.subscribe(events.append)
    return events


@pytest.mark.parametrize("way", ["drop", "clear"])
def test_a_text_stored_anew_is_not_removed_by_the_lease_on_the_old_one(
    cache: PrefixCache, store: Any, heard: list[Event], way: str
) -> None:
    store(cache, TEXT, "tenant")
    lease = cache.acquire(TEXT, "tenant")
    if way == "drop":
        cache.drop("tenant")
        assert isinstance(heard[-1], BlocksRemoved)
    else:
        cache.clear()
        assert heard[-1] == AllCleared()
    heard.clear()
    store(cache, TEXT, "tenant")
    (stored,) = heard
    assert isinstance(stored, BlocksStored)
    lease.reserve(8)
    lease.extend(range(8, 16))
    lease.commit()
    lease.release()
    store(cache, list(range(100, 140)))
    assert not [
        event for event in heard[1:] if isinstance(event, BlocksRemoved) and set(event.hashes) & {*stored.hashes}
    ]
    assert cache.match(TEXT, "tenant").hit_len == 8
    cache.check()


def test_a_clear_says_all_cleared_and_nothing_else(cache: PrefixCache, store: Any, heard: list[Event]) -> None:
    store(cache, TEXT)
    lease = cache.acquire(TEXT)
    heard.clear()
    cache.clear()
    lease.release()
    assert heard == [AllCleared()]


def test_what_was_dropped_comes_free_with_its_lease(cache: PrefixCache, store: Any) -> None:
    store(cache, TEXT, "tenant")
    lease = cache.acquire(TEXT, "tenant")
    cache.drop("tenant")
    lease.reserve(4)
    lease.extend([1, 2, 3, 4])
    lease.commit()
    lease.release()
    assert cache.stats().free == 16
    assert not list(cache.walk())


def test_a_listener_may_leave_and_another_come(cache: PrefixCache, store: Any) -> None:
    stop = cache.subscribe([].append)
    store(cache, TEXT)
    stop()
    store(cache, list(range(16)))
    cache.check()
    heard: list[Event] = []
    cache.subscribe(heard.append)
    assert sum(len(event.hashes) for event in heard if isinstance(event, BlocksStored)) == 4


def test_hashes_differ_wherever_who_may_read_differs(store: Any) -> None:
    places = ("", "a", "a\x1fb", "a\x1f0\x1fb", "a\x1f\x1f0\x1fb", "\ud800")
    places += (Segments("a", 0, "b"), Segments("a", 1, "b"), Segments("a\x1f0", 0, "b"))  # type: ignore[assignment]
    cache, seen = PrefixCache(64, 4, lru), []
    cache.subscribe(lambda event: seen.extend(event.hashes) if isinstance(event, BlocksStored) else None)
    for place in places:
        store(cache, TEXT, place)
    assert len(seen) == len(set(seen)) == 2 * len(places)


def test_no_salt_reaches_what_was_dropped(cache: PrefixCache, store: Any) -> None:
    store(cache, TEXT, Segments("", 2, "a"))
    lease = cache.acquire(TEXT, Segments("", 2, "a"))
    cache.drop(Segments("", 2, "a"))
    for salt in ("a", "\x1fhidden 1", "1", ""):
        assert cache.match(TEXT, Segments("", 2, salt)).hit_len == 2
    lease.release()


def test_namespaces_that_hold_nothing_are_forgotten(cache: PrefixCache, store: Any) -> None:
    for number in range(2000):
        cache.acquire(TEXT, f"user {number}").release()
        cache.acquire_uncounted(TEXT, Segments(f"app {number}", 4, "salt")).release()
        assert cache.match(TEXT, f"user {number}").hit_len == 0
    assert not cache._store.tree.roots
    for number in range(40):
        store(cache, TEXT, f"user {number}")
    assert len(cache._store.tree.roots) == 8, "sixteen blocks hold eight of them"
    lease = cache.acquire([5], "user 1000")
    cache.clear()
    assert len(cache._store.tree.orphans) == 1
    lease.reserve(1)
    lease.extend([5])
    lease.commit()
    lease.release()
    assert not cache._store.tree.roots
    assert not cache._store.tree.orphans
    cache.check()


def test_pins_that_ran_out_keep_nothing(cache: PrefixCache, store: Any, pin: Any, clock: Any) -> None:
    store(cache, TEXT)
    pin(cache, TEXT, ttl=10)
    clock.now += 11
    stats = cache.stats()
    assert (stats.pinned, stats.num_leases, stats.leased, stats.cached) == (0, 0, 0, 2)
    pin(cache, TEXT, ttl=10)
    clock.now += 11
    assert cache.clear() == 2
    store(cache, TEXT, "tenant")
    pin(cache, TEXT, "tenant", ttl=10)
    clock.now += 11
    assert cache.drop("tenant") == 2
    store(cache, TEXT)
    state = cache.state()
    pin(cache, TEXT, ttl=10)
    cache.drop("")
    clock.now += 11
    cache.restore(state)
    assert cache.match(TEXT).hit_len == 8


def test_every_cut_and_every_changed_byte_of_a_snapshot_is_refused(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(11)))
    store(cache, [0, 1, 2, 9], Segments("", 3, "tenant"))
    data, numbers = cache.state(), random.Random(5)
    again = PrefixCache(16, 4, lru)
    for length in range(len(data)):
        with pytest.raises(SnapshotError):
            again.restore(data[:length])
    for _ in range(2000):
        place, bit = numbers.randrange(len(data)), 1 << numbers.randrange(8)
        with pytest.raises(SnapshotError):
            again.restore(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
    again.check()
    again.restore(bytearray(data))
    assert again.match(range(11)).hit_len == 11


def test_a_snapshot_with_a_right_checksum_and_wrong_content_is_refused(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(11)))
    store(cache, [0, 1, 2, 9], Segments("", 3, "tenant"))
    data, numbers = cache.state(), random.Random(6)
    accepted = 0
    for _ in range(3000):
        body = bytearray(data[46:])
        body[numbers.randrange(len(body))] = numbers.choice(b'0123456789{}[],:"-x\x00\xff')
        again = PrefixCache(16, 4, lru)
        try:
            again.restore(data[:14] + sha256(body).digest() + bytes(body))
        except SnapshotError:
            assert again.stats().free == 16
            continue
        accepted += 1  # another token, or a name: nothing that could be known
        assert again.stats().free + again.stats().cached == 16
    assert accepted < 1500


def test_a_snapshot_whose_numbers_no_cache_can_have_counted_is_refused(cache: PrefixCache, store: Any) -> None:
    store(cache, list(range(11)))
    data = cache.state()
    length = int.from_bytes(data[46:54], "little")
    for field, wrong in [(1, 7), *((field, number) for field in (5, 6, 7, 10, 11) for number in (-1, 0.5, 2**70, "1"))]:
        header = json.loads(data[54 : 54 + length])
        header["nodes"][0][field] = wrong
        text = json.dumps(header).encode()
        body = len(text).to_bytes(8, "little") + text + data[54 + length :]
        with pytest.raises(SnapshotError):
            PrefixCache(16, 4, lru).restore(data[:14] + sha256(body).digest() + body)
