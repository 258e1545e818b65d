"""Where a request goes: the replica on which it costs least, in seconds of everybody's time.

    cost = what waits there + computing what is not cached there + what that takes from others' cache

With nothing known of what computing costs, tokens stand for seconds; with nothing known of any replica, the less
busy of two is taken (Mitzenmacher 2001). Has no clock, no sockets and no threads: time is given.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stemma.scale.fleet.cost import PrefillCost
from stemma.scale.fleet.errors import NoReplica
from stemma.scale.fleet.index import Index
from stemma.scale.fleet.load import Load

STALE = 10.0
"""Seconds behind which what a replica said of itself is not believed any more."""
STAYS = 2.0
"""A session stays while that costs at most so many times what the best replica does."""
MOST_SESSIONS = 100_000
NOTHING_LEARNT = (0.0, 1.0)
"""Seconds of a prompt and of a token while nobody has reported any: then all costs are told in tokens."""


class Choice(NamedTuple):
    """replica: its name. expected_hit_tokens: of the prompt, what it should find there. why: for people."""

    replica: str
    expected_hit_tokens: int
    why: str


class Chooser:
    """Chooses for one router, and remembers what it sent to whom since that replica told its load."""

    def __init__(
        self, index: Index, block_size: int, *, cost: PrefillCost | None = None, num_routers: int = 1, seed: int = 0
    ) -> None:
        """block_size: of the hashes. num_routers: how many choose for these replicas: each sees its own share only."""
        self.index = index
        self.cost = PrefillCost() if cost is None else cost
        self._block_size = block_size
        self._num_routers = num_routers
        self._chance = random.Random(seed)
        self._sent: dict[str, deque[tuple[float, int]]] = {}
        self._homes: OrderedDict[str, str] = OrderedDict()

    def choose(
        self, hashes: Sequence[bytes], prompt_len: int, loads: Mapping[str, Load], session: str | None = None,
        *, now: float,
    ) -> Choice:  # fmt: skip
        """For a prompt of so many tokens, whose full blocks have these hashes, among the replicas that have a load.

        A replica that is gone or failed is left out of `loads`. Raises NoReplica where none takes requests.
        """
        able = {name: load for name, load in loads.items() if not load.draining}
        if not able:
            raise NoReplica(f"none of {len(loads)} replicas takes requests: start one, or wait until one is back")
        fresh = {name: load for name, load in able.items() if now - load.at <= STALE}
        if fresh:
            choice = self._cheapest(self.index.match(hashes), prompt_len, fresh, session)
        else:
            choice = self._less_busy_of_two(list(able))
        if session is not None:
            self._homes[session] = choice.replica
            self._homes.move_to_end(session)
            if len(self._homes) > MOST_SESSIONS:
                self._homes.popitem(last=False)
        sent = self._sent.setdefault(choice.replica, deque())
        sent.append((now, prompt_len - choice.expected_hit_tokens))
        return choice

    def learn(self, replica: str, tokens: int, seconds: float) -> None:
        """A replica computed so many tokens of prompts in so many seconds."""
        self.cost.learn(replica, tokens, seconds)

    def drop(self, replica: str) -> None:
        """A replica is gone, or begins anew: nothing that was known of it holds."""
        self.index.drop(replica)
        self.cost.forget(replica)
        self._sent.pop(replica, None)

    def _cheapest(
        self, held: dict[str, int], prompt_len: int, loads: Mapping[str, Load], session: str | None
    ) -> Choice:
        hits = {name: min(held.get(name, 0) * self._block_size, max(0, prompt_len - 1)) for name in loads}
        costs = {name: self._expected(name, load, prompt_len - hits[name]) for name, load in loads.items()}
        least = min(costs.values())
        best = self._chance.choice([name for name, cost in costs.items() if cost == least])
        home = self._homes.get(session) if session is not None else None
        if home in costs and costs[home] <= STAYS * least:
            return Choice(home, hits[home], f"its session is there: {costs[home]:.4g}, the best is {least:.4g}")
        return Choice(best, hits[best], f"costs {least:.4g} with {hits[best]} of {prompt_len} tokens cached")

    def _expected(self, name: str, load: Load, missing: int) -> float:
        """The cost of computing so many tokens there."""
        start, each = self.cost.line(name) or NOTHING_LEARNT
        sent = self._sent.get(name, deque())
        while sent and sent[0][0] <= load.at:
            sent.popleft()
        waiting = load.waiting_tokens + self._num_routers * sum(tokens for _, tokens in sent)
        over = max(0, load.running + len(sent) + 1 - load.capacity) / max(1, load.capacity)
        own = start + each * missing
        return (each * waiting + own * (1 + load.kv_share)) * (1 + over)

    def _less_busy_of_two(self, names: list[str]) -> Choice:
        two = self._chance.sample(names, min(2, len(names)))
        replica = min(two, key=lambda name: len(self._sent.get(name, ())))
        return Choice(replica, 0, "nothing recent is known of any replica: the less busy of two")
