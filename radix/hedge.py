"""How far the default policy may part from LRU: a shadow of the LRU cache, and an account of what parting has brought.

    last touched   long ago          edge                                    now
    LRU            gone              |== the blocks touched last, a pool full ==|
    here           some are kept: won when asked for | some were evicted: lost when asked for

Of an LRU cache only this must be known: how many blocks it would hold of what was touched last by each request.
Whatever is touched, cached or remembered as evicted, moves its blocks to the newest time; what goes over the size of
the pool falls out at the oldest. So the account is exact up to what the ghost list has forgotten, and nothing is
simulated.

At stake are the blocks that LRU has and this policy has evicted: more can never be lost. The policy does as it likes
while what it has won, less what of the stake is likely lost, is above a floor; else it is LRU, and the stake runs out.

The shadow is what others call a ghost or simulated cache (Mattson's stack for one size); the account is the regret
against LRU of online learning, bounded as it is made; set duelling would sample what is counted here.
"""

from typing import Final

from stemma.radix.ghost_list import Ghost
from stemma.radix.node import Node
from stemma.radix.touches import Touches

TOLERANCE: Final = 0.0003  # what may be lost, as a part of what was asked for
TRIAL: Final = 2.0  # and so many leaves of mean size, without which nothing could ever be won
KEPT: Final = 0.5  # the part of the most that was won that is not risked again
FADE: Final = 32.0  # pools asked for, over which the most that was won is forgotten
RISK: Final = 0.1  # the part of the stake taken for lost, before this cache knows better
RISK_PRIOR: Final = 200.0  # leaves of mean size: how much knowing better it takes
SPARE_PART: Final = 256  # what LRU would evict ahead, as the store does: a part of the pool
SPARE_BLOCKS: Final = 64  # and the most


class Hedge:
    """The shadow, the account, and whether the policy may part from LRU."""

    __slots__ = (
        "_asked",
        "_at_stake",
        "_change",
        "_evicted",
        "_hits",
        "_lost",
        "_most",
        "_now",
        "_num_blocks",
        "_num_in_shadow",
        "_room",
        "_settled",
        "_shadow",
        "_spare",
        "_won",
        "leaf_blocks",
    )

    def __init__(self, num_blocks: int) -> None:
        self._num_blocks = num_blocks
        self._spare = min(num_blocks // SPARE_PART, SPARE_BLOCKS)
        self._now = 0  # counts what touches: requests and writes
        self._shadow = Touches()  # blocks that LRU would hold, by when they were last touched
        self._evicted: dict[int, float] = {}  # how many of them are evicted here
        self._num_in_shadow = self._at_stake = 0.0  # the sums of both
        self._hits = 0  # blocks asked for that were cached; those that were not are the logical time
        self._asked = 0  # their sum, at the request before this
        self._won = self._change = 0.0  # blocks won less blocks lost; the same by the last request
        self._most = 0.0  # the most that was won, fading
        self._settled = self._lost = 0.0  # blocks that were at stake, and those of them that were asked for
        self._room = 0.0  # how much may be at stake
        self.leaf_blocks = 1.0  # the mean size of a leaf; set by the policy

    @property
    def may_part(self) -> bool:
        """Whether something may be evicted that LRU would keep."""
        return self._at_stake <= self._room

    # What happens to blocks ----------------------------------------------------------------------

    def asked(self, path: list[Node], logical_time: int) -> None:
        """A request matched these nodes; called before `returned` tells what of its text was evicted."""
        self._settle(logical_time)
        self._now = now = self._now + 1
        num_blocks, kept = 0, 0.0
        time, in_run = -1, 0  # nodes that were touched together follow each other
        for node in path:
            owned = len(node.blocks) - node.shared
            num_blocks += owned
            if node.touched_at == time:
                in_run += owned
            else:
                if in_run:
                    kept += self._take(time, in_run)
                time, in_run = node.touched_at, owned
            node.touched_at = now
        if num_blocks:
            if in_run:
                kept += self._take(time, in_run)
            self._hits += num_blocks
            self._change += num_blocks - kept
            self._touch(num_blocks)

    def returned(self, ghost: Ghost, share: float) -> None:
        """A request asked for this share of an edge that was evicted; it is touched when it is written again."""
        num_blocks, time = ghost.num_blocks * share, ghost.touched_at
        staked = min(self._evicted.get(time, 0.0), num_blocks)
        if staked:
            self._evicted[time] -= staked
            self._at_stake -= staked
            self._settled += staked
            self._lost += staked
        self._change -= self._take(time, num_blocks)

    def written(self, leaf: Node, num_blocks: int) -> None:
        """So many blocks of a leaf are new. All above are touched too: LRU evicts no node before what is below it."""
        self._now = now = self._now + 1
        total = len(leaf.blocks) - leaf.shared
        time, in_run = leaf.touched_at, total - num_blocks
        leaf.touched_at = now
        above = leaf.parent
        while above is not None and above.touched_at != now:
            owned = len(above.blocks) - above.shared
            total += owned
            if above.touched_at == time:
                in_run += owned
            else:
                if in_run:
                    self._take(time, in_run)
                time, in_run = above.touched_at, owned
            above.touched_at = now
            above = above.parent
        if in_run:
            self._take(time, in_run)
        if total:
            self._touch(total)

    def evicted(self, leaf: Node, num_blocks: int) -> None:
        """So many blocks of a leaf are gone, but for the ghost list."""
        time = leaf.touched_at
        if self._shadow.get(time):
            self._evicted[time] = self._evicted.get(time, 0.0) + num_blocks
            self._at_stake += num_blocks

    # The shadow and the account ------------------------------------------------------------------

    def _touch(self, num_blocks: float) -> None:
        """So many blocks were touched now; what LRU has no room for falls out."""
        shadow = self._shadow
        shadow.append(self._now, num_blocks)
        self._num_in_shadow += num_blocks
        excess = self._num_in_shadow - self._num_blocks
        if excess > 0:
            excess = max(excess, float(self._spare))
            self._num_in_shadow -= excess
            evicted = self._evicted
            while excess > 0:
                time, oldest = shadow.pop_oldest()
                if oldest > excess:
                    shadow.put_back(time, oldest - excess)
                    break
                excess -= oldest
                if time in evicted:
                    self._drop(time)

    def _take(self, time: int, num_blocks: float) -> float:
        """Take out up to so many blocks that were last touched then; returns how many LRU has."""
        there, is_gone = self._shadow.take(time, num_blocks)
        self._num_in_shadow -= there
        if is_gone and time in self._evicted:
            self._drop(time)
        return there

    def _drop(self, time: int) -> None:
        """LRU has nothing more of that time, of which something is evicted here."""
        staked = self._evicted.pop(time)
        self._at_stake -= staked
        self._settled += staked

    def _settle(self, logical_time: int) -> None:
        """Enter what the request before this one has won or lost, and say how much may be at stake from now on."""
        self._won = won = self._won + self._change
        self._change = 0.0
        asked = self._hits + logical_time
        passed, self._asked = (asked - self._asked) / (FADE * self._num_blocks), asked
        most = won if won >= self._most else self._most + (won - self._most) * (passed if passed < 1.0 else 1.0)
        self._most = most
        prior = RISK_PRIOR * self.leaf_blocks
        risk = (self._lost + RISK * prior) / (self._settled + prior)
        floor = (KEPT * most if most > 0.0 else 0.0) - TOLERANCE * asked - TRIAL * self.leaf_blocks
        self._room = (won - floor) / risk
