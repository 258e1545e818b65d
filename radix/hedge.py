"""How far the default policy may part from LRU: a shadow of the LRU cache, and an account of what parting has brought.

    last touched   long ago          edge                                    now
    LRU            gone              |== the blocks touched last, a pool full ==|
    here           some are kept: won when asked for | some were evicted: lost when asked for

Of an LRU cache only this must be known: how many blocks of each time of last touch it would hold. Whatever is touched,
cached or remembered as evicted, moves its blocks to the newest time; what goes over the size of the pool falls out at
the oldest. So the account is exact up to what the history has forgotten, and nothing is simulated.

The policy does as it likes while it has won, overrides LRU only where it is sure while it has lost, and is LRU while it
has lost more than chance explains. What it can lose is bounded by what it has won: the blocks that it evicted and LRU
has.
"""

from collections import deque
from math import sqrt

from stemma.radix.history import Departed
from stemma.radix.tree import Node

CAUTION = 0.25  # after losses a leaf goes before LRU's when its index is below this part of the index of LRU's
TOLERANCE = 0.0002  # lost, as a part of what was asked for, before the policy becomes LRU
CHANCE = 2.0  # standard deviations
YOUNG = 16.0  # pools asked for; until then a loss that chance explains changes nothing
OLD = 64.0  # pools asked for; from then on chance explains nothing beyond the tolerance
STAKE = 40.0  # leaves of mean size that LRU would have and this policy has evicted, while nothing is won
LEVERAGE = 20.0  # how many blocks more for each block won


class Hedge:
    """The shadow, the account, and the boldness that follows: 0 is LRU, 1 the policy alone."""

    __slots__ = (
        "_asked",
        "_at_stake",
        "_change",
        "_evicted",
        "_held",
        "_num_blocks",
        "_num_held",
        "_times",
        "_variance",
        "_won",
        "boldness",
        "leaf_blocks",
    )

    def __init__(self, num_blocks: int) -> None:
        self._num_blocks = num_blocks
        self._held: dict[int, float] = {}  # blocks that LRU would hold, by the churn at which they were last touched
        self._evicted: dict[int, float] = {}  # how many of them are evicted here
        self._times: deque[int] = deque()  # the keys of `_held`, oldest first
        self._num_held = self._at_stake = 0.0  # the sums of both
        self._asked = self._won = 0.0  # blocks; won less lost
        self._change = self._variance = 0.0  # of `_won`: by the last request, and the sum of squares
        self.boldness = 1.0
        self.leaf_blocks = 1.0  # the mean size of a leaf; the policy says it

    @property
    def is_at_limit(self) -> bool:
        """Whether nothing more may be evicted that LRU would keep."""
        return self._at_stake > STAKE * self.leaf_blocks + LEVERAGE * max(self._won, 0.0)

    # What happens to blocks ----------------------------------------------------------------------

    def asked(self, path: list[Node], churn: int) -> None:
        """A request matched these nodes; called before `returned` tells what of its text was evicted."""
        self._settle(churn)
        num_blocks, kept = 0, 0.0
        for node in path:
            owned = len(node.blocks) - node.shared
            num_blocks += owned
            kept += self._take(node.touched_at, owned)
            node.touched_at = churn
        self._asked += num_blocks
        self._change += num_blocks - kept
        if num_blocks:
            self._touch(churn, num_blocks)

    def returned(self, departed: Departed, share: float) -> None:
        """A request asked for this share of an edge that was evicted; it is touched when it is written again."""
        num_blocks = departed.num_blocks * share
        self._change -= self._take(departed.touched_at, num_blocks)
        there = min(self._evicted.get(departed.touched_at, 0.0), num_blocks)
        if there:
            self._evicted[departed.touched_at] -= there
            self._at_stake -= there

    def written(self, leaf: Node, num_blocks: int, churn: int) -> None:
        """So many blocks of a leaf are new."""
        owned = len(leaf.blocks) - leaf.shared
        if owned > num_blocks:
            self._take(leaf.touched_at, owned - num_blocks)
        leaf.touched_at = churn
        if owned:
            self._touch(churn, owned)

    def evicted(self, leaf: Node, num_blocks: int) -> None:
        """So many blocks of a leaf are gone, but for the history."""
        if leaf.touched_at in self._held:
            self._evicted[leaf.touched_at] = self._evicted.get(leaf.touched_at, 0.0) + num_blocks
            self._at_stake += num_blocks

    # The shadow and the account ------------------------------------------------------------------

    def _touch(self, churn: int, num_blocks: float) -> None:
        held, times = self._held, self._times
        if churn in held:
            held[churn] += num_blocks
        else:
            held[churn] = num_blocks
            times.append(churn)
        excess = self._num_held + num_blocks - self._num_blocks
        while excess > 0 and times:
            oldest = held[times[0]]
            if oldest > excess:
                held[times[0]] = oldest - excess
                excess = 0.0
                break
            excess -= oldest
            del held[times[0]]
            self._at_stake -= self._evicted.pop(times.popleft(), 0.0)
        self._num_held = self._num_blocks + excess

    def _take(self, time: int, num_blocks: float) -> float:
        """Take out up to so many blocks that were last touched then; returns how many LRU has."""
        there = min(self._held.get(time, 0.0), num_blocks)
        if there:
            self._held[time] -= there
            self._num_held -= there
        return there

    def _settle(self, churn: int) -> None:
        """Enter what the request before this one has won or lost."""
        self._won += self._change
        self._variance += self._change * self._change
        self._change = 0.0
        asked = self._asked + churn + 1.0
        lost, chance = -self._won, sqrt(self._variance)
        tolerated, pools = TOLERANCE * asked, asked / self._num_blocks
        if lost <= 0.0 or (pools < YOUNG and lost <= chance):
            self.boldness = 1.0
        elif lost > (tolerated if pools > OLD else max(tolerated, CHANCE * chance)):
            self.boldness = 0.0
        elif self.boldness or lost < tolerated / 2:
            self.boldness = CAUTION
