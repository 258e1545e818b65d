"""Asyncio for callers that have none, or that are inside a loop which must not be waited in (a notebook's)."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from stemma.runtime.engine.fork_guard import ForkGuard
from stemma.runtime.errors import InvalidRequest

Result = TypeVar("Result")


class LoopThread:
    """An event loop in a thread of its own while a `with` block runs."""

    def __enter__(self) -> Self:
        self._fork_guard = ForkGuard()
        self._loop = asyncio.new_event_loop()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="stemma-program", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread, and what runs in it. Safe to call twice; does nothing in a fork, where there is none."""
        if self.is_here:
            self.stop_soon()
            self._thread.join()

    def stop_soon(self) -> None:
        """`stop` for finalisers, which wait for nothing."""
        if self.is_here and not self._loop.is_closed():
            self._is_stopping = True
            self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def is_here(self) -> bool:
        """Whether its thread is in this process, which may be a fork of the one that it was made in."""
        return self._fork_guard.is_here

    @property
    def is_current(self) -> bool:
        """Whether this is asked in its thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        """Asyncio ends a loop in which a task raises SystemExit or KeyboardInterrupt, before whoever waits for the task
        hears of it. Here others may run too, so the loop goes on, and the error goes to who waits."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            while not self._is_stopping:
                with suppress(SystemExit, KeyboardInterrupt):
                    runner.get_loop().run_forever()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, for `call_soon_threadsafe`. Raises EngineForked in a fork."""
        self._fork_guard.check()
        return self._loop

    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run it there and wait. An interrupt here (Ctrl-C) cancels it there and waits until it has ended.

        Raises EngineForked in a fork.
        """
        ended = threading.Event()

        async def run() -> Result:
            try:
                return await coroutine
            finally:
                ended.set()

        if not self.is_here:
            coroutine.close()
        future = asyncio.run_coroutine_threadsafe(run(), self.loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait()
            raise


def asynchronous(work: Awaitable[Result], name: str, param: str) -> Awaitable[Result]:
    """What a caller's function returned, if it can be awaited. Raises InvalidRequest: it is no `async def`."""
    if not inspect.isawaitable(work):
        raise InvalidRequest(f"{name} must be an `async def`: what it returned cannot be awaited", param)
    return work


async def awaited(work: Awaitable[Result]) -> Result:
    """Anything that can be awaited, as a coroutine."""
    return await work


def run_blocking(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end and return what it returns; works inside a running loop too, which it blocks."""
    with LoopThread() as loop:
        return loop.wait(coroutine)
