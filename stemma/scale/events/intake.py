"""From the thread that changes the cache to the one that tells others: one append an event, and nothing ever waits.

    engine's thread     event -> |queue| -> publisher's thread
                                  full: what follows is dropped until all is told anew

A full queue is no lie: `overflowed` is seen by the publisher before it sends anything that came later.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from stemma.radix import PrefixCache
from stemma.radix.events import Event
from stemma.scale.events.forms import Told


class Announcement(NamedTuple):
    """All that the first tier has, told as one."""

    events: list[Event]


Item: TypeAlias = Told | Announcement


class Intake:
    """A bounded queue with a bell. `told_by_cache` is the cache's listener."""

    def __init__(self, max_queued: int) -> None:
        self._queue: deque[Item] = deque()
        self._max_queued = max_queued
        self._gathered: list[Event] | None = None
        self._leave: Callable[[], None] | None = None
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._is_waiting = False
        self.overflowed = False

    # The thread of the cache ----------------------------------------------------------------
    def told_by_cache(self, event: Event) -> None:
        """The listener. Never waits, never raises."""
        if self._gathered is not None:
            self._gathered.append(event)
        else:
            self.put(Told(event))

    def join(self, cache: PrefixCache) -> None:
        """Listen to the cache, from all that it has now on; again if it did before. What waited is out of date."""
        self.leave(cache)
        self._gathered = []
        self._leave = cache.subscribe(self.told_by_cache)
        self._queue.clear()
        self._queue.append(Announcement(self._gathered))
        self._gathered = None
        self.overflowed = False
        self._ring()

    def leave(self, _: PrefixCache) -> None:
        """Listen no more."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    # Any thread ----------------------------------------------------------------
    def put(self, item: Item) -> None:
        """One more; dropped if there are too many."""
        if self.overflowed:
            return
        if len(self._queue) >= self._max_queued:
            self.overflowed = True
        else:
            self._queue.append(item)
        if self._is_waiting:
            self._ring()

    def _ring(self) -> None:
        self._is_waiting = False
        with suppress(OSError):  # it rings already, or nobody is there any more
            self._bell.send(b"\0")

    def wake(self) -> None:
        """Have the publisher look."""
        self._ring()

    # The publisher's thread ----------------------------------------------------------------
    @property
    def ear(self) -> socket.socket:
        """Readable when there is something."""
        return self._ear

    def is_quiet(self) -> bool:
        """Whether there is nothing to do; if so, the next one rings."""
        self._is_waiting = True
        if self._queue or self.overflowed:
            self._is_waiting = False
        return self._is_waiting

    def hear(self) -> None:
        """The bell rang."""
        self._is_waiting = False
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                continue

    def take(self, most: int) -> list[Item]:
        """What waits, at most so many."""
        taken: list[Item] = []
        while self._queue and len(taken) < most:
            taken.append(self._queue.popleft())
        return taken

    def close(self) -> None:
        self._bell.close()
        self._ear.close()
