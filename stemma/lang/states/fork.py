"""Branches of a program: run side by side, each on a copy of one state; a failure ends the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, Self, TypeVar

from stemma.lang.loops import asynchronous
from stemma.lang.reports.trace import TraceNode
from stemma.radix import NextUse
from stemma.runtime.errors import BranchError


class Forkable(Protocol):
    """What branches run on: a state."""

    trace: TraceNode

    def copy(self, name: str | None = None) -> Self:
        """A second one with the same past. name: what the report calls it."""

    def release(self, next_use: NextUse) -> None:
        """Cancel what is under way and let go of its blocks. next_use: of what it has beyond its origin."""


Forked = TypeVar("Forked", bound=Forkable)
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_NAME = 40
"""Characters of an item that appear in its branch's name."""


async def run_branches(
    state: Forked,
    items: Sequence[Item],
    branch: Callable[[Forked, Item], Coroutine[Any, Any, Result]],
    limit: int | None,
) -> list[Result]:
    """The branches' results in the order of their items.

    Raises BranchError if any fails, after all have ended and their states are let go.
    """
    gate = asyncio.Semaphore(max(len(items), 1) if limit is None else limit)
    failed: dict[int, str] = {}  # by id of the error, the name of its branch

    async def run(own: Forked, item: Item, name: str) -> Result:
        async with gate:
            started = time.perf_counter()
            try:
                return await asynchronous(branch(own, item), name, "branch")
            except Exception as error:
                failed[id(error)] = name
                own.trace.error = repr(error)
                raise
            finally:
                own.trace.seconds = time.perf_counter() - started
                own.release(NextUse.NEVER)  # the program goes on from the state that was forked

    names = [branch_name(branch, item, index) for index, item in enumerate(items)]
    copies = [state.copy(name) for name in names]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(run(own, item, name), name=name)
                for own, item, name in zip(copies, items, names, strict=True)
            ]
    except ExceptionGroup as errors:
        failed_names = [failed[id(error)] for error in errors.exceptions]
        raise BranchError(failed_names, errors.exceptions) from errors.exceptions[0]
    finally:
        for own in copies:  # of branches that were cancelled before they began
            own.release(NextUse.NEVER)
    return [task.result() for task in tasks]


def branch_name(branch: Callable[..., Any], item: object, index: int) -> str:
    """`one['clarity']`, or `one[3]` where an item has no short text of its own."""
    shown = repr(item)
    if len(shown) > MAX_NAME or shown.startswith("<"):
        shown = str(index)
    return f"{getattr(branch, '__name__', 'branch')}[{shown}]"
