"""Over real sockets: what subscribers hear is what the cache has, whatever is lost, and nothing stays behind."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("zmq", reason="pyzmq is not installed")

import zmq

from stemma.radix import BlocksStored, MarkRoom
from stemma.radix.events import AllCleared
from stemma.runtime.errors import EngineClosed, InvalidRequest
from stemma.scale.events import EventOptions, Publisher, Subscriber, Told, read_batch
from stemma.scale.events.publisher import END, parts
from tests.stemma.scale.events.worlds import World, following, losing, marks_of, options, texts_of

SEEDS = pytest.mark.parametrize("seed", range(6))


def in_step(follower, world):  # type: ignore[no-untyped-def]
    follower.follow_until(lambda: texts_of(follower.mirror) == world.texts())
    return True


@SEEDS
def test_a_subscriber_follows_a_life_without_a_gap(seed: int) -> None:
    world = World(seed)
    world.live(20)
    given = {"form": ("maps", "arrays")[seed % 2], "hashes": ("int", "bytes")[seed % 3 % 2]}
    with (
        Publisher(world.between, options(**given)) as publisher,
        following(publisher.endpoint, publisher.replay) as follower,
    ):  # fmt: skip
        for _ in range(5):
            world.live(30)
            assert in_step(follower, world)
        assert follower.gaps == []


@SEEDS
def test_lost_messages_are_asked_for(seed: int) -> None:
    world = World(seed)
    with (
        Publisher(world.between, options()) as publisher,
        losing(publisher.endpoint, 0.5, seed) as lossy,
        following(lossy, publisher.replay) as follower,
    ):  # fmt: skip
        for _ in range(40):
            world.live(5)
            follower.follow()
        assert in_step(follower, world)
        assert follower.gaps == []


@pytest.fixture
def clock_that_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of publishers: each time is before the last one."""
    times = itertools.count(time.time(), -10.0)
    monkeypatch.setattr("stemma.scale.events.publisher.time", SimpleNamespace(time=lambda: next(times)))


@SEEDS
def test_where_the_clock_goes_back_what_was_had_by_replay_is_no_new_life(seed: int, clock_that_goes_back: None) -> None:
    world = World(seed)
    with (
        Publisher(world.between, options()) as publisher,
        losing(publisher.endpoint, 0.5, seed) as lossy,
        following(lossy, publisher.replay) as follower,
    ):  # fmt: skip
        for _ in range(40):
            for _ in range(5):
                world.live(1)
                time.sleep(0.001)  # so that several messages wait when the first is missed
            follower.follow()
        assert in_step(follower, world)
        assert follower.gaps == []


@SEEDS
def test_what_is_kept_no_more_is_told_as_a_gap_and_then_anew(seed: int) -> None:
    world = World(seed)
    with (
        Publisher(world.between, options(kept=3)) as publisher,
        losing(publisher.endpoint, 0.7, seed) as lossy,
        following(lossy, publisher.replay) as follower,
    ):  # fmt: skip
        for _ in range(25):
            for _ in range(10):
                world.live(2)
                time.sleep(0.001)  # so that it is told in several messages
            follower.follow()
        assert in_step(follower, world)
        assert follower.gaps
        assert set(follower.gaps) == {gap for gap in follower.gaps if "not kept any more" in gap}


def test_a_publisher_that_starts_over_is_found_out() -> None:
    """Also where its sequence numbers go on as if nothing had been."""
    world = World(3)
    first = Publisher(world.between, options())
    where = EventOptions(endpoint=first.endpoint, replay=first.replay)
    with following(first.endpoint, first.replay, silence_seconds=0) as follower:
        world.live(60)
        assert in_step(follower, world)
        first.close()
        other = World(4)
        other.live(40)
        with Publisher(other.between, where) as second:
            num_sent = 0
            while num_sent <= follower.subscriber._last:
                other.live(1)
                time.sleep(0.003)
                num_sent = second._next_seq
            other.live(3)
            assert in_step(follower, other)
            assert any("new life" in gap or "not kept" in gap for gap in follower.gaps)


@pytest.mark.parametrize("replay", [None, "tcp://127.0.0.1:1"], ids=["no replay", "a replay that does not answer"])
def test_what_a_life_told_is_forgotten_where_nobody_can_say_that_it_goes_on(replay: str | None) -> None:
    """Though the next life's sequence numbers go on where the connection was lost."""
    world, other = World(3), World(4)
    first = Publisher(world.between, options(replay=None))
    with following(first.endpoint, replay, silence_seconds=0, replay_seconds=0.1) as follower:

        def is_known() -> bool:
            world.live(1)
            return follower.subscriber._last > 3 and len(follower.mirror.blocks) > 3

        follower.follow_until(is_known)
        first.close()
        follower.follow()
        with Publisher(other.between, EventOptions(endpoint=first.endpoint)) as second:
            while second._next_seq <= follower.subscriber._last:
                other.live(1)
                time.sleep(0.003)
            follower.follow_until(lambda: any("made anew" in gap for gap in follower.gaps))
            other.live(20)
            follower.follow_until(lambda: texts_of(follower.mirror) <= other.texts())


def test_without_replay_a_lost_message_is_a_gap_and_nothing_known_is_wrong() -> None:
    world = World(7)
    with (
        Publisher(world.between, options(replay=None)) as publisher,
        losing(publisher.endpoint, 0.3) as lossy,
        following(lossy, None) as follower,
    ):  # fmt: skip
        for _ in range(30):
            world.live(5)
            follower.follow(0.01)
        follower.follow(0.3)
        assert follower.gaps


def test_without_replay_a_new_life_behind_a_forwarder_is_known_by_its_number(clock_that_goes_back: None) -> None:
    """The connection to the forwarder stays, and the new life's clock is behind."""
    world, other = World(6), World(4)
    first = Publisher(world.between, options(replay=None))
    with losing(first.endpoint, 0.0) as forwarder, following(forwarder, None) as follower:
        while follower.subscriber._last < 60:
            world.live(1)
            follower.follow(0.001)
        first.close()
        follower.follow()
        before = follower.subscriber._last
        follower.gaps.clear()
        with Publisher(other.between, EventOptions(endpoint=first.endpoint)) as second:
            while not follower.gaps and second._next_seq < before:
                other.live(1)
                follower.follow(0.05)
            assert "message" in follower.gaps[0]
            other.live(1)
            follower.follow_until(lambda: texts_of(follower.mirror) <= other.texts())


def test_marks_are_told_to_who_asked_for_them() -> None:
    world = World(1, MarkRoom(None, 0, 12))
    with (
        Publisher(world.between, options(marks=True)) as publisher,
        following(publisher.endpoint, publisher.replay) as follower,
    ):  # fmt: skip
        world.live(80)
        assert in_step(follower, world)
        follower.follow_until(lambda: marks_of(follower.mirror) == world.marks())


def test_marks_are_left_out_otherwise() -> None:
    world = World(1, MarkRoom(None, 0, 12))
    with (
        Publisher(world.between, options()) as publisher,
        following(publisher.endpoint, publisher.replay) as follower,
    ):  # fmt: skip
        world.live(80)
        assert world.marks()
        assert in_step(follower, world)
        assert not follower.mirror.marks


def test_a_full_queue_has_all_told_anew_and_never_waits(caplog: pytest.LogCaptureFixture) -> None:
    world, gate, waits = World(5), threading.Event(), threading.Event()

    class Slow(Publisher):
        def _publish(self, items):  # type: ignore[no-untyped-def]
            waits.set()
            assert gate.wait(60)
            super()._publish(items)

    with (
        caplog.at_level(logging.WARNING, "stemma.events"),
        Slow(world.between, options(max_queued=5)) as publisher,
        following(publisher.endpoint, publisher.replay, replay_seconds=20) as follower,
    ):  # fmt: skip
        assert waits.wait(60)  # a thread that starts late would tell all anew in the middle of what follows
        world.live(100)
        assert len(publisher._intake._queue) <= 5
        gate.set()
        assert in_step(follower, world)
        assert publisher.num_resyncs == 1
    assert "all is told anew" in caplog.text


def test_tiers_are_told_by_their_medium_and_survive_a_cleared_cache() -> None:
    world, held = World(2), list[bytes]()
    with (
        Publisher(world.between, options(hashes="bytes")) as publisher,
        following(publisher.endpoint, publisher.replay) as follower,
    ):  # fmt: skip
        tier = publisher.tier("STORAGE", lambda: held, "LOCAL")
        world.live(40)
        assert in_step(follower, world)
        held += list(follower.mirror.blocks)[:5]
        known = {name: follower.mirror.path(name) for name in held}
        tier.stored(held)
        world.between(lambda cache: cache.clear())
        follower.follow_until(lambda: set(follower.mirror.blocks) == set(held))
        assert {name: follower.mirror.path(name) for name in held} == known
        assert {block.tiers for block in follower.mirror.blocks.values()} == {(("STORAGE", "LOCAL"),)}
        publisher._intake.overflowed = True  # as a full queue would
        publisher._intake.wake()
        follower.follow_until(lambda: publisher.num_resyncs == 1)
        gone, held[:] = held[3:], held[:3]
        tier.removed(gone)
        follower.follow_until(lambda: set(follower.mirror.blocks) == set(held))
        assert {name: follower.mirror.path(name) for name in held} == {name: known[name] for name in held}


@pytest.mark.parametrize("form", ["maps", "arrays"])
def test_answers_are_as_vllms_of_that_time(form: str) -> None:
    world = World(8)
    world.live(20)
    with (
        Publisher(world.between, options(form=form, topic="kv@here@model")) as publisher,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.connect(str(publisher.replay))
        dealer.send_multipart([b"", (0).to_bytes(8, "big")])
        answers = []
        while END not in (frames := dealer.recv_multipart()):
            answers.append(frames)
        assert [int.from_bytes(frames[-2], "big") for frames in answers] == list(range(len(answers)))
        assert isinstance(read_batch(answers[0][-1]).told[0].event, AllCleared)
        topics = {tuple(frames[:-2]) for frames in answers}
        assert topics == ({(b"", b"kv@here@model")} if form == "maps" else {(b"",)})
        assert frames == ([b"", b"", END, b""] if form == "maps" else [b"", END, b""])


def test_what_is_no_request_for_events_is_left_alone() -> None:
    world = World(8)
    with (
        Publisher(world.between, options()) as publisher,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.connect(str(publisher.replay))
        for frames in ([b"\0" * 8], [b"", b"x"], [b"", b"", b""]):
            dealer.send_multipart(frames)
        dealer.send_multipart([b"", (2**64 - 1).to_bytes(8, "big")])
        assert dealer.recv_multipart() == [b"", b"", END, b""]


def test_a_port_in_use_says_what_to_do() -> None:
    world, before = World(0), threading.active_count()
    with Publisher(world.between, options()) as publisher:
        for where, param in (
            (EventOptions(endpoint=publisher.endpoint), "kv_events"),
            (options(replay=publisher.replay), "kv_events_replay"),
        ):
            with pytest.raises(InvalidRequest, match="give another port") as told:
                Publisher(world.between, where)
            assert told.value.param == param
    assert threading.active_count() == before


@pytest.mark.parametrize("endpoint", ["tcp://*", "5557", "udp://*:5557", "tcp://*:99999", "http://x:1"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match="endpoint such as"):
        EventOptions(endpoint=endpoint)
    with pytest.raises(InvalidRequest, match="endpoint such as"):
        EventOptions(endpoint="tcp://*:5557", replay=endpoint)


def test_a_reader_elsewhere_that_listens_is_connected_to() -> None:
    """As llm-d's central one does; `localhost` and addresses of this machine are listened at."""
    world = World(9)
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        port = reader.bind_to_random_port("tcp://*")
        reader.subscribe(b"kv@")
        with Publisher(
            world.between, EventOptions(endpoint=f"tcp://ip6-localhost:{port}", topic="kv@a@b")
        ) as publisher:
            assert publisher.endpoint == f"tcp://ip6-localhost:{port}"


def test_an_engine_that_is_closed_gets_no_publisher_and_ends_one() -> None:
    before = threading.active_count()

    def closed(look):  # type: ignore[no-untyped-def]
        raise EngineClosed("the engine is closed")

    with pytest.raises(EngineClosed):
        Publisher(closed, options())
    world = World(1)
    publisher = Publisher(world.between, options())
    publisher._between = closed
    publisher.close()
    assert threading.active_count() == before


def test_what_waits_is_sent_before_the_end() -> None:
    world = World(6)
    publisher = Publisher(world.between, options())
    with following(publisher.endpoint, publisher.replay, silence_seconds=0) as follower:
        follower.follow(0.3)
        world.live(50)
        publisher.close()
        assert in_step(follower, world)


def test_closing_a_subscriber_ends_who_iterates() -> None:
    world, heard = World(6), []
    with Publisher(world.between, options()) as publisher:
        subscriber = Subscriber(publisher.endpoint, publisher.replay)
        thread = threading.Thread(target=lambda: heard.extend(subscriber))
        thread.start()
        world.live(20)
        time.sleep(0.3)
        subscriber.close()
        thread.join(5)
        assert not thread.is_alive()
    assert heard


def test_large_events_are_cut_at_blocks() -> None:
    hashes, tokens = [bytes([index]) for index in range(7)], list(range(14))
    cut = [told.event for told in parts(Told(BlocksStored(b"root", hashes, tokens, 2, "team")), 3)]
    assert [len(event.hashes) for event in cut] == [3, 3, 1]  # type: ignore[union-attr]
    assert [event.parent for event in cut] == [b"root", hashes[2], hashes[5]]  # type: ignore[union-attr]
    assert [token for event in cut for token in event.tokens] == tokens  # type: ignore[union-attr]
