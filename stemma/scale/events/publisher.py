"""Tells over ZeroMQ what a cache holds, as vLLM does; the loop that changes the cache never waits for it.

    engine's thread -> intake -> this thread -> PUB      [topic, seq, batch]
                                     |  kept  -> ROUTER  asked [b"", seq]: all from seq on, then -1
                                   mirror

The thread has a mirror of all that it told. Who asks for messages that are no longer kept is told the mirror instead:
`AllBlocksCleared`, then all there is, under the latest sequence numbers. Any reader that takes what it asked for is
right then, with nothing asked of the engine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

import zmq

from stemma.radix import PrefixCache
from stemma.radix.events import AllCleared, BlocksRemoved, BlocksStored
from stemma.runtime.errors import InvalidRequest, StemmaError
from stemma.scale.events.forms import Told, Writer
from stemma.scale.events.history import History, Sent
from stemma.scale.events.intake import Announcement, Intake, Item
from stemma.scale.events.mirror import FIRST_TIER, Mirror
from stemma.scale.events.options import EventOptions, is_listened_at

T = TypeVar("T")
log = logging.getLogger("stemma.events")

MOST_BLOCKS: Final = 2048
"""In one message."""
MOST_ITEMS: Final = 4096
"""That are taken at once."""
SEQ_BYTES: Final = 8
END: Final = (-1).to_bytes(SEQ_BYTES, "big", signed=True)
"""What stands in the place of a sequence number behind the last message that was asked for."""
HIGH_WATER: Final = 100_000
LINGER_MS: Final = 200
REPLAY_FRAMES: Final = 3


class Between(Protocol):
    """Calls a function with the cache when nothing changes it, in whatever thread; returns what it returns."""

    def __call__(self, look: Callable[[PrefixCache], T], /) -> T: ...


class TierEvents:
    """What one tier below the cache has to tell, from any thread. It tells of a change after it has made it."""

    def __init__(self, intake: Intake, medium: str, locality: str | None, held: Callable[[], Iterable[bytes]]) -> None:
        self._intake = intake
        self.tier = medium, locality
        self.held = held

    def stored(self, hashes: Sequence[bytes]) -> None:
        """It has these blocks now. Their texts are told too where another tier's are known."""
        if hashes:
            self._intake.put(Told(BlocksStored(b"", list(hashes), [], 0, ""), *self.tier))

    def stored_texts(self, event: BlocksStored) -> None:
        """Likewise, with what is in them."""
        self._intake.put(Told(event, *self.tier))

    def removed(self, hashes: Sequence[bytes]) -> None:
        """It has these no more."""
        if hashes:
            self._intake.put(Told(BlocksRemoved(list(hashes)), *self.tier))


class Publisher:
    """Publishes one cache's events until it is closed.

    between: an engine's `with_cache`, or the like. endpoint, replay: where it listens, with the ports it got.
    Raises InvalidRequest for an endpoint that cannot be used.
    """

    def __init__(self, between: Between, options: EventOptions) -> None:
        self._between = between
        self._options = options
        self._intake = Intake(options.max_queued)
        self._mirror = Mirror()
        self._history = History(options.kept)
        self._writer = Writer(options.form, options.hashes, marks=options.marks, rank=options.rank)
        self._tiers: list[TierEvents] = []
        self._topic = options.topic.encode()
        self._next_seq = 0
        self._is_stopping = False
        self.num_resyncs = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._pub = self._context.socket(zmq.PUB)
            self._pub.set_hwm(HIGH_WATER)
            self.endpoint = open_at(self._pub, options.endpoint, "kv_events")
            self._router = self._context.socket(zmq.ROUTER)
            self._router.set(zmq.SNDHWM, 2 * options.kept + 1000)
            self.replay = None
            if options.replay is not None:
                self.replay = open_at(self._router, options.replay, "kv_events_replay", must_listen=True)
        except BaseException:
            self._context.destroy(linger=0)
            self._intake.close()
            raise
        self._thread = threading.Thread(target=self._run, name="stemma-kv-events", daemon=True)
        self._thread.start()
        try:
            between(self._intake.join)
        except BaseException:
            self._end()
            raise

    def tier(self, medium: str, held: Callable[[], Iterable[bytes]], locality: str | None = None) -> TierEvents:
        """One more tier, and what it has now. held: the hashes of its blocks; called from this publisher's thread, when
        all has to be told anew."""
        made = TierEvents(self._intake, medium, locality, held)
        self._tiers.append(made)
        made.stored(list(held()))
        return made

    def close(self) -> None:
        """Send what waits, and end: no socket and no thread stays."""
        try:
            self._between(self._intake.leave)
        except StemmaError:
            log.debug("the engine went before its events")
        self._end()

    def _end(self) -> None:
        self._is_stopping = True
        self._intake.wake()
        self._thread.join()
        self._intake.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The publisher's thread ----------------------------------------------------------------
    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._intake.ear, zmq.POLLIN)
        poller.register(self._router, zmq.POLLIN)
        try:
            while True:
                idle = self._intake.is_quiet() and not self._is_stopping
                ready = dict(poller.poll(None if idle else 0))
                if self._intake.ear.fileno() in ready:
                    self._intake.hear()
                if self._intake.overflowed and not self._is_stopping:
                    self._tell_all_anew()
                items = self._intake.take(MOST_ITEMS)
                self._publish(items)
                if self._router in ready:
                    self._answer()
                if self._is_stopping and not items:
                    break
        except Exception:
            log.exception("KV events end here: readers hear nothing more of this cache; restart the server")
            self._intake.overflowed = True
        finally:
            self._context.destroy(linger=LINGER_MS)

    def _tell_all_anew(self) -> None:
        log.warning(
            "more than %d KV events waited to be sent: all is told anew, once the engine has a moment",
            self._options.max_queued,
        )
        self.num_resyncs += 1
        try:
            self._between(self._intake.join)
        except StemmaError:
            self._is_stopping = True  # the engine is gone

    def _publish(self, items: Iterable[Item]) -> None:
        told: list[Told] = []
        num_blocks = 0
        for each in self._expanded(items):
            for part in parts(each, MOST_BLOCKS):
                told.append(part)
                num_blocks += len(getattr(part.event, "hashes", ()))
                if num_blocks >= MOST_BLOCKS:
                    self._send(told)
                    told, num_blocks = [], 0
        if told:
            self._send(told)

    def _expanded(self, items: Iterable[Item]) -> Iterator[Told]:
        """What is told, in order, as the mirror has it."""
        for item in items:
            for told in self._anew(item) if isinstance(item, Announcement) else self._completed(item):
                self._mirror.apply(told)
                yield told

    def _anew(self, announced: Announcement) -> Iterator[Told]:
        before, self._mirror = self._mirror, Mirror()
        yield Told(AllCleared())
        yield from map(Told, announced.events)
        for tier in self._tiers:
            for name in tier.held():
                yield from self._with_text(name, tier.tier, (self._mirror, before))

    def _completed(self, told: Told) -> Iterator[Told]:
        """The event as others can use it: with texts that are known, and never clearing what other tiers have."""
        event = told.event
        if isinstance(event, BlocksStored) and not event.tokens:
            for name in event.hashes:
                yield from self._with_text(name, (told.medium, told.locality), (self._mirror,))
        elif isinstance(event, AllCleared) and self._mirror.has_other(FIRST_TIER):
            yield Told(BlocksRemoved(self._mirror.of(FIRST_TIER)))
        else:
            yield told

    @staticmethod
    def _with_text(name: bytes, tier: tuple[str, str | None], known: Sequence[Mirror]) -> Iterator[Told]:
        for mirror in known:
            block = mirror.blocks.get(name)
            if block is not None and block.tokens:
                tokens = memoryview(block.tokens).cast("i").tolist()
                yield Told(BlocksStored(block.parent, [name], tokens, len(tokens), block.scope), *tier)
                return
        yield Told(BlocksStored(b"", [name], [], 0, ""), *tier)

    def _send(self, told: Sequence[Told]) -> None:
        sent = Sent(self._next_seq, time.time(), b"")
        sent = sent._replace(payload=self._writer.batch(sent.time, told))
        self._next_seq += 1
        self._pub.send_multipart((self._topic, sent.seq.to_bytes(SEQ_BYTES), sent.payload))
        self._history.add(sent)

    # What was missed ----------------------------------------------------------------
    def _answer(self) -> None:
        while self._router.poll(0):
            frames = self._router.recv_multipart()
            if len(frames) != REPLAY_FRAMES or len(frames[2]) != SEQ_BYTES:
                log.debug("somebody asked for events in another way: %d frames", len(frames))
                continue
            asker, start = frames[0], int.from_bytes(frames[2])
            for sent in self._since(start):
                self._reply(asker, self._topic, sent.seq.to_bytes(SEQ_BYTES), sent.payload)
            self._reply(asker, b"", END, b"")

    def _reply(self, asker: bytes, topic: bytes, *frames: bytes) -> None:
        middle = (topic,) if self._options.form == "maps" else ()  # vLLM's answers have the topic since it sends maps
        self._router.send_multipart((asker, b"", *middle, *frames))

    def _since(self, start: int) -> Iterable[Sent]:
        latest = self._history.latest
        if latest is None or start >= self._history.oldest or start > latest.seq:
            return self._history.since(start)
        return self._all_there_is(latest, latest.seq - start + 1)

    def _all_there_is(self, latest: Sent, most: int) -> Iterator[Sent]:
        """The mirror as at most so many messages, the last one with the number of the latest that was sent."""
        told = [Told(AllCleared()), *(part for each in self._mirror.told() for part in parts(each, MOST_BLOCKS))]
        num_messages = min(most, -(-len(self._mirror.blocks) // MOST_BLOCKS) or 1)
        for index in range(num_messages):
            some = told[len(told) * index // num_messages : len(told) * (index + 1) // num_messages]
            yield Sent(latest.seq - num_messages + index + 1, latest.time, self._writer.batch(latest.time, some))


def parts(told: Told, most: int) -> Iterator[Told]:
    """The same in events of at most so many blocks."""
    event = told.event
    if isinstance(event, BlocksStored) and len(event.hashes) > most:
        for start in range(0, len(event.hashes), most):
            hashes, size = event.hashes[start : start + most], event.block_size
            tokens = event.tokens[start * size : (start + most) * size]
            parent = event.hashes[start - 1] if start else event.parent
            yield told._replace(event=BlocksStored(parent, hashes, tokens, size, event.scope))
    elif isinstance(event, BlocksRemoved) and len(event.hashes) > most:
        for start in range(0, len(event.hashes), most):
            yield told._replace(event=BlocksRemoved(event.hashes[start : start + most]))
    else:
        yield told


def open_at(socket: Any, endpoint: str, param: str, *, must_listen: bool = False) -> str:
    """Listen at an endpoint, or connect to a reader's. Returns it, with the port it got. Raises InvalidRequest."""
    try:
        if not must_listen and not is_listened_at(endpoint):
            socket.connect(endpoint)
            return endpoint
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        why = f"{endpoint} cannot be listened at: {error.strerror}"
        if error.errno == zmq.EADDRINUSE:
            why = f"{endpoint} is in use, perhaps by another server's events; give another port"
        raise InvalidRequest(why, param) from error
    return str(socket.get(zmq.LAST_ENDPOINT).decode().rstrip("\0"))
