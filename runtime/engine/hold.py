"""The handle of a held path: what a program's state keeps between two requests. Usable from any thread."""

from __future__ import annotations

import weakref
from functools import partial

from stemma.runtime.core.holds import Held
from stemma.runtime.engine.loop import EngineLoop
from stemma.runtime.errors import EngineClosed


class Hold:
    """Keeps the KV of the path of the last request submitted with it; let go by `release`, or with the last reference.

    Made by `Engine.hold`. Costs no blocks of its own, and yields when the pool would be short of blocks.
    """

    def __init__(self, loop: EngineLoop, held: Held) -> None:
        self._loop = weakref.ref(loop)  # what is held is gone with the loop
        self.held = held
        self._fork_guard = loop.fork_guard
        self._finalizer = weakref.finalize(self, _release, self._loop, held)
        self._finalizer.atexit = False

    def is_of(self, loop: EngineLoop) -> bool:
        """Whether it holds in this loop's cache."""
        return loop is self._loop()

    def fork(self) -> Hold:
        """A second hold on the same path, in constant time."""
        self._fork_guard.check()
        loop, other = self._loop(), Held()
        if loop is None:
            raise EngineClosed("the engine is no longer there: keep it as long as it is used")
        loop.post(partial(loop.scheduler.holds.copy, self.held, other))
        return Hold(loop, other)

    def release(self) -> None:
        """Let go. Safe to call twice."""
        self._finalizer()


def _release(loop: weakref.ref[EngineLoop], held: Held) -> None:
    """Called by a finaliser, so it may refer to anything but the hold itself."""
    found = loop()
    if found is not None:
        found.post(partial(found.scheduler.holds.release, held))
