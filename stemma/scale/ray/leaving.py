"""How a whole deployment ends: nobody comes in any more, what is under way has its time, and what is left is told.

signal                     shutdown_seconds later, or a second signal         LAST_SECONDS later
  | newcomers are told 503 | replicas end what is left, with an error event | it is cut off, and Serve is shut down |

`stemma scale` tells the entrances, each of these the replicas. Nobody hands its cache over: there is nobody to take it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from stemma.server.http.errors import unavailable
from stemma.server.run import LAST_SECONDS

log = logging.getLogger("stemma.scale")
ANSWERS_SECONDS = 10.0
"""How long an entrance may take, beside what it waits for, to say that it has ended."""


class Door:
    """Of one entrance, on its loop: who is inside, and whether anybody may come in. is_over: those inside are sent
    away."""

    def __init__(self) -> None:
        self.is_over = asyncio.Event()
        self._is_shut = False
        self._num_inside = 0
        self._left = asyncio.Event()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside. Raises ApiError (503) once it is shut."""
        if self._is_shut:
            raise unavailable("the server is shutting down")
        self._num_inside += 1
        try:
            yield
        finally:
            self._num_inside -= 1
            self._left.set()

    def shut(self) -> None:
        """Let nobody in any more."""
        self._is_shut = True

    async def emptied(self) -> None:
        """Returns when nobody is inside."""
        while self._num_inside:
            self._left.clear()
            await self._left.wait()


class Leaving:
    """Ends an entrance, and the replicas that are behind it: each entrance tells them all, which does no harm."""

    def __init__(self, door: Door, behind: Sequence[DeploymentHandle[Any]]) -> None:
        """behind: the deployments whose replicas have `leave` and `cut_short`."""
        self._door, self._behind = door, behind
        self._insisted = asyncio.Event()

    def hurry(self) -> None:
        """What is under way has had its time."""
        self._insisted.set()

    async def leave(self, seconds: float) -> None:
        """Returns when nothing is under way any more. What is after so many seconds, or when `hurry` is called, is told
        that it ends, and cut off if it does not."""
        self._door.shut()
        ended = asyncio.ensure_future(self._ended())
        insisted = asyncio.ensure_future(self._insisted.wait())
        try:
            await asyncio.wait((ended, insisted), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._tell("cut_short")
                self._door.is_over.set()
                await asyncio.wait((ended,), timeout=LAST_SECONDS)
        finally:
            for task in (ended, insisted):
                task.cancel()
            await asyncio.gather(ended, insisted, return_exceptions=True)

    async def _ended(self) -> None:
        await asyncio.gather(self._door.emptied(), self._tell("leave"))

    async def _tell(self, what: str) -> None:
        """All replicas; one that is gone need not be told."""
        for handle in self._behind:
            with suppress(RayServeException):
                await handle.broadcast(what).results_async(return_exceptions=True)


def leave_all(entrances: DeploymentHandle[Any], seconds: float, told: SimpleQueue[int | None]) -> None:
    """Have all entrances leave; returns when they have. told: has a number for each further signal, of which one ends
    the time that what is under way has."""

    def wait() -> None:
        try:
            left.results(timeout_s=seconds + LAST_SECONDS + ANSWERS_SECONDS)
        except (RayServeException, RayError, TimeoutError) as error:
            log.warning("not all that was under way could be told that it ends: %s", error or type(error).__name__)
        finally:
            told.put(None)

    left = entrances.broadcast("leave", seconds)
    threading.Thread(target=wait, name="stemma-leaves", daemon=True).start()
    while told.get() is not None:
        entrances.broadcast("hurry").results(return_exceptions=True)


def is_going_on(application: str) -> bool:
    """Whether a deployment stays though one of its replicas leaves."""
    found = serve.status().applications.get(application)
    return found is not None and found.status != ApplicationStatus.DELETING
