"""Retained leases: paths that callers keep between requests, held or pinned. Decides which go; the lease table acts.

pinned      nothing gives it up before its time; then it ends. What all pins hold is bounded.
held        costs nobody anything: where blocks are short, the one used longest ago is given up
"""

from heapq import heapify, heappop, heappush
from itertools import count
from operator import add, sub
from typing import NamedTuple

from stemma.radix.errors import PinError
from stemma.radix.lease_state import LeaseState


class PinSize(NamedTuple):
    """What a pin takes of each pool."""

    blocks: int
    slots: int = 0
    window_blocks: int = 0


NOTHING = PinSize(0)


class Retained:
    """What one caller keeps: one path, or none yet. `Lease.retain` fills it, `PrefixCache.let_go` ends it.

    pinned_for: seconds in which it does not yield, from when it first keeps something; None for a hold.
    """

    __slots__ = ("is_released", "pin_size", "pinned_for", "pinned_until", "shared_len", "state")

    def __init__(self, pinned_for: float | None = None) -> None:
        self.pinned_for = pinned_for
        self.pinned_until: float | None = None  # by the cache's clock, once it has kept something
        self.is_released = False  # for good: nothing is kept here any more
        self.shared_len: int | None = None  # tokens that it had in common with the one it was copied from
        self.state: LeaseState | None = None
        self.pin_size = NOTHING  # counted against the budget of pins

    @property
    def num_tokens(self) -> int:
        """Tokens whose KV is kept."""
        state = self.state  # read once: another thread may look
        return 0 if state is None else state.at

    @property
    def num_blocks(self) -> int:
        """Blocks of these tokens."""
        state = self.state
        return 0 if state is None else len(state.blocks)


class RetainedLeases:
    """All that is retained in one cache. Blocks that two pins share count for both."""

    __slots__ = ("_budget", "_held", "_numbers", "_pinned", "by_expiry", "pinned")

    def __init__(self, budget: PinSize) -> None:
        self._budget = budget
        self._held: dict[Retained, None] = {}  # what yields, used longest ago first
        self._pinned: dict[Retained, None] = {}
        self.by_expiry: list[tuple[float, int, Retained]] = []  # pins, and some that ended early
        self._numbers = count()
        self.pinned = NOTHING  # what all pins take together

    @property
    def num_retained(self) -> int:
        return len(self._held) + len(self._pinned)

    def check_budget(self, retained: Retained, size: PinSize) -> None:
        """Raises PinError if `retained` is a pin and must not take so much of a pool."""
        if retained.pinned_for is None:
            return
        pools = zip(PinSize._fields, size, self.pinned, retained.pin_size, self._budget, strict=True)
        for name, wanted, pinned, own, budget in pools:
            if wanted and pinned - own + wanted > budget:
                raise PinError(
                    f"a pin of {wanted} {name.replace('_', ' ')} goes over the budget: {pinned - own} of {budget} are "
                    "pinned; release a pin or make the cache with a larger pin_budget"
                )

    def put(self, retained: Retained, state: LeaseState, size: PinSize, now: float) -> None:
        """`retained`, which kept nothing, keeps `state` from now on. The caller has checked the budget."""
        retained.state = state
        if retained.pinned_for is None:
            self._held[retained] = None
            return
        self._pinned[retained] = None
        retained.pin_size = size
        self.pinned = PinSize(*map(add, self.pinned, size))
        if retained.pinned_until is None:
            retained.pinned_until = now + retained.pinned_for
        heappush(self.by_expiry, (retained.pinned_until, next(self._numbers), retained))

    def take(self, retained: Retained) -> LeaseState | None:
        """What it kept, to be released; it keeps nothing now."""
        state, retained.state = retained.state, None
        if state is None:
            return None
        if retained.pinned_for is None:
            del self._held[retained]
        else:
            del self._pinned[retained]
            self.pinned = PinSize(*map(sub, self.pinned, retained.pin_size))
            retained.pin_size = NOTHING
            if len(self.by_expiry) > 2 * len(self._pinned) + 64:  # most entries are of pins that ended early
                self.by_expiry = [entry for entry in self.by_expiry if entry[2] in self._pinned]
                heapify(self.by_expiry)
        return state

    def longest_unused(self) -> Retained | None:
        """The one to be given up first, if there is any that yields."""
        return next(iter(self._held), None)

    def expired(self, now: float) -> list[Retained]:
        """Pins whose time has ended."""
        found: list[Retained] = []
        while self.by_expiry and self.by_expiry[0][0] <= now:
            _, _, retained = heappop(self.by_expiry)
            if retained in self._pinned:
                found.append(retained)
        return found
