"""A time limit for whoever compiles or asks for a mask, kept by the front ends and the automaton as they work.

It is a limit of the calling thread's current operation, not of a grammar: what was found out before it is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from stemma.fsm.errors import LimitError

_END: ContextVar[float] = ContextVar("stemma_fsm_end", default=float("inf"))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """`check_time` raises once so many seconds are over; an outer limit holds on."""
    token = _END.set(min(_END.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _END.reset(token)


def check_time() -> None:
    """Raises LimitError if the time is over. Cheap, but not for innermost loops."""
    if time.monotonic() > _END.get():
        raise LimitError("this takes longer than the limits allow (Limits.seconds); simplify the schema or expression")
