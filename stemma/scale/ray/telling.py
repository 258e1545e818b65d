"""How a replica tells what it has cached, and how a router hears it: the events of `stemma.scale.events`, over ZeroMQ.

Ray carries requests, and twice a second how busy a replica is. What is cached changes with each step, and everybody who
routes must hear all of it in order: that is what a publisher is for. Its reader asks again for what it missed, and is
told all there is where that is gone, so a router that starts late or lost its connection is right again by itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from stemma.radix.events import AllCleared, Event
from stemma.runtime.engine import Engine
from stemma.scale.events import EventOptions, Publisher, Subscriber, Told, feed
from stemma.scale.events.forms import FIRST

log = logging.getLogger("stemma.scale")
KEPT = 2_000
"""Messages that a replica keeps for who missed them; who comes later is told what there is."""


class Telling:
    """A replica's events. address: where they are told, for `Following`."""

    def __init__(self, engine: Engine, listens_at: str, node: str) -> None:
        """listens_at: the address of this machine that is listened at. node: what others call this machine."""
        at = f"tcp://{listens_at}:0"
        self._publisher = Publisher(
            engine.with_cache, EventOptions(at, replay=at, hashes="bytes", kept=KEPT)
        )  # fmt: skip
        replay = self._publisher.replay
        assert replay is not None
        self.address = {
            "endpoint": _as_seen(self._publisher.endpoint, listens_at, node),
            "replay": _as_seen(replay, listens_at, node),
        }

    def close(self) -> None:
        """Tell nothing more."""
        self._publisher.close()


class Following:
    """Has a thread that passes a replica's events on, in order, until it is closed."""

    def __init__(self, name: str, address: Mapping[str, str], heard: Callable[[Event], None]) -> None:
        self._subscriber = Subscriber(address["endpoint"], address["replay"])
        self._heard = heard
        self._thread = threading.Thread(target=self._run, name=f"stemma-follows-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear nothing more. Does not wait for the thread: who closes may be what the thread waits for."""
        threading.Thread(target=self._subscriber.close, name="stemma-unfollows", daemon=True).start()

    def _told(self, told: Told) -> None:
        """What lies in tiers beneath is not in the index: it has yet to be loaded."""
        if told.medium == FIRST:
            self._heard(told.event)

    def _run(self) -> None:
        try:
            feed(self._subscriber, self._told, lambda: self._heard(AllCleared()))
        except Exception:
            log.exception("a replica's events are heard no more: it is chosen by its load alone")
            self._heard(AllCleared())


def _as_seen(endpoint: str, listens_at: str, node: str) -> str:
    """An endpoint as others can connect to it."""
    return endpoint.replace(listens_at, node) if listens_at == "0.0.0.0" else endpoint
