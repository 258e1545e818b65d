"""A value that a model is making: await it, iterate over it, or wait for `result()`. Knows nothing of states."""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from stemma.lang.values.hearing import Ear, PlainEar
from stemma.lang.values.partial import Part, Parts
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, Generation
from stemma.runtime.engine.forms import TEXT, Form
from stemma.runtime.errors import StateError

T_co = TypeVar("T_co", covariant=True)


class Outcome(NamedTuple, Generic[T_co]):
    """A finished value. scores: of each option, for a selection. thoughts: what the model thought before it."""

    value: T_co
    completion: Completion
    usage: Usage
    scores: Mapping[str, float]
    thoughts: str = ""


class Gen(Generic[T_co]):
    """A value under way; the requests for it were submitted when it was made.

        person = await s.gen(Person)             # from asyncio
        async for part in s.gen(Person): ...     # streamed; then `await` or `result()` gives the value
        person = s.gen(Person).result()          # from plain Python; `for part in ...` streams there

    Dropping it, or leaving an iteration early, cancels the requests.
    """

    def __init__(
        self,
        generations: Sequence[Generation],
        finish: Callable[[list[Completion]], Outcome[T_co]],
        abandon: Callable[[], None],
        form: Form = TEXT,
        ear: Callable[[], Ear] = PlainEar,
    ) -> None:
        """finish: makes the value, once. abandon: called instead if the requests fail or are cancelled.

        form, ear: of the first request's output, for its parts.
        """
        self._ear = ear
        self._form = form
        self._generations = generations
        self._finish = finish
        self._abandon = abandon
        self._outcome: Outcome[T_co] | None = None
        self._error: BaseException | None = None
        self._watchers: list[Callable[[Gen[Any]], None]] = []
        self._finalizers = [weakref.finalize(self, generation.give_up) for generation in generations]
        for finalizer in self._finalizers:
            finalizer.atexit = False

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._wait().__await__()

    async def _wait(self) -> T_co:
        if not self._is_settled:
            try:
                completions = [await generation for generation in self._generations]
            except BaseException as error:
                self._fail(error)
                raise
            self._settle(completions)
        return self._value()

    def result(self, timeout: float | None = None) -> T_co:
        """Wait for the value, `timeout` seconds at most. Raises what the requests fail with.

        After a TimeoutError they go on: wait again, or `cancel`. Any other end of the wait, as by Ctrl-C, cancels them.
        """
        if not self._is_settled:
            end = None if timeout is None else time.monotonic() + timeout
            try:
                completions = [
                    generation.result(None if end is None else max(0.0, end - time.monotonic()))
                    for generation in self._generations
                ]
            except TimeoutError:
                raise
            except BaseException as error:
                self._fail(error)
                raise
            self._settle(completions)
        return self._value()

    def __iter__(self) -> Iterator[Part[T_co]]:
        parts, ear = Parts(self._form), self._ear()
        try:
            for generation in self._generations[:1]:
                for delta in generation:
                    for part in parts.heard(ear.push(delta.text)):
                        yield part
                for part in parts.heard(ear.finish()):
                    yield part
            self.result()
        except BaseException as error:
            self._fail(error)
            raise

    async def __aiter__(self) -> AsyncIterator[Part[T_co]]:
        parts, ear = Parts(self._form), self._ear()
        try:
            for generation in self._generations[:1]:
                async for delta in generation:
                    for part in parts.heard(ear.push(delta.text)):
                        yield part
                for part in parts.heard(ear.finish()):
                    yield part
            await self
        except BaseException as error:
            self._fail(error)
            raise

    def stop(self) -> None:
        """End it now: what was said so far is the value, if it is one."""
        for generation in self._generations:
            generation.cancel()

    def cancel(self) -> None:
        """Give it up; the state is as it was before."""
        if not self._is_settled:
            self._fail(StateError("this value was cancelled"))

    def when_ended(self, call: Callable[[Gen[Any]], None]) -> None:
        """Call a function with this value when it has ended, well or not, before whoever waits for it goes on."""
        self._watchers.append(call)

    @property
    def is_done(self) -> bool:
        """Whether the value is there."""
        return self._outcome is not None

    # What is known when it is done ----------------------------------------------------------------
    @property
    def completion(self) -> Completion:
        """The request's completion: text, tokens, finish reason, timing, log-probabilities."""
        return self._done().completion

    @property
    def usage(self) -> Usage:
        """Where the tokens came from, of all requests for this value."""
        return self._done().usage

    @property
    def thoughts(self) -> str:
        """What the model thought before it answered; empty for one that does not, or was not let."""
        return self._done().thoughts

    @property
    def scores(self) -> Mapping[str, float]:
        """What each option of a selection scored; empty for anything else."""
        return self._done().scores

    def _done(self) -> Outcome[T_co]:
        if self._outcome is None:
            raise StateError("this value is not there yet: await it, or call result()")
        return self._outcome

    @property
    def _is_settled(self) -> bool:
        return self._outcome is not None or self._error is not None

    def _value(self) -> T_co:
        if self._error is not None:
            raise self._error
        return self._done().value

    def _settle(self, completions: list[Completion]) -> None:
        if self._is_settled:
            return
        for finalizer in self._finalizers:
            finalizer.detach()
        try:
            self._outcome = self._finish(completions)
        except Exception as error:
            self._error = error
        self._tell()

    def _fail(self, error: BaseException) -> None:
        if self._is_settled:
            return
        self._error = error if isinstance(error, Exception) else StateError("this value was cancelled")
        for generation in self._generations:
            generation.give_up()
        self._abandon()
        self._tell()

    def _tell(self) -> None:
        for call in self._watchers:
            call(self)
