"""Blocks on their way into the tiers: a thread writes them behind the engine, which never waits for it. What the queue
has no room for is left out, and offered again when it is used the next time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stemma.runtime.tiers.guarded import Guarded
from stemma.runtime.tiers.stack import Stack

BATCH_BYTES = 4 << 20
"""Of what is written at once."""
JOIN_SECONDS = 1.0
"""For a thread that has nothing left to do, unless its tier hangs."""


class _Item(NamedTuple):
    key: bytes
    payload: bytes
    tiers: Sequence[Guarded]


class Writer:
    """The thread, which ends with `close`. max_bytes: of what waits."""

    def __init__(self, stack: Stack, max_bytes: int) -> None:
        self._stack = stack
        self._max_bytes = max_bytes
        self._queue: deque[_Item] = deque()
        self._keys: set[bytes] = set()  # queued, or being written
        self._num_bytes = 0  # of these
        self._changed = threading.Condition()
        self._is_closed = False
        self.num_left_out = 0
        self._thread = threading.Thread(target=self._run, name="stemma-tiers-write", daemon=True)
        self._thread.start()

    def offer(self, key: bytes, num_bytes: int, read: Callable[[], bytes]) -> None:
        """Have a block written where it is lacking. read: its bytes, asked for at once and only if they are needed."""
        if key in self._keys or not (tiers := self._stack.lacking(key)):
            return
        if self._num_bytes + num_bytes > self._max_bytes:
            self.num_left_out += 1
            return
        item = _Item(key, read(), tiers)
        with self._changed:
            self._queue.append(item)
            self._keys.add(key)
            self._num_bytes += len(item.payload)
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until all that was offered is written. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._keys, seconds)

    def close(self, seconds: float) -> None:
        """Write what waits, but no longer than so long."""
        self.drain(seconds)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closed)
                if self._is_closed:
                    return
                batch = self._batch()
            for tier in {id(tier): tier for item in batch for tier in item.tiers}.values():
                tier.put([(item.key, item.payload) for item in batch if tier in item.tiers])
            with self._changed:
                self._keys.difference_update(item.key for item in batch)
                self._num_bytes -= sum(len(item.payload) for item in batch)
                self._changed.notify_all()

    def _batch(self) -> list[_Item]:
        batch, num_bytes = [], 0
        while self._queue and num_bytes < BATCH_BYTES:
            item = self._queue.popleft()
            batch.append(item)
            num_bytes += len(item.payload)
        return batch
