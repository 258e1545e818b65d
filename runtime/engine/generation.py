"""The handle of one running request: iterate it, await it, or wait for its result; the loop's thread feeds it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.core.sequence import Usage
from stemma.runtime.core.stopwatch import Phases
from stemma.runtime.engine.fork_guard import ForkGuard

Sleeper = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Delta(NamedTuple):
    """What one or more steps added. All deltas of a request, joined, are its completion, however it ends.

    text: whole characters; `tokens` may run ahead of it. prompt_logprobs: with the first delta behind the prompt.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


class Timing(NamedTuple):
    """Seconds. ttft: from submission to the first token. queue: to the first step. total: to the end.

    prefill, decode: where the loop's time went from the first step to the first token, and from there to the end:
    of all who ran beside this request too, since it waited for each of their steps.
    """

    queue: float
    ttft: float
    total: float
    prefill: Phases = Phases()
    decode: Phases = Phases()


class Completion(NamedTuple):
    """A finished request.

    tokens: generated ids, an end token included. finish_reason: "stop", "length" or "abort".
    jumped: indexes of those of `tokens` that the grammar forced.
    prompt_logprobs: of the prompt's tokens from `scored_from` on (by default the second), if asked for.
    stopped_by: the stop string that ended it, if one did.
    num_drafted: guesses that were computed to be verified; how many depends on the time that steps take.
    num_accepted: of these, the tokens that came.
    pooled: what was read off the prompt, if that was asked for: a hidden state, (hidden,), or log-probabilities.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    usage: Usage
    timing: Timing
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    jumped: tuple[int, ...] = ()
    stopped_by: str | None = None
    pooled: npt.NDArray[np.float32] | None = None
    num_drafted: int = 0
    num_accepted: int = 0


class Generation:
    """One request under way.

        completion = generation.result()         # from plain Python
        for delta in generation: ...             # streamed
        completion = await generation            # from asyncio
        async for delta in generation: ...

    What nobody iterates is kept for the completion only; who begins late is told all of it with the next token.
    Leaving an iteration early cancels the request, and so does whatever else ends a wait before the request ends, such
    as Ctrl-C; only a timeout leaves it running. Who waits for the end sleeps until the end: a thread that woke for each
    token would take a core from the kernels.
    """

    def __init__(self, cancel: Callable[[Generation], None]) -> None:
        self._cancel = cancel
        self._fork_guard = ForkGuard()
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._end = threading.Condition(self._lock)
        self._deltas: deque[Delta] = deque()
        self.is_read = False  # somebody has begun to iterate
        self._completion: Completion | None = None
        self._error: BaseException | None = None
        self._news_sleepers: list[Sleeper] = []
        self._end_sleepers: list[Sleeper] = []

    # The loop's side ----------------------------------------------------------------
    def push(self, delta: Delta) -> None:
        """Add a delta (from the loop's thread)."""
        with self._lock:
            self._deltas.append(delta)
            self._wake_readers()

    def finish(self, completion: Completion) -> None:
        """End well (from the loop's thread)."""
        with self._lock:
            self._completion = completion
            self._cancel = _nothing_to_cancel
            self._wake_all()

    def fail(self, error: BaseException) -> None:
        """End with an error (from any thread)."""
        with self._lock:
            if not self.is_done:
                self._error = error
                self._cancel = _nothing_to_cancel
            self._wake_all()

    def _wake_readers(self) -> None:
        self._news.notify_all()
        _wake(self._news_sleepers)

    def _wake_all(self) -> None:
        self._wake_readers()
        self._end.notify_all()
        _wake(self._end_sleepers)

    # The caller's side ----------------------------------------------------------------
    @property
    def is_done(self) -> bool:
        """Whether it ended, well or not."""
        return self._completion is not None or self._error is not None

    @property
    def completion(self) -> Completion | None:
        """What it ended with; None before, and if it failed."""
        return self._completion

    def cancel(self) -> None:
        """Ask the engine to end it now; it then ends with finish_reason "abort". Does nothing if it has ended."""
        self._check_home()
        self._cancel(self)

    def give_up(self) -> None:
        """`cancel` for where nobody is left to hear an error, such as a finaliser."""
        if self._fork_guard.is_here:
            self._cancel(self)

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the end, `timeout` seconds at most. Raises what the request failed with.

        After a TimeoutError the request goes on: wait again, or `cancel` it. Any other end of the wait cancels it.
        """
        if not self._has_ended(None if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            raise TimeoutError(f"the request did not end within {timeout} s; it goes on: cancel() ends it")
        return self._outcome()

    def _has_ended(self, timeout: float | None) -> bool:
        self._check_home()
        try:
            with self._lock:
                return self._end.wait_for(lambda: self.is_done, timeout)
        except BaseException:  # a signal's handler raised, such as Ctrl-C's
            self.give_up()
            raise

    def _check_home(self) -> None:
        """What has ended can be read anywhere."""
        if not self.is_done:
            self._fork_guard.check()

    def _outcome(self) -> Completion:
        if self._error is not None:
            raise self._error
        assert self._completion is not None
        return self._completion

    def __iter__(self) -> Iterator[Delta]:
        self.is_read = True
        try:
            while True:
                self._check_home()
                with self._lock:
                    self._news.wait_for(lambda: self._deltas or self.is_done)
                    delta = self._next()
                if delta is None:
                    return
                yield delta
        finally:
            self.give_up()

    def _next(self) -> Delta | None:
        """Everything that has come, as one delta; None at the end. Call with the lock held."""
        if not self._deltas:
            self._outcome()
            return None
        deltas = list(self._deltas)
        self._deltas.clear()
        return deltas[0] if len(deltas) == 1 else join(deltas)

    async def __aiter__(self) -> AsyncGenerator[Delta]:
        self.is_read = True
        try:
            while True:
                await self._sleep(self._news_sleepers, lambda: bool(self._deltas) or self.is_done)
                with self._lock:
                    delta = self._next()
                if delta is None:
                    return
                yield delta
        finally:
            self.give_up()

    def __await__(self) -> Generator[Any, None, Completion]:
        return self._finished().__await__()

    async def _finished(self) -> Completion:
        try:
            await self._sleep(self._end_sleepers, lambda: self.is_done)
        except BaseException:  # the task was cancelled, or the coroutine closed
            self.give_up()
            raise
        return self._outcome()

    async def _sleep(self, sleepers: list[Sleeper], until: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._check_home()
            with self._lock:
                if until():
                    return
                future: asyncio.Future[None] = loop.create_future()
                sleepers.append((loop, future))
            await future


def join(deltas: list[Delta]) -> Delta:
    """One delta with the content of several."""
    return Delta(
        "".join(delta.text for delta in deltas),
        tuple(token for delta in deltas for token in delta.tokens),
        tuple(logprob for delta in deltas for logprob in delta.logprobs),
        tuple(logprob for delta in deltas for logprob in delta.prompt_logprobs),
    )


def _nothing_to_cancel(generation: Generation) -> None:
    """An ended request keeps no reference to its engine."""


def _wake(sleepers: list[Sleeper]) -> None:
    for loop, future in sleepers:
        with suppress(RuntimeError):  # its event loop is closed: nobody sleeps there any more
            loop.call_soon_threadsafe(_set, future)
    sleepers.clear()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
