"""Hears what one publisher tells, in order and without gaps; says so where something cannot be had again.

    SUB     topic, seq, batch       expected? take it.  later? ask for what is missing.  earlier? known, or a new life
    DEALER  -> [b"", last]          <- the last one again (is it the same life?), then what is missing, then -1

A publisher that starts over counts from 0. One that went unheard is found out by the time in its last message, which no
other life has: it is asked for after each silence and each time the connection was made anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import zmq
from zmq.utils.monitor import parse_monitor_message

from stemma.radix.events import AllCleared
from stemma.scale.events.forms import Batch, Told, WireError, read_batch

log = logging.getLogger("stemma.events")

SEQ_BYTES: Final = 8
END: Final = (-1).to_bytes(SEQ_BYTES, "big", signed=True)
HIGH_WATER: Final = 100_000
STEP_MS: Final = 100


class Gap(NamedTuple):
    """What was told before does not hold any more: forget it. What follows begins anew where the publisher could tell
    all there is, and is a part of it where it could not. why: for people."""

    why: str


Heard: TypeAlias = "tuple[int, Told | Gap]"


class _Reply(NamedTuple):
    seq: int
    batch: Batch


class Subscriber:
    """Iterate over it: pairs of a sequence number and what was told, until it is closed.

    endpoint, replay: as the publisher has them, with a host that can be connected to. Without a replay endpoint each
    missed message is a Gap, and so is each connection that was made anew: it may be to another life. topic: messages of
    other topics are not heard. silence_seconds: after so long without a message one looks whether something was missed;
    0 never. replay_seconds: how long an answer may take to go on.
    """

    def __init__(
        self,
        endpoint: str,
        replay: str | None = None,
        topic: str = "",
        *,
        silence_seconds: float = 5.0,
        replay_seconds: float = 5.0,
    ) -> None:
        self._replay = replay
        self._silence_seconds = silence_seconds
        self._replay_seconds = replay_seconds
        self._last = -1
        self._last_time = 0.0
        self._waiting: deque[Heard] = deque()
        self._closing = threading.Event()
        self._checked_at = -float("inf")
        self._must_check = replay is not None
        self._may_be_another = False
        self._retry_at = 0.0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._sub.set_hwm(HIGH_WATER)
        self._monitor = self._sub.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._sub.subscribe(topic.encode())
        self._sub.connect(endpoint)
        self._poller = zmq.Poller()
        self._poller.register(self._sub, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Heard]:
        while not self._closing.is_set():
            heard = self.get(1.0)
            if heard is not None:
                yield heard

    def get(self, seconds: float) -> Heard | None:
        """The next one; None if there is none for so long, or it was closed."""
        until = time.monotonic() + seconds
        with self._lock:
            while not self._waiting and not self._closing.is_set():
                left = until - time.monotonic()
                self._listen(min(max(int(left * 1000), 0), STEP_MS))
                if left <= 0 and not self._waiting:
                    return None
            return self._waiting.popleft() if self._waiting and not self._closing.is_set() else None

    def close(self) -> None:
        """Whoever iterates ends, within a moment."""
        self._closing.set()
        with self._lock:
            if not self._context.closed:
                self._sub.disable_monitor()
                self._context.destroy(linger=0)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Live ----------------------------------------------------------------
    def _listen(self, milliseconds: int) -> None:
        ready = dict(self._poller.poll(milliseconds))
        if self._monitor in ready:
            parse_monitor_message(self._monitor.recv_multipart())
            self._must_check = self._replay is not None
            self._may_be_another = True
            if self._replay is None:
                self._forget()
        if self._sub in ready:
            self._hear(self._sub.recv_multipart())
        elif self._is_to_check() or self._is_silent():
            self._recover("nothing was heard for a while")

    def _is_to_check(self) -> bool:
        return self._must_check and time.monotonic() >= self._retry_at

    def _is_silent(self) -> bool:
        silent = self._replay is not None and self._silence_seconds > 0
        return silent and time.monotonic() - self._checked_at > self._silence_seconds

    def _hear(self, frames: list[bytes]) -> None:
        try:
            _, seq_frame, payload = frames
            seq, batch = int.from_bytes(seq_frame), read_batch(payload)
        except (ValueError, WireError) as error:
            self._must_check = self._replay is not None
            self._waiting.append((self._last, Gap(f"a message could not be read ({error})")))
            return
        is_anew = self._replay is not None and self._may_be_another
        may_be_had = self._replay is not None  # by replay; without one, numbers that go back are another life's
        if self._replay is not None and (is_anew or self._is_to_check() or seq != self._last + 1):
            if seq <= self._last and batch.time <= self._last_time and not is_anew:
                return
            has_answered = self._recover(f"message {seq} came after {self._last}")
            may_be_had = has_answered or batch.time <= self._last_time
        if seq == self._last + 1:
            self._take(seq, batch)
        elif seq > self._last or not may_be_had:
            self._gap(f"message {seq} came after {self._last}, and the ones between cannot be had")
            self._take(seq, batch)

    def _take(self, seq: int, batch: Batch) -> None:
        self._waiting.extend((seq, told) for told in batch.told)
        self._last, self._last_time = seq, batch.time
        self._checked_at = time.monotonic()

    def _forget(self) -> None:
        """The next message may be another life's, though its number goes on."""
        self._may_be_another = False
        if self._last >= 0:
            self._gap("the connection was made anew, and no replay tells whether it is the same life")
            self._last, self._last_time = -1, 0.0

    def _gap(self, why: str) -> None:
        self._waiting.append((self._last, Gap(why)))
        log.info("KV events: %s", why)

    # What was missed ----------------------------------------------------------------
    def _recover(self, why: str) -> bool:
        """Have what was missed, from the last message on that is known. Returns whether the publisher
        answered."""
        self._must_check = False
        self._checked_at = time.monotonic()
        replies = self._ask(max(self._last, 0))
        if replies is None:
            self._must_check, self._retry_at = True, time.monotonic() + 2 * self._replay_seconds
            log.warning("KV events: %s, and %s does not answer: is it the publisher's replay?", why, self._replay)
            if self._may_be_another:
                self._forget()
            return False
        self._may_be_another = False
        first = replies[0] if replies else None
        if self._last >= 0 and first is not None and _same(first, self._last, self._last_time):
            replies = replies[1:]
        elif self._last >= 0 and (first is None or not _begins_anew(first.batch)):
            self._gap("the publisher began a new life")
            self._last, self._last_time = -1, 0.0
            replies = self._ask(0) or []
        self._take_all(replies)
        return True

    def _take_all(self, replies: list[_Reply]) -> None:
        for reply in replies:
            if reply.seq != self._last + 1:
                self._gap(f"messages after {self._last} are not kept any more: begun anew at {reply.seq}")
            self._take(reply.seq, reply.batch)

    def _ask(self, start: int) -> list[_Reply] | None:
        """What the publisher has kept from a number on; None if it does not answer."""
        replies: list[_Reply] = []
        with self._context.socket(zmq.DEALER) as dealer:
            dealer.set(zmq.LINGER, 0)
            dealer.set(zmq.RCVHWM, 0)
            dealer.connect(str(self._replay))
            dealer.send_multipart((b"", start.to_bytes(SEQ_BYTES)))
            until = time.monotonic() + self._replay_seconds
            while time.monotonic() < until and not self._closing.is_set():
                if not dealer.poll(STEP_MS):
                    continue
                until = time.monotonic() + self._replay_seconds
                frames = dealer.recv_multipart()
                if END in frames[1:3]:
                    return replies
                try:
                    replies.append(_Reply(int.from_bytes(frames[-2]), read_batch(frames[-1])))
                except (IndexError, WireError) as error:
                    log.warning("KV events: an answer of %s could not be read: %s", self._replay, error)
                    return None
        return None


def _same(reply: _Reply, seq: int, time_of_it: float) -> bool:
    return reply.seq == seq and reply.batch.time == time_of_it


def _begins_anew(batch: Batch) -> bool:
    return bool(batch.told) and isinstance(batch.told[0].event, AllCleared)


def feed(subscriber: Subscriber, apply: Callable[[Told], Any], clear: Callable[[], Any]) -> None:
    """Have a mirror or an index follow, until the subscriber is closed. clear: for what is missing."""
    for _, heard in subscriber:
        if isinstance(heard, Gap):
            clear()
        else:
            apply(heard)
