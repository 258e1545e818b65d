"""Pins: prefixes that nothing evicts until they run out or are given back, within a budget of blocks."""

from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from stemma.radix.errors import PinError
from stemma.radix.lease import Lease


class Pin(NamedTuple):
    """A pinned prefix; give it to unpin."""

    number: int
    num_tokens: int
    num_blocks: int
    expires_at: float  # by the cache's clock


class Pins:
    """The pins of one cache, each a lease of its own. Blocks that two pins share count for both."""

    __slots__ = ("_budget", "_by_expiry", "_leases", "_numbers", "num_blocks")

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._leases: dict[int, tuple[Pin, Lease]] = {}
        self._by_expiry: list[tuple[float, int]] = []
        self._numbers = count(1)
        self.num_blocks = 0

    def __len__(self) -> int:
        return len(self._leases)

    def add(self, lease: Lease, expires_at: float) -> Pin:
        """Keep the lease until then; PinError, and the lease stays the caller's, when the budget does not allow it."""
        num_blocks = len(lease.blocks)
        if self.num_blocks + num_blocks > self._budget:
            raise PinError(
                f"a pin of {num_blocks} blocks goes over the budget: {self.num_blocks} of {self._budget} are pinned; "
                "unpin something or make the cache with a larger pin_budget"
            )
        pin = Pin(next(self._numbers), lease.num_tokens, num_blocks, expires_at)
        self._leases[pin.number] = (pin, lease)
        self.num_blocks += num_blocks
        heappush(self._by_expiry, (expires_at, pin.number))
        return pin

    def remove(self, pin: Pin) -> None:
        """Let go of a pin; PinError when it is not one, or has run out."""
        held = self._leases.pop(pin.number, None)
        if held is None or held[0] != pin:
            if held is not None:
                self._leases[pin.number] = held
            raise PinError(f"pin {pin.number} is not held: it has run out, was given back, or is another cache's")
        self.num_blocks -= pin.num_blocks
        held[1].release()

    def expire(self, now: float) -> None:
        """Let go of what has run out."""
        while self._by_expiry and self._by_expiry[0][0] <= now:
            _, number = heappop(self._by_expiry)
            held = self._leases.get(number)
            if held is not None:
                self.remove(held[0])
