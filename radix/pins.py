"""Pins: prefixes that nothing evicts until they run out or are given back, within a budget of blocks."""

from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from stemma.radix.errors import PinError
from stemma.radix.lease_state import LeaseState


class Pin(NamedTuple):
    """A pinned prefix; give it to unpin."""

    number: int
    num_tokens: int
    num_blocks: int
    expires_at: float  # by the cache's clock


class Pins:
    """The pins of one cache, each held on its own. Blocks that two pins share count for both."""

    __slots__ = ("_budget", "_by_expiry", "_numbers", "_pinned", "num_blocks")

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._pinned: dict[int, tuple[Pin, LeaseState]] = {}
        self._by_expiry: list[tuple[float, int]] = []
        self._numbers = count(1)
        self.num_blocks = 0

    def __len__(self) -> int:
        return len(self._pinned)

    def add(self, state: LeaseState, expires_at: float) -> Pin:
        """Keep this until then; PinError, and it stays the caller's, when the budget does not allow it."""
        num_blocks = len(state.blocks)
        if self.num_blocks + num_blocks > self._budget:
            raise PinError(
                f"a pin of {num_blocks} blocks goes over the budget: {self.num_blocks} of {self._budget} are pinned; "
                "unpin something or make the cache with a larger pin_budget"
            )
        pin = Pin(next(self._numbers), state.num_tokens, num_blocks, expires_at)
        self._pinned[pin.number] = (pin, state)
        self.num_blocks += num_blocks
        heappush(self._by_expiry, (expires_at, pin.number))
        return pin

    def remove(self, pin: Pin) -> LeaseState:
        """What a pin state, to be released; PinError when it is not one, or has run out."""
        known, state = self._pinned.get(pin.number, (None, None))
        if state is None or known != pin:
            raise PinError(f"pin {pin.number} is not held: it has run out, was given back, or is another cache's")
        del self._pinned[pin.number]
        self.num_blocks -= pin.num_blocks
        return state

    def expire(self, now: float) -> list[LeaseState]:
        """What the pins held that have run out, to be released."""
        found: list[LeaseState] = []
        while self._by_expiry and self._by_expiry[0][0] <= now:
            _, number = heappop(self._by_expiry)
            if number in self._pinned:
                found.append(self.remove(self._pinned[number][0]))
        return found
