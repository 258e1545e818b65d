"""Where the time of steps goes. Laps follow each other, so every moment of a step is some phase's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Phases(NamedTuple):
    """Seconds.

    schedule: choosing rows and blocks. drafts: guessing what comes, a draft model's time too, and learning whether
    that was right. forward: the model. masks: what grammars allow. sample: logits to tokens. commit: samples taken,
    prefixes published. jumps: finding what grammars force. text: tokens to text, and callers told.
    """

    schedule: float = 0.0
    drafts: float = 0.0
    forward: float = 0.0
    masks: float = 0.0
    sample: float = 0.0
    commit: float = 0.0
    jumps: float = 0.0
    text: float = 0.0

    def since(self, before: Phases) -> Phases:
        """What was added since then."""
        return Phases(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def total(self) -> float:
        return sum(self)


class Stopwatch:
    """Adds up the laps of all steps. clock: seconds; this layer has none of its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = 0.0
        self._seconds = dict.fromkeys(Phases._fields, 0.0)

    def start(self) -> float:
        """A step begins now."""
        self._last = self._clock()
        return self._last

    def lap(self, phase: str) -> float:
        """What passed since the last lap was this phase; how long that was."""
        now = self._clock()
        taken, self._last = now - self._last, now
        self._seconds[phase] += taken
        return taken

    def aside(self, phase: str, function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """What this call takes is this phase, and not that of the lap that it is part of."""
        started = self._clock()
        try:
            return function(*given, **named)
        finally:
            taken = self._clock() - started
            self._last += taken
            self._seconds[phase] += taken

    @property
    def phases(self) -> Phases:
        """Of all steps so far."""
        return Phases(**self._seconds)


def unwatched() -> Stopwatch:
    """Of one who is asked for no times."""
    return Stopwatch(lambda: 0.0)
