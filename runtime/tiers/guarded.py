"""A tier as everybody else uses it: records sealed and checked, speed measured, and left out for a while when it fails.

fails          warned once, left out for 1, 2, 4 ... 60 seconds, then tried again; who asks meanwhile hears of a miss
takes nothing  likewise, but what is there is read: it is full, or not this engine's to write
hangs          a call that has not come back for 5 seconds: nobody else calls until it has
forgets        far tiers lose blocks without a word: what was there some minutes ago is offered to them anew
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from stemma.runtime.tiers.records import seal, unseal
from stemma.runtime.tiers.speed import Speed
from stemma.runtime.tiers.tier import Record, Tier, TierError, TierStats

log = logging.getLogger("stemma.tiers")

FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
STUCK_SECONDS = 5.0
STALE_SECONDS = 30.0
"""What was learnt of a slow tier is tried again after so long."""
MOST_KNOWN = 1 << 18
"""Keys of a far tier that are known to be there."""
KNOWN_SECONDS = 300.0
"""For how long they are."""


class _Pause:
    """How long what failed is left out: each time twice as long."""

    def __init__(self) -> None:
        self.until = self.seconds = 0.0

    def begin(self, now: float) -> None:
        self.seconds = min(2 * self.seconds, LAST_PAUSE) if self.seconds else FIRST_PAUSE
        self.until = now + self.seconds

    def end(self) -> bool:
        """Whether there was one."""
        was = self.seconds > 0
        self.until = self.seconds = 0.0
        return was


class Guarded:
    """One tier. Never raises."""

    def __init__(self, tier: Tier, clock: Callable[[], float] = time.monotonic) -> None:
        self.tier = tier
        self.speed = Speed()
        self._clock = clock
        self._lock = threading.Lock()
        self._down, self._full = _Pause(), _Pause()
        self._since: dict[int, float] = {}  # when each thread's call under way began
        self._known: OrderedDict[bytes, float] = OrderedDict()  # when that was seen, the longest ago first
        self._tried = clock()
        self._hits = self._missed = self._damaged = self._stored = self._failures = 0
        self._read_bytes = self._written_bytes = 0
        self._read_seconds = 0.0

    @property
    def is_near(self) -> bool:
        return self.tier.is_near

    @property
    def is_up(self) -> bool:
        """Whether it is asked now."""
        now = self._clock()
        return now >= self._down.until and all(now - began < STUCK_SECONDS for began in list(self._since.values()))

    @property
    def takes(self) -> bool:
        """Whether it is given blocks now."""
        return self.is_up and self._clock() >= self._full.until

    @property
    def is_stale(self) -> bool:
        """Whether what is known of its speed is so old that it is to be tried again."""
        return self._clock() - self._tried > STALE_SECONDS

    def wants(self, key: bytes) -> bool:
        """Whether it is to be given this block, as far as can be told without asking it."""
        if not self.takes:
            return False
        if self.is_near:
            return not self.tier.contains((key,))[0]
        return self._clock() - self._known.get(key, -math.inf) > KNOWN_SECONDS

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        found = [False] * len(keys)
        if keys and self.is_up:
            began = self._clock()
            with self._call():
                found = self.tier.contains(keys)
                if not self.is_near:
                    self.speed.waited(self._clock() - began)
                    self._note(keys, found)
        return found

    def get(self, keys: Sequence[bytes]) -> list[memoryview | None]:
        """The payload of each key; None for what is not there, or not what was put there."""
        payloads: list[memoryview | None] = [None] * len(keys)
        if not keys or not self.is_up:
            return payloads
        began = self._clock()
        with self._call():
            for index, (key, record) in enumerate(zip(keys, self.tier.get(keys), strict=True)):
                payloads[index] = None if record is None else unseal(key, record)
                self._count(key, record, payloads[index])
            seconds, num_bytes = self._clock() - began, sum(len(each) for each in payloads if each is not None)
            self._tried = self._clock()
            self._read_bytes += num_bytes
            self._read_seconds += seconds
            self.speed.read(num_bytes, seconds)
        return payloads

    def put(self, blocks: Sequence[Record]) -> None:
        """Keep these payloads, if it can."""
        if not blocks or not self.takes:
            return
        with self._call():
            there = self.tier.contains([key for key, _ in blocks])  # others may have put it
            missing = [block for block, is_there in zip(blocks, there, strict=True) if not is_there]
            try:
                self.tier.put([(key, seal(key, payload)) for key, payload in missing])
            except TierError as error:  # just now it answered
                self._failed(str(error), self._full, "takes no blocks")
                return
            if missing and self._full.end():
                log.warning("%s takes blocks again", self.tier.name)
            self._note([key for key, _ in blocks], [True] * len(blocks))
            self._stored += len(missing)
            self._written_bytes += sum(len(payload) for _, payload in missing)

    def close(self) -> None:
        try:
            self.tier.close()
        except Exception:
            log.exception("%s could not be closed", self.tier.name)

    def stats(self) -> TierStats:
        return TierStats(
            self.tier.name, self.is_up, self._hits, self._missed, self._damaged, self._stored, self._failures,
            self._read_bytes, self._read_seconds, self._written_bytes, self.tier.held_bytes,
        )  # fmt: skip

    def _count(self, key: bytes, record: bytes | None, payload: memoryview | None) -> None:
        self._note([key], [payload is not None])
        if payload is not None:
            self._hits += 1
            return
        if record is None:
            self._missed += 1
            return
        self._damaged += 1
        log.warning("%s: a block is damaged or another's, and computed again", self.tier.name)
        with suppress(TierError):  # it is a miss all the same
            self.tier.drop(key)

    def _note(self, keys: Sequence[bytes], found: Sequence[bool]) -> None:
        if self.is_near:
            return
        now = self._clock()
        with self._lock:
            for key, is_there in zip(keys, found, strict=True):
                self._known.pop(key, None)
                if is_there:
                    self._known[key] = now
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    @contextmanager
    def _call(self) -> Iterator[None]:
        thread = threading.get_ident()
        self._since[thread] = self._clock()
        try:
            yield
        except TierError as error:
            self._failed(str(error), self._down, "is left out (its blocks are computed)")
        except Exception as error:
            log.exception("%s failed in a way that is not known", self.tier.name)
            self._failed(f"{type(error).__name__}: {error}", self._down, "is left out (its blocks are computed)")
        else:
            if self._down.end():
                log.warning("%s is used again", self.tier.name)
        finally:
            del self._since[thread]

    def _failed(self, why: str, pause: _Pause, what: str) -> None:
        self._failures += 1
        pause.begin(self._clock())
        with self._lock:
            self._known.clear()  # when it is back it may have been started anew
        log.warning("%s %s for %.0f s: %s", self.tier.name, what, pause.seconds, why)
