"""The step loop: one thread that owns scheduler, runner and sampler. Everybody else talks to it through `call`.

What goes wrong for one caller is told to that one. What goes wrong for all ends the loop, and then everybody hears.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from stemma.runtime.core import sequence as core
from stemma.runtime.core.ahead import Done, Steps
from stemma.runtime.core.failures import as_stemma_error, describe_error, of_all
from stemma.runtime.core.runner import Runner
from stemma.runtime.core.sampler import Sampler
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.stopwatch import Stopwatch
from stemma.runtime.engine.fork_guard import ForkGuard
from stemma.runtime.engine.generation import Generation
from stemma.runtime.engine.metrics import EngineStats, Metrics
from stemma.runtime.engine.output_processor import OutputProcessor, RequestState
from stemma.runtime.errors import EngineClosed, EngineFailed

T = TypeVar("T")
log = logging.getLogger("stemma.engine")

LEAVE_SECONDS = 1.0
LOOK_AGAIN = 0.01
"""Seconds between two looks at what is being loaded, where nobody says before that it is there."""


class Entrance(Protocol):
    """Where requests enter and are cancelled: the loop, or somebody who does something before."""

    def submit(self, states: Sequence[RequestState]) -> None:
        """Queue sequences, all before the same step. Raises EngineClosed."""

    def cancel(self, generation: Generation) -> None:
        """End a generation's sequence; does nothing if it ended."""


class EngineLoop:
    """Runs steps while there is work, sleeps while there is none."""

    def __init__(
        self, scheduler: Scheduler, runner: Runner, sampler: Sampler, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.sampler = sampler
        self.clock = clock
        self.metrics = Metrics()
        self._watch = sampler.watch = scheduler.placing.watch = Stopwatch(clock)
        self._steps = Steps(scheduler, runner, sampler, clock)
        self._outputs = OutputProcessor(clock, self.metrics, self._watch)
        self._states: dict[int, RequestState] = {}  # by id of the sequence
        self._of_generation: dict[int, RequestState] = {}  # the same by id of the generation
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._door = threading.Lock()  # nobody enters while it is being shut
        self._closed_by: BaseException | None = None
        self._is_left = False  # by everybody who could ask for more
        self._is_asleep = False
        self._has_to_wait = False  # for KV that is being loaded: nothing else can be done
        self._at_end: list[Callable[[], None]] = []
        self.fork_guard = ForkGuard()
        self._thread = threading.Thread(target=self._run, name="stemma-engine", daemon=True)
        self._at_exit = partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)  # a thread inside compiled code must not outlive the interpreter
        self._thread.start()

    def step(self) -> None:
        """Compute one batch, if there is one, and tell the callers what is known of it, or of the one before."""
        is_idle = True
        for done in self._steps.step():
            self.metrics.step(done.batch, done.forward)
            self._publish(done)
            seconds = self.clock() - done.started if done.seconds is None else done.seconds
            self.scheduler.drafter.took(done.batch, seconds)
            self._settle(self.scheduler.take_ended())
            is_idle = False
        ended = self.scheduler.take_ended()
        self._settle(ended)
        self._has_to_wait = is_idle and not ended and not self._steps.is_under_way
        self._watch.lap("text")

    # Any thread ----------------------------------------------------------------
    def submit(self, states: Sequence[RequestState]) -> None:
        """Queue sequences, all before the next step. Raises EngineClosed."""
        self._enter(lambda: self._add(states))

    def cancel(self, generation: Generation) -> None:
        """End a generation's sequence at the next step's beginning; does nothing if it ended or the loop did."""
        self.post(lambda: self._abort(generation))

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function between two steps, in the loop's thread. Raises EngineClosed."""
        future: Future[T] = Future()
        if threading.current_thread() is self._thread:
            self._fulfil(future, function)
        else:
            self._enter(lambda: self._fulfil(future, function))
        return future

    def post(self, function: Callable[[], None]) -> None:
        """Run a function between two steps if the loop still runs. Takes no lock: a finaliser may call it anywhere."""
        if self._closed_by is None:  # nobody takes it out otherwise, and what it holds would hold the loop
            self._calls.put(lambda: self._forgive(function))

    def _enter(self, call: Callable[[], None]) -> None:
        self.fork_guard.check()
        with self._door:
            if self._closed_by is not None:
                raise self._refusal()
            self._calls.put(call)

    def _refusal(self) -> EngineClosed:
        why = f" ({self._closed_by})" if isinstance(self._closed_by, EngineFailed) else ""
        refusal = EngineClosed(f"the engine is closed{why}; make a new one")
        refusal.__cause__ = self._closed_by
        return refusal

    def stats(self) -> EngineStats:
        """Counters and the cache's state, taken between two steps."""
        return self.call(self._moment).result()

    def close(self) -> None:
        """Stop the thread; what has not ended fails with EngineClosed."""
        atexit.unregister(self._at_exit)
        if not self.fork_guard.is_here:
            return
        self._shut(EngineClosed("the engine was closed before the request ended"))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def leave(self) -> None:
        """End when what is under way has ended; for the finaliser of the last who could ask for more.

        Takes no lock. Waits for a thread that has nothing to do, but never for long: a finaliser can run anywhere.
        """
        was_asleep = self._is_asleep
        self.post(self._note_left)
        if was_asleep and self.fork_guard.is_here:
            self._thread.join(LEAVE_SECONDS)

    def at_end(self, function: Callable[[], None]) -> None:
        """Have something done when the loop has ended, in its thread."""
        self._at_end.append(function)

    # The loop's thread ----------------------------------------------------------------
    def _run(self) -> None:
        with ExitStack() as device:
            try:
                device.enter_context(self.runner.model.ops.on_device())
                self.runner.take_turn()
                self._live()
            except BaseException as error:
                failure = EngineFailed(f"the engine's loop failed: {describe_error(error)}{of_all(error)}")
                failure.__cause__ = error
                self._shut(failure)
            self._end()

    def _live(self) -> None:
        while self._closed_by is None:
            self._answer_calls()
            self.step()
            if self._is_left and not self._states:
                self._shut(EngineClosed("the engine is no longer there: keep it as long as it is used"))

    def _end(self) -> None:
        assert self._closed_by is not None
        while not self._calls.empty():
            self._calls.get()()
        for state in self._states.values():
            state.generation.fail(self._closed_by)
        atexit.unregister(self._at_exit)
        for function in self._at_end:
            function()

    def _note_left(self) -> None:
        self._is_left = True

    def _shut(self, reason: BaseException) -> None:
        with self._door:
            self._closed_by = self._closed_by or reason
            self._calls.put(lambda: None)

    def _answer_calls(self) -> None:
        """Run what was asked for; with no other work, wait until something is."""
        if self.scheduler.is_idle and not self._states and not self._steps.is_under_way:
            self._is_asleep = True
            call = self._calls.get()
            self._is_asleep = False
            call()
        elif self._has_to_wait:
            with suppress(Empty):
                self._calls.get(timeout=LOOK_AGAIN)()
        while not self._calls.empty():
            self._calls.get()()

    def _fulfil(self, future: Future[T], function: Callable[[], T]) -> None:
        """Whatever the function raises is its caller's."""
        if self._closed_by is not None:
            future.set_exception(self._refusal())
            return
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _forgive(self, function: Callable[[], None]) -> None:
        """Run what nobody waits for. If it fails with the cache whole, that harms nobody."""
        if self._closed_by is not None:
            return
        try:
            function()
        except Exception:
            log.exception("something that nobody waits for failed")
            self.scheduler.cache.check()

    def _add(self, states: Sequence[RequestState]) -> None:
        """Each is listed before the scheduler gets its sequence, so that a loop that ends can tell its caller."""
        for state in states:
            self._states[id(state.sequence)] = self._of_generation[id(state.generation)] = state
            if state.sequence.request.ttft is not None:
                state.sequence.deadline = state.submitted + state.sequence.request.ttft
            if self._closed_by is None:
                try:
                    self.scheduler.add(state.sequence)
                except BaseException as error:
                    self.scheduler.fail(state.sequence, error)

    def _moment(self) -> EngineStats:
        self._settle(self.scheduler.take_ended())  # who does not run any more is among those that have ended
        cache = self.scheduler.cache.stats()
        self.metrics.num_preempted = self.scheduler.num_preempted
        self.metrics.drafts = self.scheduler.drafter.counts
        self.metrics.phases = self._watch.phases
        return EngineStats(len(self.scheduler.running), len(self.scheduler.waiting), cache, self.metrics.copy())

    def _abort(self, generation: Generation) -> None:
        state = self._of_generation.get(id(generation))
        if state is not None:
            self.scheduler.abort(state.sequence)

    def _publish(self, done: Done) -> None:
        states, tell = self._states, self._outputs.step
        self._outputs.begin_step(done.started, done.before)
        for row in done.rows:
            try:
                tell(states[id(row.sequence)])
            except BaseException as error:
                self.scheduler.fail(row.sequence, error)
        self._outputs.end_step()

    def _settle(self, ended: Sequence[core.Sequence]) -> None:
        """Give the callers of ended sequences their completion or their error."""
        for sequence in ended:
            state = self._states.pop(id(sequence))
            del self._of_generation[id(state.generation)]
            try:
                self._outputs.end(state)
            except BaseException as error:
                state.generation.fail(as_stemma_error(error))


def _close(loop: weakref.ref[EngineLoop]) -> None:
    """At the interpreter's exit, which keeps no loop alive until then."""
    found = loop()
    if found is not None:
        found.close()
