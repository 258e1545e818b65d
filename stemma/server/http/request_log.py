"""Counts of what was answered, by path and status. Written on the event loop alone."""

from __future__ import annotations

from collections import Counter


class RequestCounts:
    """Requests since the start."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.num_gone = 0
        self.num_open = 0

    def answer(self, path: str, status: int) -> None:
        """One more answer."""
        self.answered[path, status] += 1
