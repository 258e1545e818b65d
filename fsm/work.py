"""How much work one operation (to compile, to compute a mask, to take a step) may take, counted and never timed: what
compiles on an idle machine compiles on a busy one, and what is refused is refused everywhere.

Front ends and automaton count as they go, a unit for about a microsecond of an idle machine. It is a limit of the
calling thread's current operation, not of a grammar: what was found out before it is kept.
"""

from __future__ import annotations

from contextvars import ContextVar

from stemma.fsm.errors import LimitError


class _Allowance:
    """The units that are left."""

    __slots__ = ("left",)

    def __init__(self, left: float) -> None:
        self.left = left


_ALLOWANCE: ContextVar[_Allowance | None] = ContextVar("stemma_fsm_work", default=None)


class work_limit:
    """`count_work` raises once so many units are done; an outer limit holds on, and pays for what is done inside."""

    __slots__ = ("_first", "_inner", "_outer", "_token", "_units")

    def __init__(self, units: int) -> None:
        self._units = units

    def __enter__(self) -> None:
        self._outer = outer = _ALLOWANCE.get()
        self._first = self._units if outer is None else min(self._units, outer.left)
        self._inner = _Allowance(self._first)
        self._token = _ALLOWANCE.set(self._inner)

    def __exit__(self, *_: object) -> None:
        _ALLOWANCE.reset(self._token)
        if self._outer is not None:
            self._outer.left -= self._first - self._inner.left


def count_work(units: int) -> None:
    """Raises LimitError if more is done than may be. Cheap, but not for innermost loops."""
    allowance = _ALLOWANCE.get()
    if allowance is not None:
        allowance.left -= units
        if allowance.left < 0:
            raise LimitError(
                "this takes more work than the limits allow (Limits.work); simplify the schema or expression"
            )
