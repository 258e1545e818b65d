"""A server that only computes prompts for another one, or has them computed there (`--role`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from stemma.runtime.engine import Engine
from stemma.runtime.handover import (
    Channel,
    NetworkListener,
    PrefillService,
    address_of,
    call,
    connect,
    listen,
    take_prompts,
)
from stemma.server.config import ServerConfig


def take(engine: Engine, config: ServerConfig) -> Callable[[], None]:
    """Begin to be what the options say. Returns what ends it. Raises InvalidRequest for a path that cannot be used."""
    if config.handover is None:
        return lambda: None
    listening, reached = _carrier(config.handover, config.handover_key)
    if config.role == "prefill":
        listener = listening()
        service = PrefillService(engine)
        threading.Thread(target=service.serve, args=(listener,), name="stemma-handover", daemon=True).start()
        return listener.close
    place = str(config.handover)
    return take_prompts(engine, lambda _: reached(), lambda: place)


class Listener(Protocol):
    """Who comes, until it is closed."""

    def __iter__(self) -> Iterator[Channel]: ...

    def close(self) -> None: ...


def _carrier(place: str | Path, key: str | None) -> tuple[Callable[[], Listener], Callable[[], Channel]]:
    """How to listen at a place, and how to reach it: over a network where there is a key, else by shared memory."""
    if key is None:
        path = Path(place)
        return lambda: listen(path), lambda: connect(path)
    address = address_of(str(place))
    return lambda: NetworkListener(address, key), lambda: call(address, key)
