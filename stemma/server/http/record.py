"""What is known of a request by its end, for logs, counters and traces: names, numbers and times, never a text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stemma.runtime.core.sequence import Usage
from stemma.runtime.core.stopwatch import Phases
from stemma.runtime.engine import Completion, Generation, Timing


class Stage(NamedTuple):
    """A part of a request's time, in nanoseconds since 1970. phases: where the engine's time went meanwhile."""

    name: str
    begin: int
    end: int
    phases: Phases | None = None


@dataclass(slots=True)
class RequestRecord:
    """One request. `status` is 0 until an answer begins; who left before has none.

    model: the model or adapter that answers. answer_id: what the answer calls itself. asked: numbers of the request, by
    OpenTelemetry's names. compiling: when a form was compiled for it. submitted_at: nanoseconds since 1970.
    is_outlived: its answer goes on behind it, and is counted when that has ended.
    """

    id: str
    method: str
    path: str
    began: float = field(default_factory=time.monotonic)
    tenant: str = ""
    status: int = 0
    seconds: float = 0.0
    model: str | None = None
    answer_id: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    compiling: Stage | None = None
    submitted_at: int = 0
    generations: Sequence[Generation] = ()
    is_outlived: bool = False

    @contextmanager
    def compiles(self) -> Iterator[None]:
        """Inside, a form is compiled."""
        begin = time.time_ns()
        try:
            yield
        finally:
            self.compiling = Stage("compile", begin, time.time_ns())

    def submitted(self, generations: Sequence[Generation], model: str) -> None:
        """These answer it; more may follow in the same list."""
        self.submitted_at = time.time_ns()
        self.generations = generations
        self.model = model

    @property
    def completions(self) -> list[Completion]:
        """Of the choices that have ended well."""
        return [made.completion for made in self.generations if made.completion is not None]

    @property
    def usage(self) -> Usage:
        """Of all of them."""
        return sum((completion.usage for completion in self.completions), Usage())

    @property
    def timing(self) -> Timing | None:
        """Of the choice that ended last."""
        return max((made.timing for made in self.completions), key=lambda timing: timing.total, default=None)

    def stages(self) -> Iterator[Stage]:
        """Where its time went."""
        if self.compiling is not None:
            yield self.compiling
        timing, begin = self.timing, self.submitted_at
        if timing is not None:
            ends = [begin + int(seconds * 1e9) for seconds in timing[:3]]
            yield Stage("queue", begin, ends[0])
            yield Stage("prefill", ends[0], ends[1], timing.prefill)
            yield Stage("decode", ends[1], ends[2], timing.decode)
