"""The handle of a held path: what a program's state keeps between two requests. Usable from any thread."""

from __future__ import annotations

import weakref

from stemma.runtime.core.holds import Held
from stemma.runtime.engine.loop import EngineLoop


class Hold:
    """Keeps the KV of the path of the last request submitted with it; let go by `release`, or with the last reference.

    Made by `Engine.hold`. Costs no blocks of its own, and yields when the pool would be short of blocks.
    """

    def __init__(self, loop: EngineLoop, held: Held) -> None:
        self._loop = loop
        self.held = held
        self._finalizer = weakref.finalize(self, loop.post, _Release(loop, held))
        self._finalizer.atexit = False

    def fork(self) -> Hold:
        """A second hold on the same path, in constant time."""
        other = Held()
        self._loop.post(lambda: self._loop.scheduler.holds.copy(self.held, other))
        return Hold(self._loop, other)

    def release(self) -> None:
        """Let go. Safe to call twice."""
        self._finalizer()


class _Release:
    """Called by a finaliser, so it may refer to anything but the hold itself."""

    def __init__(self, loop: EngineLoop, held: Held) -> None:
        self._loop = loop
        self._held = held

    def __call__(self) -> None:
        self._loop.scheduler.holds.release(self._held)
