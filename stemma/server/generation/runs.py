"""Answers that outlive the request for them: their events are kept while they run, for whoever follows them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from typing import Any

log = logging.getLogger("stemma.server")


class Run:
    """One answer on its way. Used on the event loop alone."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.is_over = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, events: AsyncGenerator[dict[str, Any]], cleanup: ExitStack) -> asyncio.Task[None]:
        """Take the events as they come; `cleanup` is closed behind the last one."""
        self._task = asyncio.create_task(self._take(events, cleanup))
        return self._task

    async def _take(self, events: AsyncGenerator[dict[str, Any]], cleanup: ExitStack) -> None:
        try:
            with cleanup:
                async with aclosing(events):
                    async for event in events:
                        self.events.append(event)
                        self._tell()
        except Exception:
            log.exception("an answer failed that nobody waited for")
        finally:
            self.is_over = True
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, after: int = -1) -> AsyncGenerator[dict[str, Any]]:
        """The events behind this number, as they come. A reader that leaves does not end the run."""
        at = max(0, after + 1)
        while True:
            while at < len(self.events):
                yield self.events[at]
                at += 1
            if self.is_over:
                return
            await self._news.wait()

    async def cancel(self) -> None:
        """End it now; returns when it has ended."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Runs:
    """All of them, by tenant and id. Used on the event loop alone. resumed: what goes on when a server starts."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.resumed: list[Callable[[], None]] = []

    def begin(self, tenant: str, name: str, events: AsyncGenerator[dict[str, Any]], cleanup: ExitStack) -> Run:
        """A new run, which is forgotten when it has ended."""
        run = self._runs[tenant, name] = Run()
        self.keep(run.start(events, cleanup)).add_done_callback(lambda _: self._runs.pop((tenant, name), None))
        return run

    def keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Have a task waited for when the server ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def find(self, tenant: str, name: str) -> Run | None:
        """A run that has not ended."""
        return self._runs.get((tenant, name))

    def resume(self) -> None:
        """The server has started."""
        for begin in self.resumed:
            begin()

    async def ended(self) -> None:
        """Wait for all that is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
