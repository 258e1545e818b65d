"""What one process knows of the replicas, and how it chooses: the part of the router that knows nothing of Ray.

Serve says who is there, and how busy -> Table <- events say what each has cached
                                    choose(asked) -> a replica's name

Where prompts are computed apart, there is one for the replicas that answer and one for those that compute: what the
first has chosen, the second lends one of its own to.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from stemma.radix.events import Event
from stemma.scale.fleet import Choice, Chooser, Index, Load, NoReplica
from stemma.scale.ray.asked import Asked, Place

log = logging.getLogger("stemma.scale")
LEAST_TOKENS = 64
"""Fewer missing tokens of a prompt are computed by who answers: so few cost less than being asked for."""


class Seen(NamedTuple):
    """A replica as Serve tells of it. rank: its number among them. address: where it tells its events; None tells none.
    stats: what it last said of itself, `Replica.record_routing_stats`. place: where it computes prompts for others."""

    name: str
    rank: int
    address: Mapping[str, str] | None
    stats: Mapping[str, Any]
    place: Place | None = None


class Follower(Protocol):
    """Hears a replica's events until it is closed."""

    def close(self) -> None: ...


Follow = Callable[[str, Mapping[str, str], Callable[[Event], None]], Follower]
"""Have a function called with each event of a replica, by its name and its address."""


class Table:
    """Chooses replicas. The router's loop calls all but what follows events, which has threads of its own."""

    def __init__(
        self, block_size: int, follow: Follow, *, num_routers: int = 1, clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:  # fmt: skip
        self.index = Index()
        self._chooser = Chooser(self.index, block_size, num_routers=num_routers, seed=seed or random.getrandbits(32))
        self._follow = follow
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._loads: dict[str, Load] = {}
        self._followers: dict[str, Follower] = {}
        self._is_missed = False

    def update(self, seen: Sequence[Seen]) -> None:
        """These replicas are there now, and no others."""
        now = {each.name: each for each in seen}
        for name in self._seen.keys() - now.keys():
            self.drop(name)
        for name, each in now.items():
            if name not in self._followers and each.address is not None:
                self._followers[name] = self._follow(name, each.address, partial(self._heard, name))
            before = self._seen.get(name)
            if each.stats and (before is None or before.stats != each.stats):
                self._learn(name, each.stats, before.stats if before is not None else {})
            self._seen[name] = each

    def drop(self, name: str) -> None:
        """A replica is gone."""
        follower = self._followers.pop(name, None)
        if follower is not None:
            follower.close()
        with self._lock:
            self._chooser.drop(name)
        self._seen.pop(name, None)
        self._loads.pop(name, None)

    def choose(self, asked: Asked, candidates: Sequence[str]) -> str | None:
        """Where a request goes, of those that take requests; None where none does, or not the one that it is for."""
        if asked.to is not None:
            found = asked.to if asked.to in candidates else self._of_rank(asked.to, candidates)
            asked.is_refused = found is None
            if found is not None:
                asked.sent(found, 0, "it is for this one")
            return found
        if asked.home is not None:
            asked.sent(self._home(asked.home, candidates), 0, "what is kept for its caller is there")
            return asked.chosen
        if asked.kept_by is not None and (keeper := self._of_rank(str(asked.kept_by), candidates)) is not None:
            asked.sent(keeper, 0, "what it names is kept there")
            return keeper
        now = self._clock()
        try:
            with self._lock:
                loads = {name: self._loads.get(name, UNKNOWN) for name in candidates}
                choice = self._chooser.choose(asked.hashes, asked.prompt_len, loads, asked.session, now=now)
        except NoReplica:
            return None
        asked.sent(choice.replica, choice.expected_hit_tokens, choice.why, partial(self._begun, choice))
        return choice.replica

    def lend(self, asked: Asked) -> None:
        """Have what the chosen replica misses of a prompt computed by one of these, if any is there."""
        if asked.prompt_len - asked.hit < LEAST_TOKENS:
            return
        now, seen = self._clock(), dict(self._seen)
        loads = {name: self._loads.get(name, UNKNOWN) for name, each in seen.items() if each.place is not None}
        try:
            with self._lock:
                choice = self._chooser.choose(asked.hashes, asked.prompt_len, loads, asked.session, now=now)
        except NoReplica:
            if not self._is_missed:
                log.warning("no replica is there that computes prompts: those that decode do; see that one starts")
            self._is_missed = True
            return
        self._is_missed = False
        place = seen[choice.replica].place
        assert place is not None
        asked.lent(place, partial(self._begun, choice))

    def _begun(self, choice: Choice) -> None:
        with self._lock:
            self._chooser.began(choice)

    def close(self) -> None:
        """Follow nobody any more."""
        for name in list(self._followers):
            self.drop(name)

    def _learn(self, name: str, stats: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        self._loads[name] = Load(
            stats["waiting_tokens"], stats["running"], stats["kv_share"], stats["capacity"], stats["draining"],
            self._clock(),
        )  # fmt: skip
        steps, tokens, seconds = (
            stats[what] - before.get(what, 0) for what in ("steps", "prompt_tokens", "prompt_seconds")
        )
        if steps > 0:  # what an average step of prompts was
            with self._lock:
                self._chooser.learn(name, max(1, tokens // steps), seconds / steps)

    def _heard(self, name: str, event: Event) -> None:
        with self._lock:
            self.index.apply(name, event)

    def _home(self, caller: str, candidates: Sequence[str]) -> str:
        """The replica with the highest hash for this caller, by ranks: one that comes back in another's place has its
        rank, and what was kept on its disk."""

        def height(name: str) -> bytes:
            seen = self._seen.get(name)
            place = str(seen.rank) if seen is not None else name
            return blake2b(f"{place}/{caller}".encode("utf-8", "surrogatepass"), digest_size=8).digest()

        return max(candidates, key=height)

    def _of_rank(self, rank: str, candidates: Sequence[str]) -> str | None:
        return next((name for name in candidates if name in self._seen and str(self._seen[name].rank) == rank), None)


_TABLES: dict[tuple[str, str], Table] = {}


def keep(application: str, deployment: str, table: Table) -> None:
    """Have others of this process find it."""
    _TABLES[application, deployment] = table


def of_deployment(application: str, deployment: str) -> Table | None:
    """The table of a deployment, if this process routes to it."""
    return _TABLES.get((application, deployment))


UNKNOWN = Load(0, 0, 0.0, 64, at=float("-inf"))
"""Of a replica that has said nothing yet."""
