"""Prompts are computed by other replicas than those that answer: what each of the two kinds does for that.

entrance: which replica answers? which computes what that one misses? --(request, place)--> Replica
                                                        Prefill at its place <--asks, over TCP-- its engine
                                                                             ---KV, as it is computed--->

A replica that computes prompts has a port and a key of its own, which it tells through Ray: nobody else knows them, and
nothing is to be configured. Where its place is gone, a replica computes what it is asked itself.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal

from stemma.runtime.engine import Engine
from stemma.runtime.handover import Channel, NetworkListener, PrefillService, call, take_prompts
from stemma.runtime.handover.network import Address
from stemma.scale.ray.asked import Place

Role = Literal["both", "prefill", "decode"]
ANY_PORT = 0
ASKED_OF: ContextVar[Place | None] = ContextVar("where prompts of the request at hand are computed", default=None)


class Giving:
    """A replica that computes prompts for others, until it is closed. place: as others reach it."""

    def __init__(self, engine: Engine, listens_at: str, node: str) -> None:
        """listens_at: the address of this machine that is listened at. node: what others call this machine."""
        key = secrets.token_urlsafe(32)
        self._listener = NetworkListener(Address(listens_at, ANY_PORT), key)
        port = self._listener.address.port
        self.place = Place(node if listens_at == "0.0.0.0" else listens_at, port, key)
        self._service = PrefillService(engine)
        serve = self._service.serve
        threading.Thread(target=serve, args=(self._listener,), name="stemma-prefill-door", daemon=True).start()

    @property
    def num_asked(self) -> int:
        """Prompts that it has: computed now, or waiting for that."""
        return self._service.num_asked

    def close(self, seconds: float = 0.0) -> None:
        """Nobody is let in any more; what is under way may take so long."""
        self._listener.close()
        self._service.drain(seconds)


def take_from_others(engine: Engine, *, by_tier: bool) -> Callable[[], None]:
    """Have prompts of what is submitted within `ASKED_OF` computed there. by_tier: KV comes through the tier that both
    share. Returns what ends it."""

    def reached(place: Place) -> Channel:
        return call(Address(place.host, place.port), place.key)

    return take_prompts(engine, reached, ASKED_OF.get, by_tier=by_tier)
