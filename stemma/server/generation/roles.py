"""A server that only computes prompts for another one on this host, or has them computed there (`--role`)."""

from __future__ import annotations

import threading
from collections.abc import Callable

from stemma.runtime.engine import Engine
from stemma.runtime.engine.loop import EngineLoop
from stemma.runtime.handover import DecodeEntrance, PrefillService, Taker, connect, listen
from stemma.server.config import ServerConfig


def take(engine: Engine, config: ServerConfig) -> Callable[[], None]:
    """Begin to be what the options say. Returns what ends it. Raises InvalidRequest for a path that cannot be used."""
    path = config.handover
    if path is None:
        return lambda: None
    if config.role == "prefill":
        listener = listen(path)
        service = PrefillService(engine)
        threading.Thread(target=service.serve, args=(listener,), name="stemma-handover", daemon=True).start()
        return listener.close
    saver, made = engine.saver(), list[DecodeEntrance]()

    def entrance(loop: EngineLoop) -> DecodeEntrance:
        made.append(DecodeEntrance(loop, lambda: Taker(connect(path), saver)))
        return made[0]

    engine.enter_by(entrance)
    return made[0].close
