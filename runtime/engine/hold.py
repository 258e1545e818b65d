"""The handle of a retained path, held or pinned: what a state keeps between two requests. Usable from any thread."""

from __future__ import annotations

import weakref
from functools import partial

from stemma.radix import NextUse, Retained
from stemma.runtime.engine.loop import EngineLoop
from stemma.runtime.errors import EngineClosed


class Hold:
    """Keeps the KV of the path of the last request submitted with it; let go by `release`, or with the last reference.

    Made by `Engine.hold`. Costs no blocks of its own, and yields when the pool would be short of blocks, unless it is
    pinned: then it is kept until its time has ended.
    """

    def __init__(self, loop: EngineLoop, retained: Retained) -> None:
        self._loop = weakref.ref(loop)  # what is held is gone with the loop
        self.retained = retained
        self._fork_guard = loop.fork_guard
        self._finalizer = weakref.finalize(self, _release, self._loop, retained)
        self._finalizer.atexit = False

    def is_of(self, loop: EngineLoop) -> bool:
        """Whether it holds in this loop's cache."""
        return loop is self._loop()

    @property
    def num_tokens(self) -> int:
        """Tokens whose KV is kept now."""
        return self.retained.num_tokens

    @property
    def num_blocks(self) -> int:
        """KV blocks that are kept now."""
        return self.retained.num_blocks

    def fork(self) -> Hold:
        """A second hold on the same path, in constant time."""
        self._fork_guard.check()
        loop, other = self._loop(), Retained()
        if loop is None:
            raise EngineClosed("the engine is no longer there: keep it as long as it is used")
        loop.post(partial(loop.scheduler.cache.share, self.retained, other))
        return Hold(loop, other)

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Let go. Safe to call twice. next_use: what is known of what was computed past the hold it was forked from."""
        if self._finalizer.detach() is not None:
            _release(self._loop, self.retained, next_use)


def _release(loop: weakref.ref[EngineLoop], retained: Retained, next_use: NextUse = NextUse.UNKNOWN) -> None:
    """Called by a finaliser, so it must not refer to the hold itself."""
    found = loop()
    if found is not None:
        found.post(partial(found.scheduler.cache.let_go, retained, next_use))
