"""Compiling grammars beside the event loop, in bounded time, so that a hard one holds up nothing but other grammars.

A thread cannot be ended from outside: the caller is answered after `seconds`, the thread ends soon after by the limit
that compiling has of its own (`stemma.fsm.Limits`). What took too long is remembered and refused at once when it comes
again; who only waited for a thread is told to come back, not that its grammar is at fault.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from stemma.runtime.engine import Engine
from stemma.runtime.engine.guides import GrammarSpec
from stemma.server.errors import unavailable

NUM_THREADS = 2
MAX_REMEMBERED = 256


class TooHard(Exception):
    """A grammar takes longer to compile than it may."""


class Compilers:
    """Threads that compile. seconds: how long one grammar may take. Used on the event loop alone."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="stemma-compile")
        self._too_hard: OrderedDict[GrammarSpec, None] = OrderedDict()

    async def prepare(self, spec: GrammarSpec) -> None:
        """Have a grammar ready. Raises TooHard, ApiError (503) if no thread came free, or what is wrong with it."""
        if spec in self._too_hard:
            raise TooHard
        has_begun = threading.Event()

        def compile_it() -> None:
            has_begun.set()
            self._engine.prepare(spec)

        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.get_running_loop().run_in_executor(self._threads, compile_it)
        except TimeoutError as error:
            if not has_begun.is_set():
                raise unavailable("other grammars are being compiled; try again later", 5) from error
            self._too_hard[spec] = None
            while len(self._too_hard) > MAX_REMEMBERED:
                self._too_hard.popitem(last=False)
            raise TooHard from error

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
