"""A bar on standard error, or in a notebook's cell, while many requests or runs are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from stemma.runtime.core.checking import describe
from stemma.runtime.engine.generation import Completion, Generation
from stemma.runtime.errors import InvalidRequest

Report = Callable[[str, float], None]


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yields a function of how many are done and how many there are."""
    # Here, not above: an engine is there sooner without them.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None)

        def report(num_done: int, num_items: int | None) -> None:
            bars.update(task, completed=num_done, total=num_items)

        yield report


def check_progress(progress: object) -> None:
    """Raises InvalidRequest for what is neither True, False, None nor a function."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InvalidRequest(f"progress must be True or a function; it is {describe(progress)}", "progress")


def shown(progress: bool | Report | None, what: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """What to call with how many are done, and of how many: a bar for True, a caller's function, or nothing."""
    if progress is True:
        return bar(what)
    if callable(progress):
        report = progress
        return nullcontext(lambda num_done, num_items: report(what, num_done / num_items))
    return nullcontext(lambda num_done, num_items: None)


def wait(generations: Sequence[Generation], progress: bool | Report | None) -> list[Completion]:
    """The results in order. Whatever ends the wait ends the requests that are left."""
    completions = []
    try:
        with shown(progress, "generating") as report:
            for generation in generations:
                completions.append(generation.result())
                report(len(completions), len(generations))
    finally:
        for generation in generations[len(completions) :]:
            generation.cancel()
    return completions
