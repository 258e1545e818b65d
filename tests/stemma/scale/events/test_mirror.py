"""What readers know equals what the cache has: after any life of it, lost messages, an overrun history, a restart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("zmq", reason="pyzmq is not installed")

from stemma.radix import BlocksRemoved, BlocksStored, MarkRoom
from stemma.radix.events import AllCleared
from stemma.scale.events import Mirror, Told
from tests.stemma.scale.events.worlds import World, marks_of, texts_of


@given(seed=st.integers(0, 2**32), room=st.sampled_from([None, MarkRoom(6, 20, 0), MarkRoom(None, 0, 12)]))
@settings(max_examples=60, deadline=None)
def test_events_alone_make_the_tree(seed: int, room: MarkRoom | None) -> None:
    world, mirror = World(seed, room), Mirror()
    world.live(15)
    world.cache.subscribe(lambda event: mirror.apply(Told(event)))
    for _ in range(6):
        world.live(10)
        assert texts_of(mirror) == world.texts()
        assert marks_of(mirror) == world.marks()


@given(seed=st.integers(0, 2**32), room=st.sampled_from([None, MarkRoom(None, 0, 12)]))
@settings(max_examples=40, deadline=None)
def test_what_a_mirror_tells_makes_the_same_mirror(seed: int, room: MarkRoom | None) -> None:
    world, mirror, other = World(seed, room), Mirror(), Mirror()
    world.cache.subscribe(lambda event: mirror.apply(Told(event)))
    world.live(60)
    known: set[bytes] = set()
    for told in mirror.told():
        if isinstance(told.event, BlocksStored):
            assert told.event.parent in {b"", *known}, "parents come first"
            known |= set(told.event.hashes)
        other.apply(told)
    assert texts_of(other) == texts_of(mirror)
    assert other.marks == mirror.marks


def test_a_block_is_there_as_long_as_one_tier_has_it() -> None:
    mirror = Mirror()
    stored = BlocksStored(b"", [b"one", b"two"], [1, 2, 3, 4], 2, "team")
    mirror.apply(Told(stored))
    mirror.apply(Told(BlocksStored(b"", [b"two"], [], 0, ""), "CPU"))
    mirror.apply(Told(BlocksRemoved([b"two"])))
    assert mirror.path(b"two") == [1, 2, 3, 4]
    assert mirror.of(("CPU", None)) == [b"two"]
    mirror.apply(Told(BlocksRemoved([b"two"]), "STORAGE", "LOCAL"))  # which never had it
    mirror.apply(Told(BlocksRemoved([b"two"]), "CPU"))
    assert mirror.path(b"two") is None
    assert mirror.path(b"one") == [1, 2]
    mirror.apply(Told(AllCleared()))
    assert mirror.blocks == {}


def test_a_hash_without_its_text_gets_it_later() -> None:
    mirror = Mirror()
    mirror.apply(Told(BlocksStored(b"", [b"one"], [], 0, ""), "STORAGE"))
    assert mirror.path(b"one") is None
    mirror.apply(Told(BlocksStored(b"", [b"one"], [1, 2], 2, "team")))
    assert mirror.path(b"one") == [1, 2]
    assert mirror.blocks[b"one"].tiers == (("STORAGE", None), ("GPU", None))
