"""Where a request goes: the replica on which it costs least, in seconds of everybody's time.

    cost = (what waits there + computing what is not cached, and again what that evicts and is asked for once more)
           x how crowded it is + how full its memory is

A prompt that nobody has goes, of replicas that cost about the same and have about as little cached, to the one that
its own hash prefers (Thaler and Ravishankar 1998): so routers that never talk to each other send one new prefix to one
replica, and different ones to different replicas, also where each finds all of them idle. With nothing known of what
computing costs, tokens stand for seconds; with nothing recent known of any replica, the less busy of two is taken
(Mitzenmacher 2001). Has no clock, no sockets and no threads: time is given.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from stemma.runtime.errors import InvalidRequest
from stemma.scale.fleet.cost import PrefillCost
from stemma.scale.fleet.errors import NoReplica
from stemma.scale.fleet.index import Index
from stemma.scale.fleet.load import Load
from stemma.scale.fleet.sent import Sent

STALE = 10.0
"""Seconds behind which what a replica said of itself is not believed any more."""
STAYS = 2.0
"""A session stays while that costs at most so many times what the best replica does."""
ALIKE = 0.1
"""Costs that differ by such a share are alike: the prompt's hash decides."""
CROWDED = 8.0
"""Of so many sequences that run, each slows the others as much as if a prompt took twice its time."""
LEARNING = 0.01
"""How much each choice says of how much is reused."""
MIXING = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio, odd: times it, every bit of a number moves the highest ones (Knuth, vol. 3, 6.4)."""
MOST_SESSIONS = 100_000
NOTHING_LEARNT = (0.0, 1.0)
"""Seconds of a prompt and of a token while nobody has reported any: then all costs are told in tokens."""


class Choice(NamedTuple):
    """replica: its name. expected_hit_tokens: of the prompt, what it should find there. why: for people. ticket: its
    number for `Chooser.began`."""

    replica: str
    expected_hit_tokens: int
    why: str
    ticket: int = 0


class Chooser:
    """Chooses for one router, and remembers what it sent to whom."""

    def __init__(
        self, index: Index, block_size: int, *, cost: PrefillCost | None = None, num_routers: int = 1, seed: int = 0
    ) -> None:
        """block_size: of the hashes. num_routers: how many choose for these replicas: each sees its own share only."""
        if block_size < 1 or num_routers < 1:
            name, value = ("block_size", block_size) if block_size < 1 else ("num_routers", num_routers)
            raise InvalidRequest(f"{name} must be at least 1, got {value}", name)
        self.index = index
        self.cost = PrefillCost() if cost is None else cost
        self._block_size = block_size
        self._num_routers = num_routers
        self._chance = random.Random(seed)
        self._sent = Sent()
        self._homes: OrderedDict[str, str] = OrderedDict()
        self._marks: dict[str, int] = {}
        self._reuse = (
            0.0  # the share of prompts that is found: how likely is it that what is evicted is asked for again
        )

    def choose(
        self, hashes: Sequence[bytes], prompt_len: int, loads: Mapping[str, Load], session: str | None = None,
        *, now: float,
    ) -> Choice:  # fmt: skip
        """For a prompt of so many tokens, whose full blocks have these hashes, among the replicas that have a load.

        A replica that is gone or failed is left out of `loads`. Raises NoReplica where none takes requests.
        """
        self._sent.pass_time(now)
        told = self.index.match(hashes)
        believed = loads if not told else {name: _of_late(load, now) for name, load in loads.items()}
        held = self._sent.extend(told, hashes)
        costs, unsure = self._costs(held, prompt_len, believed, now)
        if costs:
            choice = self._cheapest(costs, held, hashes, prompt_len, session)
        elif unsure:
            choice = self._less_busy_of_two(unsure)
        else:
            raise NoReplica(f"none of {len(loads)} replicas takes requests: start one, or wait until one is back")
        if session is not None:
            self._settle(session, choice.replica)
        known = choice.expected_hit_tokens // self._block_size
        missing = prompt_len - choice.expected_hit_tokens
        self._reuse += LEARNING * (choice.expected_hit_tokens / max(1, prompt_len) - self._reuse)
        return choice._replace(ticket=self._sent.add(choice.replica, now, missing, hashes[known:]))

    def began(self, choice: Choice) -> None:
        """The first token of its answer is there, or it will never be: nothing of it waits. Not to be told is no harm:
        then it counts until the replica's next load."""
        self._sent.began(choice.replica, choice.ticket)

    def learn(self, replica: str, tokens: int, seconds: float) -> None:
        """A replica computed so many tokens of prompts in so many seconds."""
        self.cost.learn(replica, tokens, seconds)

    def drop(self, replica: str) -> None:
        """A replica is gone, or begins anew: nothing that was known of it holds."""
        self.index.drop(replica)
        self.cost.forget(replica)
        self._sent.drop(replica)
        self._marks.pop(replica, None)

    def _settle(self, session: str, replica: str) -> None:
        self._homes[session] = replica
        self._homes.move_to_end(session)
        if len(self._homes) > MOST_SESSIONS:
            self._homes.popitem(last=False)

    def _costs(
        self, held: Mapping[str, int], prompt_len: int, loads: Mapping[str, Load], now: float
    ) -> tuple[dict[str, float], list[str]]:
        """The expected cost on each replica that takes requests; and those that said nothing of late."""
        costs: dict[str, float] = {}
        unsure: list[str] = []
        routers, line, since = self._num_routers, self.cost.line, self._sent.since
        for name, load in loads.items():
            if load.draining:
                continue
            if now - load.at > STALE:
                unsure.append(name)
                continue
            start, each = line(name) or NOTHING_LEARNT
            count, tokens = since(name, load.at)
            own = (start + each * (prompt_len - self._hit(held, name, prompt_len))) * (1 + self._reuse)
            waits = each * (load.waiting_tokens + routers * tokens)
            running = load.running + routers * count
            cost = (waits + own) * (1 + running / CROWDED) + own * load.kv_share
            if running >= load.capacity:
                cost *= 1 + (running + 1 - load.capacity) / max(1, load.capacity)
            costs[name] = cost
        return costs, unsure

    def _hit(self, held: Mapping[str, int], name: str, prompt_len: int) -> int:
        """Tokens that it should find there; the last one of a prompt is always computed."""
        return min(held.get(name, 0) * self._block_size, max(0, prompt_len - 1))

    def _cheapest(
        self, costs: Mapping[str, float], held: Mapping[str, int], hashes: Sequence[bytes], prompt_len: int,
        session: str | None,
    ) -> Choice:  # fmt: skip
        least = min(costs.values())
        home = self._homes.get(session) if session is not None else None
        if home is not None and home in costs and costs[home] <= STAYS * least:
            hit = self._hit(held, home, prompt_len)
            return Choice(home, hit, f"its session is there: {costs[home]:.4g}, the best is {least:.4g}")
        alike = [name for name, cost in costs.items() if cost <= (1 + ALIKE) * least]
        best = alike[0] if len(alike) == 1 else self._preferred(alike, hashes, max(held.values(), default=0))
        hit = self._hit(held, best, prompt_len)
        return Choice(best, hit, f"costs {costs[best]:.4g} with {hit} of {prompt_len} tokens cached")

    def _preferred(self, names: list[str], hashes: Sequence[bytes], known: int) -> str:
        """Of those that have less cached than the emptiest one will with this prompt, the one that the first block that
        nobody has prefers, whichever router asks; of a prompt that is known to its end, any."""
        if known >= len(hashes):
            return self._chance.choice(names)
        cached = {name: self.index.held(name) for name in names}
        full = min(cached.values()) + len(hashes) - known
        names = [name for name in names if cached[name] < full]
        block = int.from_bytes(hashes[known][:8], "big")
        return max(names, key=lambda name: (block ^ self._mark(name)) * MIXING % 2**64)

    def _mark(self, name: str) -> int:
        """A number of a replica's, the same in every process."""
        known = self._marks.get(name)
        if known is None:
            known = self._marks[name] = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
        return known

    def _less_busy_of_two(self, names: list[str]) -> Choice:
        two = self._chance.sample(names, min(2, len(names)))
        replica = min(two, key=self._sent.count)
        return Choice(replica, 0, "nothing recent is known of any replica: the less busy of two")


def _of_late(load: Load, now: float) -> Load:
    """A load to go by where somebody has some of the prompt, which counts however silent that one is: who has said
    nothing of late is as busy as what was sent to it makes it."""
    if now - load.at <= STALE:
        return load
    return Load(0, 0, 0.0, load.capacity, load.draining, at=now - STALE / 2)
