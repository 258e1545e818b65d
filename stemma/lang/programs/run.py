"""One run of a program: its value or its error, and what it did."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeVar

from stemma.lang.reports.report import Report
from stemma.lang.reports.trace import TraceNode
from stemma.runtime.core.sequence import Usage

if TYPE_CHECKING:
    from stemma.lang.states.state import State

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class ProgramCall(Generic[R_co]):
    """A program's body with arguments, to be run on a state."""

    body: Callable[Concatenate[State, ...], Coroutine[Any, Any, R_co]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run(Generic[R]):
    """What became of one input. index: its place among the inputs. error: what ended it, if it failed."""

    index: int
    error: Exception | None
    trace: TraceNode
    _value: R | None

    @property
    def value(self) -> R:
        """What the program returned. Raises the error if it failed."""
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]  # R may itself be None

    @property
    def usage(self) -> Usage:
        """Where all its tokens came from."""
        return self.trace.total_usage

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.trace.seconds

    def report(self) -> Report:
        """A tree of its steps with their tokens and milliseconds: print it, or show it in a notebook."""
        return Report(self.trace)
