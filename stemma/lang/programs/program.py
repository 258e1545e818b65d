"""Programs: async functions whose first parameter is a state, run once, over many inputs, or dry.

@stemma.program
async def judge(s: stemma.State, essay: str) -> Verdict: ...

run = await judge.run(llm, essay)         # or judge.run_sync(llm, essay)
runs = await judge.map(llm, essays)       # or judge.map(llm, essays).result(), or iterate
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from stemma.lang.backend import Backend
from stemma.lang.loops import asynchronous, run_blocking
from stemma.lang.programs.dry import DryBackend, dry_form
from stemma.lang.programs.map import Mapped, Progress
from stemma.lang.programs.plan import Plan, bound_parameters, make_plan, text_of, texts_of
from stemma.lang.programs.run import ProgramCall, Run
from stemma.lang.reports.trace import TraceNode
from stemma.lang.states.session import Session
from stemma.lang.states.state import State

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

Body = Callable[Concatenate[State, P], Coroutine[Any, Any, R]]


class OfOne(Protocol[A_contra, R_co]):
    """A program that can be called with one argument."""

    def call(self, item: A_contra, /) -> ProgramCall[R_co]: ...


class Program(Generic[P, R]):
    """A function of a state and parameters that can be run on a model. Made by `stemma.program`."""

    def __init__(self, body: Callable[Concatenate[State, P], Coroutine[Any, Any, R]]) -> None:
        self._body = body
        self.name = getattr(body, "__name__", "program")
        update_wrapper(self, body)

    def __call__(self, state: State, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it on a state of another program: a sub-program."""
        return self._body(state, *args, **kwargs)

    async def run(self, llm: Backend, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Run it once. Raises what it raises; its states' blocks are given back however it ends."""
        run = await self._attempt(Session(llm), self.call(*args, **kwargs), 0)
        if run.error is not None:
            raise run.error
        return run

    def run_sync(self, llm: Backend, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """`run` for plain Python, and for a notebook's cell without `await`."""
        return run_blocking(self.run(llm, *args, **kwargs))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> ProgramCall[R]:
        """Arguments for `map` to run it with, where it takes more than one parameter."""
        return ProgramCall(self._body, args, kwargs)

    @overload
    def map(
        self, llm: Backend, calls: Iterable[ProgramCall[R]], /, *, concurrency: int = 64, progress: Progress = False
    ) -> Mapped[R]: ...

    @overload
    def map(
        self: OfOne[A, R], llm: Backend, items: Iterable[A], /, *, concurrency: int = 64, progress: Progress = False
    ) -> Mapped[R]: ...

    def map(
        self, llm: Backend, items: Iterable[Any], /, *, concurrency: int = 64, progress: Progress = False
    ) -> Mapped[R]:
        """Run it over many inputs: arguments of its one parameter, or `call`s. Await the result, or iterate over it.

        concurrency: how many run side by side; inputs are taken as they are needed, results come in their order.
        progress: True draws a bar; or a function of how many have ended, and of how many in all where that is known.
        An input that fails does not end the others: its run has an `error`.
        """

        def attempt(item: Any, index: int) -> Coroutine[Any, Any, Run[R]]:
            call = item if isinstance(item, ProgramCall) else ProgramCall(self._body, (item,), {})
            return self._attempt(Session(llm), call, index)

        return Mapped(attempt, items, concurrency, progress, self.name)

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """A dry run: nothing is computed. The tree of prompts that a run will make, and remarks on what keeps it small.

        Parameters are values, or types for which placeholders stand in: `judge.plan(essay=str)`. The model's answers
        are placeholders too, so a program that looks into them may take another way than it would.
        """
        values = bound_parameters(self._body, args, kwargs)
        first, second = run_blocking(self._dry(values)), run_blocking(self._dry(values))
        texts = [[text_of(dry, request.prompt) for request in dry.asked] for dry in (first, second)]
        pairs = zip(texts[0], first.asked, strict=True)
        spoken = [text for text, request in pairs if request.purpose == "gen"]
        return make_plan(self.name, texts[0], spoken, texts[1], texts_of(values))

    async def _dry(self, values: dict[str, Any]) -> DryBackend:
        backend = DryBackend()
        run = await self._attempt(Session(backend, dry_form), ProgramCall(self._body, (), values), 0)
        if run.error is not None:
            raise run.error
        return backend

    async def _attempt(self, session: Session, call: ProgramCall[R], index: int) -> Run[R]:
        """Run it; a failure becomes the run's error."""
        trace, started = TraceNode("program", self.name), time.perf_counter()
        state = State.of(session, trace, {})
        value, failure = None, None
        try:
            value = await asynchronous(call.body(state, *call.args, **call.kwargs), self.name, "program")
        except Exception as error:
            failure, trace.error = error, repr(error)
        finally:
            session.close()
            trace.seconds = time.perf_counter() - started
        return Run(index, failure, trace, value)


def program(body: Callable[Concatenate[State, P], Coroutine[Any, Any, R]]) -> Program[P, R]:
    """Make a program of `async def body(s: State, ...)`."""
    return Program(body)
