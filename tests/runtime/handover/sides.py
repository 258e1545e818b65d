"""Two engines, one that computes prompts for the other, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stemma.runtime.engine import Engine
from stemma.runtime.handover import DecodeEntrance, PrefillService, Taker, connect, listen
from stemma.runtime.handover.protocol import Channel

HALF = 1 << 18


@contextmanager
def listening(path: Path, engine: Engine) -> Iterator[None]:
    """The engine computes prompts for who comes to this path."""
    listener = listen(path)
    thread = threading.Thread(target=PrefillService(engine).serve, args=(listener,), daemon=True)
    thread.start()
    yield
    listener.close()
    thread.join(10)
    assert not thread.is_alive()


def enter(
    engine: Engine, path: Path, size: int = HALF, through: Callable[[Channel], Channel] = lambda channel: channel
) -> DecodeEntrance:
    """Have the engine's prompts computed by who listens at this path. size: bytes of a piece. through: what is put
    between the two."""
    saver, made = engine.saver(), []

    def make(loop):
        made.append(DecodeEntrance(loop, lambda at: Taker(through(connect(at, size)), saver), lambda: path))
        return made[0]

    engine.enter_by(make)
    return made[0]
