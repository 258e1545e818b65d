"""Ways to choose a replica, as one router of possibly many does it: each knows only what it did and what it is told."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from stemma.scale.fleet import Choice, Chooser, Index, Load
from stemma.scale.simulation.trace import Request


class Policy(Protocol):
    """One router. `loads` are those of the replicas that it thinks are there, as old as they are."""

    def choose(self, request: Request, loads: Mapping[str, Load], now: float) -> str: ...

    def began(self, replica: str, request: Request) -> None:
        """The first token of a request that it sent there is here."""

    def ended(self, replica: str, request: Request) -> None:
        """A request that it sent there is done, or lost."""

    def computed(self, replica: str, tokens: int, seconds: float) -> None:
        """A replica said that it computed so many tokens of a prompt in so many seconds."""

    def lost(self, replica: str) -> None:
        """It is gone; if it comes back it has nothing."""


class RoundRobin:
    """One after the other."""

    def __init__(self, seed: int) -> None:
        self._next = seed

    def choose(self, request: Request, loads: Mapping[str, Load], now: float) -> str:
        self._next += 1
        return list(loads)[self._next % len(loads)]

    def began(self, replica: str, request: Request) -> None: ...

    def ended(self, replica: str, request: Request) -> None: ...

    def computed(self, replica: str, tokens: int, seconds: float) -> None: ...

    def lost(self, replica: str) -> None: ...


class _Counting:
    """How many requests of this router each replica has."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._counts: dict[str, int] = {}

    def less_busy_of_two(self, loads: Mapping[str, Load]) -> str:
        two = self._chance.sample(list(loads), min(2, len(loads)))
        return min(two, key=lambda name: self._counts.get(name, 0) + loads[name].running)

    def count(self, replica: str) -> int:
        return self._counts.get(replica, 0)

    def add(self, replica: str, more: int) -> None:
        self._counts[replica] = max(0, self._counts.get(replica, 0) + more)


class PowerOfTwo:
    """The less busy of two that are drawn, by what they last told and what this router has there."""

    def __init__(self, seed: int) -> None:
        self._counting = _Counting(seed)

    def choose(self, request: Request, loads: Mapping[str, Load], now: float) -> str:
        replica = self._counting.less_busy_of_two(loads)
        self._counting.add(replica, 1)
        return replica

    def began(self, replica: str, request: Request) -> None: ...

    def ended(self, replica: str, request: Request) -> None:
        self._counting.add(replica, -1)

    def computed(self, replica: str, tokens: int, seconds: float) -> None: ...

    def lost(self, replica: str) -> None: ...


class Thresholds(NamedTuple):
    """Of the approximate tree. matched: share of a prompt from which it goes where that was sent. absolute, relative:
    a difference of requests in flight from which the least busy gets it. tree_tokens: remembered for each replica."""

    matched: float = 0.3
    absolute: float = 64
    relative: float = 1.5
    tree_tokens: int = 100_000


class ApproximateTree:
    """A router's own tree of what it sent where, as SMG's `cache_aware` and vLLM's router keep one.

    While the router's own counts are balanced, a prompt goes to the replica that was sent most of it, if that is enough
    of it; else to the one with the smallest tree. What was not used longest is forgotten. That a replica evicted, or
    what other routers sent there, it does not know.
    """

    def __init__(self, seed: int, block_len: int, thresholds: Thresholds) -> None:
        self._counting = _Counting(seed)
        self._block_len = block_len
        self._thresholds = thresholds
        self._trees: dict[str, OrderedDict[bytes, None]] = {}

    def choose(self, request: Request, loads: Mapping[str, Load], now: float) -> str:
        counts = {name: self._counting.count(name) for name in loads}
        most, least = max(counts.values()), min(counts.values())
        if most - least > self._thresholds.absolute and most > self._thresholds.relative * least:
            replica = min(counts, key=counts.__getitem__)
        else:
            depths = {name: self._depth(name, request.hashes) for name in loads}
            replica = max(depths, key=depths.__getitem__)
            if depths[replica] * self._block_len <= self._thresholds.matched * request.input_len:
                replica = min(loads, key=lambda name: len(self._trees.get(name, ())))
        self._counting.add(replica, 1)
        tree = self._trees.setdefault(replica, OrderedDict())
        for block in request.hashes:
            tree[block] = None
            tree.move_to_end(block)
        while len(tree) * self._block_len > self._thresholds.tree_tokens:
            tree.popitem(last=False)
        return replica

    def _depth(self, name: str, hashes: list[bytes]) -> int:
        """Of a chain all that comes before a known block is known, or was until lately: found by halving."""
        tree = self._trees.get(name, OrderedDict())
        low, high = 0, len(hashes)
        while low < high:
            middle = (low + high + 1) // 2
            if hashes[middle - 1] in tree:
                low = middle
            else:
                high = middle - 1
        return low

    def began(self, replica: str, request: Request) -> None: ...

    def ended(self, replica: str, request: Request) -> None:
        self._counting.add(replica, -1)

    def computed(self, replica: str, tokens: int, seconds: float) -> None: ...

    def lost(self, replica: str) -> None:
        self._trees.pop(replica, None)


class Ours:
    """`stemma.scale.fleet`, on an index that hears every replica's events."""

    def __init__(self, seed: int, index: Index, block_len: int, num_routers: int) -> None:
        self.chooser = Chooser(index, block_len, num_routers=num_routers, seed=seed)
        self._choices: dict[int, Choice] = {}

    def choose(self, request: Request, loads: Mapping[str, Load], now: float) -> str:
        choice = self.chooser.choose(request.hashes, request.input_len, loads, request.session, now=now)
        self._choices[request.number] = choice
        return choice.replica

    def began(self, replica: str, request: Request) -> None:
        self._finish(request)

    def ended(self, replica: str, request: Request) -> None:
        self._finish(request)

    def _finish(self, request: Request) -> None:
        choice = self._choices.pop(request.number, None)
        if choice is not None:
            self.chooser.began(choice)

    def computed(self, replica: str, tokens: int, seconds: float) -> None:
        self.chooser.learn(replica, tokens, seconds)

    def lost(self, replica: str) -> None:
        self.chooser.drop(replica)
