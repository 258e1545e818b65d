"""One program over many inputs: one loop, a bounded number under way, results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Iterator, Sized
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

from stemma.lang.loops import LoopThread, run_blocking
from stemma.lang.programs.run import Run
from stemma.runtime.core.checking import checked, describe
from stemma.runtime.engine.progress import bar
from stemma.runtime.errors import InvalidRequest

R = TypeVar("R")

Report = Callable[[int, int | None], None]
Progress = bool | Report

AHEAD = 4
"""Inputs that are taken beyond the oldest unfinished one, in units of the concurrency: one slow input delays none."""


class Mapped(Generic[R]):
    """Many runs, not yet begun: await all, iterate in order as they end, or wait for `result()`.

    Iterating holds no more than a few runs for each that is under way, however many inputs there are. Leaving the
    iteration early cancels what is under way.
    """

    def __init__(
        self,
        attempt: Callable[[Any, int], Coroutine[Any, Any, Run[R]]],
        items: Iterable[Any],
        concurrency: int,
        progress: Progress,
        name: str,
    ) -> None:
        if checked(concurrency, int, "concurrency") < 1:
            raise InvalidRequest(f"concurrency must be at least 1; it is {describe(concurrency)}", "concurrency")
        self._attempt = attempt
        self._items = items
        self._concurrency = concurrency
        self._progress = progress
        self._name = name

    def __await__(self) -> Generator[Any, None, list[Run[R]]]:
        return self._all().__await__()

    async def _all(self) -> list[Run[R]]:
        return [run async for run in self]

    def result(self) -> list[Run[R]]:
        """Run all of them and wait."""
        return run_blocking(self._all())

    async def __aiter__(self) -> AsyncGenerator[Run[R], None]:
        gate = asyncio.Semaphore(self._concurrency)
        window: deque[asyncio.Task[Run[R]]] = deque()
        num_done = 0
        num_items = len(self._items) if isinstance(self._items, Sized) else None
        with bar(self._name) if self._progress is True else nullcontext(self._progress or _silent) as report:

            async def attempt(item: Any, index: int) -> Run[R]:
                nonlocal num_done
                async with gate:
                    run = await self._attempt(item, index)
                num_done += 1
                report(num_done, num_items)
                return run

            try:
                for index, item in enumerate(self._items):
                    while len(window) >= AHEAD * self._concurrency:
                        yield await window[0]
                        window.popleft()
                    window.append(asyncio.create_task(attempt(item, index), name=f"{self._name}[{index}]"))
                while window:
                    yield await window[0]
                    window.popleft()
            finally:
                for task in window:
                    task.cancel()
                await asyncio.gather(*window, return_exceptions=True)

    def __iter__(self) -> Iterator[Run[R]]:
        with LoopThread() as loop:
            runs = aiter(self)
            try:
                while (run := loop.wait(_next(runs))) is not None:
                    yield run
            finally:
                loop.wait(runs.aclose())


async def _next(runs: AsyncGenerator[Run[R], None]) -> Run[R] | None:
    return await anext(runs, None)


def _silent(num_done: int, num_items: int | None) -> None:
    """No progress is shown."""
