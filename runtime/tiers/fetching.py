"""Blocks on their way out of the tiers: a thread loads them for requests that wait, in the order in which they came.

    keys      | 0 | 1 | 2 | 3 | 4 | 5 | 6 |
    found     |<----------------->|           in one tier or another; nothing is asked for behind a gap
    payloads  |<------->|                     so far: whoever can wait no longer goes on from here
    marks     |       *           *   |     * of models that go on only at marks: the last one that is found behind
                                  ^            found blocks, which comes first; what stands behind it is of no use

Loading is given up where computing would be faster, by what was measured of the tier and learnt of the engine. Whoever
asks sets a time after which nobody waits; a tier that hangs holds up nobody.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from stemma.runtime.tiers.stack import Run, Stack
from stemma.runtime.tiers.writing import JOIN_SECONDS, Writer

BATCH_BYTES = 4 << 20
"""Of what is asked for at once: then somebody looks whether it is still wanted."""


@dataclass(slots=True, eq=False)
class Fetch:
    """What one request asked for. seconds: that computing all of it takes; 0 while nobody knows. mark_keys: of a mark
    behind each block, where one can go on only at marks. until: when its request no longer waits for it, by the
    monotonic clock; infinite while it waits for other things too.

    payloads: of the first blocks. mark: what stands behind the first `num_wanted` of them."""

    keys: Sequence[bytes]
    seconds: float
    until: float = math.inf
    mark_keys: Sequence[bytes] = ()
    payloads: list[memoryview] = field(default_factory=list)
    mark: memoryview | None = None
    num_wanted: int = 0
    num_staged: int = 0
    is_done: bool = False
    is_dropped: bool = False


class Fetcher:
    """The thread, which ends with `close`.

    block_bytes: of each payload; another length is another engine's. max_bytes: of what was loaded and not yet dropped.
    wake: called when a fetch is done.
    """

    def __init__(
        self, stack: Stack, writer: Writer, block_bytes: int, max_bytes: int, wake: Callable[[], None],
    ) -> None:  # fmt: skip
        self._stack, self._writer = stack, writer
        self._block_bytes, self._max_bytes = block_bytes, max_bytes
        self._wake = wake
        self._queue: deque[Fetch] = deque()
        self._changed = threading.Condition()
        self._staged = 0
        self._is_closed = False
        self.num_loaded = self.num_slower = 0
        self._thread = threading.Thread(target=self._run, name="stemma-tiers-read", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether more may be asked for now."""
        return self._staged < self._max_bytes

    def ask(self, fetch: Fetch) -> None:
        """Load it; whoever asked drops it in the end."""
        with self._changed:
            self._queue.append(fetch)
            self._changed.notify_all()

    def drop(self, fetch: Fetch) -> None:
        """Nobody wants it any more, or it was taken. Safe to call twice."""
        with self._changed:
            if not fetch.is_dropped:
                fetch.is_dropped = fetch.is_done = True
                self._staged -= fetch.num_staged
                fetch.payloads, fetch.mark = [], None

    def close(self) -> None:
        """End the thread; what was asked for is done with as it is."""
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
                fetch = self._queue.popleft()
            if self._is_wanted(fetch):
                self._load(fetch)
            fetch.is_done = True
            self._wake()

    def _is_wanted(self, fetch: Fetch) -> bool:
        return not (fetch.is_dropped or self._is_closed) and time.monotonic() < fetch.until

    def _load(self, fetch: Fetch) -> None:
        runs = self._stack.find(fetch.keys)
        if not runs:
            return
        fetch.num_wanted = runs[-1].end
        if fetch.mark_keys:
            mark = self._stack.last(fetch.mark_keys[: fetch.num_wanted])
            if mark is None:
                return
            fetch.num_wanted = mark.end
            runs = [run._replace(end=min(run.end, mark.end)) for run in runs if run.start < mark.end]
            if self._is_slower(fetch, runs) or not self._take_mark(fetch, mark):
                return
        elif self._is_slower(fetch, runs):
            return
        step = max(1, BATCH_BYTES // max(1, self._block_bytes))
        for run in runs:
            for start in range(run.start, run.end, step):
                if not self._is_wanted(fetch) or not self._take(fetch, run, start, min(run.end, start + step)):
                    return

    def _take_mark(self, fetch: Fetch, run: Run) -> bool:
        """Whether it came. Its length is for who knows what it is of."""
        key = fetch.mark_keys[run.start]
        (payload,) = run.tier.get([key])
        if payload is None or not self._stage(fetch, len(payload)):
            return False
        fetch.mark = payload
        self._writer.offer(key, len(payload), partial(bytes, payload))
        return True

    def _stage(self, fetch: Fetch, num_bytes: int) -> bool:
        """Count what came, unless nobody wants it any more."""
        with self._changed:
            if fetch.is_dropped:
                return False
            fetch.num_staged += num_bytes
            self._staged += num_bytes
            return True

    def _take(self, fetch: Fetch, run: Run, start: int, end: int) -> bool:
        """Whether all of these came."""
        keys = fetch.keys[start:end]
        for key, payload in zip(keys, run.tier.get(keys), strict=True):
            if payload is None or len(payload) != self._block_bytes:
                return False
            if not self._stage(fetch, self._block_bytes):
                return False
            fetch.payloads.append(payload)
            self.num_loaded += 1
            self._writer.offer(key, len(payload), partial(bytes, payload))
        return True

    def _is_slower(self, fetch: Fetch, runs: Sequence[Run]) -> bool:
        """Whether what was found is computed faster than it is loaded, as far as anybody knows."""
        loading = 0.0
        for run in runs:
            seconds = run.tier.speed.seconds(self._block_bytes * (run.end - run.start))
            if seconds is None or run.tier.is_stale:
                return False
            loading += seconds
        is_slower = 0 < fetch.seconds * runs[-1].end / len(fetch.keys) < loading
        self.num_slower += is_slower
        return is_slower
