"""A bar on standard error, or in a notebook's cell, while many runs are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yields a function of how many are done and how many there are."""
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None)

        def report(num_done: int, num_items: int | None) -> None:
            bars.update(task, completed=num_done, total=num_items)

        yield report
