"""A reply under way: one answer, or several where the model calls tools, which run between them.

question | calls | results | calls | results | answer        each `|` begins a round: what stands before it is cached
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

from stemma.lang.loops import awaited, run_blocking
from stemma.lang.states.state import State
from stemma.lang.values.gen import Gen
from stemma.lang.values.hearing import Heard
from stemma.lang.values.partial import Part, Parts
from stemma.lang.values.tools import Called, Said, Tool, ToolCall, result_text, tools_of
from stemma.runtime.core.checking import checked, describe
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, RequestOptions
from stemma.runtime.engine.forms import form_of
from stemma.runtime.errors import InvalidRequest, StateError, ToolLimit

T_co = TypeVar("T_co", covariant=True)

Approve = Callable[[ToolCall], bool | Awaitable[bool]]
REFUSED = "The user did not allow this call."
MAX_ROUNDS = 8


class ToolRules(NamedTuple):
    """What a chat's model may call. max_rounds: answers with calls before one without. approve: asked before each."""

    tools: tuple[Tool, ...]
    max_rounds: int
    approve: Approve | None


def rules_of(tools: Sequence[Tool | Callable[..., Any]], max_rounds: int, approve: Approve | None) -> ToolRules:
    """Raises InvalidRequest for tools that cannot be told or run, and for no rounds."""
    made = tools_of(tools)
    for tool in made:
        if tool.run is None:
            raise InvalidRequest(f"{tool.name} has no function to run, and a chat runs what is called", "tools")
    if checked(max_rounds, int, "max_rounds") < 1:
        raise InvalidRequest(f"max_rounds must be at least 1; it is {describe(max_rounds)}", "max_rounds")
    return ToolRules(made, max_rounds, approve)


class Reply(Generic[T_co]):
    """What a chat is answered: await it, iterate over it, or wait for `result()`, as for a `Gen`.

    Where a function fails, the model is told so and goes on; `calls` has the error. A reply that is dropped or left
    early leaves no trace in the chat.
    """

    def __init__(
        self, state: State, rules: ToolRules, form: Any, options: RequestOptions, end: Callable[[Reply[Any]], None]
    ) -> None:
        """state: with the question; it gets the answers. end: called when it has ended, well or not."""
        self._state = state
        self._rules = rules
        self._form = form
        self._options = options
        self._end = end
        self._error: BaseException | None = None
        self._said: Said[T_co] | None = None
        self._rounds: list[Gen[Any]] = []
        self._waiting: list[ToolCall] | None = None  # calls of the last answer; None while it is under way
        self.calls: tuple[Called, ...] = ()
        """What was called so far."""
        self._begin_round()

    def _begin_round(self) -> None:
        speak = self._state.call if self._rules.tools else self._state.gen
        self._rounds.append(speak(self._form, **self._options))
        self._waiting = None

    # Waiting ----------------------------------------------------------------
    def __await__(self) -> Generator[Any, None, T_co]:
        return self._wait().__await__()

    async def _wait(self) -> T_co:
        try:
            while (step := self._next()) is not None:
                if isinstance(step, ToolCall):
                    self._tell(await self._run(step))
                else:
                    await step
        except BaseException as error:
            self._fail(error)
            raise
        return self._value()

    def result(self, timeout: float | None = None) -> T_co:
        """Wait for the answer, `timeout` seconds at most. Raises what its requests fail with; ToolLimit.

        After a TimeoutError it goes on: wait again, or `cancel`. A function that was called runs to its end.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while (step := self._next()) is not None:
                if isinstance(step, ToolCall):
                    self._tell(self._run_sync(step))
                else:
                    step.result(None if end is None else max(0.0, end - time.monotonic()))
        except TimeoutError:
            raise
        except BaseException as error:
            self._fail(error)
            raise
        return self._value()

    def __iter__(self) -> Iterator[Part[T_co]]:
        parts = Parts(form_of(self._form))
        try:
            while (step := self._next()) is not None:
                if isinstance(step, ToolCall):
                    yield parts.called(self._tell(self._run_sync(step)))
                else:
                    for part in step:
                        yield from self._shown(part, parts)
        except BaseException as error:
            self._fail(error)
            raise

    async def __aiter__(self) -> AsyncIterator[Part[T_co]]:
        parts = Parts(form_of(self._form))
        try:
            while (step := self._next()) is not None:
                if isinstance(step, ToolCall):
                    yield parts.called(self._tell(await self._run(step)))
                else:
                    async for part in step:
                        for shown in self._shown(part, parts):
                            yield shown
        except BaseException as error:
            self._fail(error)
            raise

    def _shown(self, part: Part[Any], parts: Parts) -> Iterator[Part[Any]]:
        """An answer that may call has parts without values: they are made here."""
        return parts.heard(Heard(part.text, part.thoughts)) if self._rules.tools else iter((part,))

    def stop(self) -> None:
        """End the answer that is under way: what was said so far is the reply, if it is one."""
        self._rounds[-1].stop()

    def cancel(self) -> None:
        """Give it up; the chat is as it was before."""
        if not self._is_settled:
            self._fail(StateError("this reply was cancelled"))

    # Rounds ----------------------------------------------------------------
    def _next(self) -> Gen[Any] | ToolCall | None:
        """What is to be waited for: an answer, or a call to be made. None at the end."""
        if self._is_settled:
            return None
        gen = self._rounds[-1]
        if not gen.is_done:
            return gen
        if self._waiting is None:
            said = gen.result() if self._rules.tools else Said("", (), gen.result())
            if not said.calls:
                self._settle(said)
                return None
            if len(self._rounds) > self._rules.max_rounds:
                raise ToolLimit(
                    f"the model called tools in {len(self._rounds)} answers in a row, {said.calls[0]} at last: "
                    "raise max_rounds, or say in the system prompt when to stop"
                )
            self._waiting = list(said.calls)
        if self._waiting:
            return self._waiting[0]
        self._begin_round()
        return self._rounds[-1]

    def _tell(self, called: Called) -> Called:
        assert self._waiting is not None
        self._state.result(self._waiting.pop(0), called.result)
        self.calls = (*self.calls, called)
        return called

    async def _run(self, call: ToolCall) -> Called:
        answer = self._rules.approve(call) if self._rules.approve is not None else True
        if not (await answer if inspect.isawaitable(answer) else answer):
            return Called(call, REFUSED)
        try:
            return Called(call, result_text(await call.run()))
        except Exception as error:  # whatever the user's function raises
            return _failed(call, error)

    def _run_sync(self, call: ToolCall) -> Called:
        answer = self._rules.approve(call) if self._rules.approve is not None else True
        if not (run_blocking(awaited(answer)) if inspect.isawaitable(answer) else answer):
            return Called(call, REFUSED)
        try:
            return Called(call, result_text(call.run_sync()))
        except Exception as error:  # whatever the user's function raises
            return _failed(call, error)

    # What is known when it is done ----------------------------------------------------------------
    @property
    def is_done(self) -> bool:
        """Whether the answer is there."""
        return self._said is not None

    @property
    def completion(self) -> Completion:
        """The last answer's completion."""
        return self._rounds[-1].completion

    @property
    def usage(self) -> Usage:
        """Where the tokens came from, of all answers."""
        return sum((gen.usage for gen in self._rounds), Usage())

    @property
    def thoughts(self) -> str:
        """What the model thought before its answers; empty for one that does not."""
        return "\n\n".join(filter(None, (gen.thoughts for gen in self._rounds)))

    @property
    def _is_settled(self) -> bool:
        return self._said is not None or self._error is not None

    def _value(self) -> T_co:
        if self._error is not None:
            raise self._error
        assert self._said is not None
        return cast(T_co, self._said.value)

    def _settle(self, said: Said[T_co]) -> None:
        self._said = said
        self._end(self)

    def _fail(self, error: BaseException) -> None:
        if self._is_settled:
            return
        self._error = error if isinstance(error, Exception) else StateError("this reply was cancelled")
        self._rounds[-1].cancel()
        self._end(self)


def _failed(call: ToolCall, error: Exception) -> Called:
    return Called(call, f"Error: {type(error).__name__}: {error}", error)
