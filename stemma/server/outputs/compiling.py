"""Compiling grammars beside the event loop, so that a hard one holds up nothing but other grammars.

How much work a grammar may take is counted, not timed (`stemma.fsm.Limits`): what is refused here is refused on any
machine, however busy. It is remembered, and refused at once when it comes again. Who waits too long, for a thread or
for a grammar, is told to come back, not that the grammar is at fault: it goes on compiling, and is ready then.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from stemma.fsm import LimitError
from stemma.runtime.engine import Engine
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.errors import InvalidRequest
from stemma.server.http.errors import unavailable

NUM_THREADS = 2
MAX_REMEMBERED = 256


class Compilers:
    """Threads that compile. seconds: how long a caller waits for a grammar. Used on the event loop alone."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="stemma-compile")
        self._too_hard: OrderedDict[GrammarSpec, str] = OrderedDict()

    async def prepare(self, spec: GrammarSpec) -> None:
        """Have a grammar ready. Raises InvalidRequest for what is wrong with it, ApiError (503) if it takes long."""
        if spec in self._too_hard:
            raise InvalidRequest(self._too_hard[spec], "grammar")
        loop = asyncio.get_running_loop()
        compiling = loop.run_in_executor(self._threads, self._engine.prepare, spec)
        compiling.add_done_callback(lambda done: self._remember(spec, done))
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.shield(compiling)
        except TimeoutError as error:
            raise unavailable("grammars are being compiled; try again later", 5) from error

    def _remember(self, spec: GrammarSpec, done: asyncio.Future[None]) -> None:
        """Keep what takes more work than it may; also what nobody waited for."""
        error = None if done.cancelled() else done.exception()
        if isinstance(error, InvalidRequest) and isinstance(error.__cause__, LimitError):
            self._too_hard[spec] = str(error)
            while len(self._too_hard) > MAX_REMEMBERED:
                self._too_hard.popitem(last=False)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
