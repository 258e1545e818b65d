"""Replicas, routers and a network on one simulated clock, and what a run of a trace comes to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from stemma.radix import BlocksRemoved, BlocksStored, Event
from stemma.runtime.errors import InvalidRequest
from stemma.scale.fleet import Index, Load
from stemma.scale.simulation.machine import Machine
from stemma.scale.simulation.policies import Policy
from stemma.scale.simulation.replica import Ended, First, Replica
from stemma.scale.simulation.trace import Request, Trace

EVENT_BYTES = 96
"""Of the message of an event on the wire, without its blocks: its frames, its map's keys."""
STORED_BYTES = 18 + 16 * 3
"""Of a stored block of 16 tokens: its hash and the tokens, three bytes each in a vocabulary of less than 65,536."""
REMOVED_BYTES = 18


class Failure(NamedTuple):
    """A replica dies at a time, with all that it has, and is back, empty, some seconds later."""

    at: float
    replica: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Setting:
    """A fleet. Times in seconds. latency: of a message. telling: between two loads that a replica tells.
    noticing: until a router knows that a replica is gone, if no request of its own says so."""

    num_replicas: int
    num_routers: int
    machine: Machine
    latency: float = 0.005
    telling: float = 0.5
    noticing: float = 2.0
    failures: Sequence[Failure] = ()

    def __post_init__(self) -> None:
        if self.num_replicas < 1 or self.num_routers < 1:
            raise InvalidRequest("there must be at least one replica and one router", "num_replicas")
        if any(not 0 <= failure.replica < self.num_replicas for failure in self.failures):
            raise InvalidRequest("a failure is of a replica that is not there", "failures")


class Outcome(NamedTuple):
    """Of a run. hit: share of all tokens of prompts that were cached where they went. ttft: seconds from arrival to
    the first token, of each request. balance: busy seconds of the busiest replica over the mean. retried: requests
    that were lost with a replica and sent again."""

    hit: float
    ttft: np.ndarray[tuple[int], np.dtype[np.float64]]
    balance: float
    utilisation: float
    retried: int
    seconds: float
    event_bytes: int


class World:
    """Runs one trace. `make_policy` makes a router's policy; `index` hears the replicas' events, if it is given."""

    def __init__(
        self, setting: Setting, trace: Trace, make_policy: Callable[[int], Policy], index: Index | None
    ) -> None:
        self._setting = setting
        self._trace = trace
        self.index = index
        self._routers = [make_policy(number) for number in range(setting.num_routers)]
        self._names = [f"replica {number}" for number in range(setting.num_replicas)]
        self.replicas: dict[str, Replica] = {}
        self._loads: dict[str, Load] = {}
        self._queue: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._sent: dict[int, tuple[str, int]] = {}
        self._planned: dict[str, float | None] = {}
        self._ttft = np.full(len(trace.requests), np.nan)
        self._hit_tokens = self._asked_tokens = self._retried = self._left = self._event_bytes = 0
        self._busy = dict.fromkeys(self._names, 0.0)

    def run(self) -> Outcome:
        """Until the last request has ended."""
        for name in self._names:
            self._start(name, 0.0)
        self._left = len(self._trace.requests)
        for request in self._trace.requests:
            self._at(request.at, partial(self._route, request))
        for failure in self._setting.failures:
            self._at(failure.at, partial(self._fail, failure))
        now = 0.0
        while self._left:
            now, _, action = heappop(self._queue)
            action(now)
        for name, replica in self.replicas.items():
            self._busy[name] += replica.busy
        busy = list(self._busy.values())
        return Outcome(
            self._hit_tokens / self._asked_tokens, self._ttft, max(busy) * len(busy) / sum(busy),
            sum(busy) / len(busy) / now, self._retried, now, self._event_bytes,
        )  # fmt: skip

    def settle(self) -> None:
        """Let arrive what is still on its way; nothing more is asked or told."""
        while self._queue:
            now, _, action = heappop(self._queue)
            action(now)

    def _at(self, time: float, action: Callable[[float], None]) -> None:
        heappush(self._queue, (time, next(self._order), action))

    def _start(self, name: str, now: float) -> None:
        """A replica begins, empty; the routers hear of it when it first tells its load."""
        listener = None if self.index is None else (lambda event: self._tell(name, event))
        replica = Replica(self._setting.machine, self._trace.block_len, listener)
        replica.now = now
        self.replicas[name] = replica
        self._planned[name] = None
        # Not all at the same time, as they were not started so.
        offset = self._names.index(name) / len(self._names) * self._setting.telling if now == 0 else 0.0
        self._loads[name] = replica.load(now)
        self._at(now + offset, partial(self._say_load, name, replica))

    def _say_load(self, name: str, replica: Replica, now: float) -> None:
        if self.replicas.get(name) is replica and self._left:
            load = replica.load(now - self._setting.latency)  # what was sent since then is not there yet
            self._at(now + self._setting.latency, lambda _: self._hear_load(name, replica, load))
            self._at(now + self._setting.telling, partial(self._say_load, name, replica))

    def _hear_load(self, name: str, replica: Replica, load: Load) -> None:
        if self.replicas.get(name) is replica:
            self._loads[name] = load

    def _tell(self, name: str, event: Event) -> None:
        """An event leaves a replica, and is heard after the network's latency."""
        self._event_bytes += EVENT_BYTES
        blocks = self._trace.block_len // 16
        if isinstance(event, BlocksStored):
            self._event_bytes += STORED_BYTES * blocks * len(event.hashes)
        elif isinstance(event, BlocksRemoved):
            self._event_bytes += REMOVED_BYTES * blocks * len(event.hashes)
        replica = self.replicas.get(name)
        if replica is not None:
            self._at(replica.now + self._setting.latency, lambda _: self._hear(name, replica, event))

    def _hear(self, name: str, replica: Replica, event: Event) -> None:
        if self.replicas.get(name) is replica and self.index is not None:
            self.index.apply(name, event)

    def _route(self, request: Request, now: float) -> None:
        if not self._loads:  # nobody is there: asked again
            self._at(now + self._setting.telling, partial(self._route, request))
            return
        router = request.number % len(self._routers)
        name = self._routers[router].choose(request, self._loads, now)
        self._sent[request.number] = name, router
        self._at(now + self._setting.latency, partial(self._receive, name, request))

    def _receive(self, name: str, request: Request, now: float) -> None:
        replica = self.replicas.get(name)
        if replica is None:  # nobody answers there: tried elsewhere
            self._forget(name)
            self._again(request, now)
            return
        replica.receive(request, now)
        self._wake(name, replica)

    def _wake(self, name: str, replica: Replica) -> None:
        due = replica.next_at
        if due is not None and due != self._planned[name]:
            self._planned[name] = due
            self._at(due, partial(self._advance, name, replica))

    def _advance(self, name: str, replica: Replica, now: float) -> None:
        if self.replicas.get(name) is not replica or replica.next_at != now:
            return  # it is gone, or plans otherwise by now
        for happened in replica.advance():
            request = happened.request
            policy = self._routers[self._sent[request.number][1]]
            if isinstance(happened, First):
                if np.isnan(self._ttft[request.number]):
                    self._ttft[request.number] = now + self._setting.latency - request.at
                self._hit_tokens += happened.hit_len
                self._asked_tokens += request.input_len
                policy.began(name, request)
                for router in self._routers:
                    router.computed(name, request.input_len - happened.hit_len, happened.seconds)
            elif isinstance(happened, Ended):
                self._left -= 1
                policy.ended(name, request)
        self._planned[name] = None
        self._wake(name, replica)

    def _fail(self, failure: Failure, now: float) -> None:
        name = self._names[failure.replica]
        replica = self.replicas.pop(name, None)
        if replica is None:
            return
        self._busy[name] += replica.busy
        for request in replica.unfinished():  # their connections break at once
            self._again(request, now)
        self._at(now + self._setting.noticing, lambda _: self._forget(name))
        self._at(now + max(failure.seconds, self._setting.noticing), partial(self._start, name))

    def _forget(self, name: str) -> None:
        if name not in self.replicas and self._loads.pop(name, None) is not None:
            for router in self._routers:
                router.lost(name)

    def _again(self, request: Request, now: float) -> None:
        name, router = self._sent[request.number]
        self._routers[router].ended(name, request)
        self._retried += 1
        self._at(now + self._setting.latency, partial(self._route, request))
