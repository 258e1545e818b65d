"""Paths that callers keep between requests: a program's states, a chat, a pin. Decides which goes when blocks run out.

A hold is a wish, a pin is a promise: before a request waits, is preempted or fails for want of blocks, the holds used
longest ago are given up; what they held stays cached and becomes evictable like everything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from stemma.radix import Lease
from stemma.runtime.core.failures import give_back


@dataclass(slots=True, eq=False)
class Held:
    """One caller's path, perhaps none yet. pinned_until: time of the clock before which it is not given up."""

    lease: Lease | None = None
    pinned_until: float = 0.0
    is_released: bool = False


class Holds:
    """All that is held, least recently used first. Belongs to the scheduler's thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._held: dict[int, Held] = {}  # by id, in order of use

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, held: Held, lease: Lease) -> None:
        """`held` takes over this lease and lets go of the one it had."""
        if held.is_released:
            give_back(lease)
            return
        self._drop(held)
        held.lease = lease
        self._held[id(held)] = held

    def copy(self, held: Held, other: Held) -> None:
        """`other` holds the same path as `held`."""
        if held.lease is not None:
            self.keep(other, held.lease.fork())

    def release(self, held: Held) -> None:
        """Let go for good."""
        held.is_released = True
        self._drop(held)

    def give_up_one(self) -> bool:
        """Let go of the path used longest ago that is not pinned; False if there is none."""
        now = self.clock()
        for held in self._held.values():
            if held.pinned_until <= now:
                self._drop(held)
                return True
        return False

    def _drop(self, held: Held) -> None:
        lease, held.lease = held.lease, None
        if lease is not None:
            del self._held[id(held)]
            give_back(lease)
