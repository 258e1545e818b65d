"""Back-pressure: how many sequences and requests are inside. It refuses and never queues; the engine does that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stemma.server.http.errors import too_many, unavailable


class AdmissionLimiter:
    """Counts what goes in and out.

    capacity: sequences inside at which the next request is refused. per_key: requests of one tenant, or None.
    entered: called when somebody comes in.
    """

    def __init__(self, capacity: int, per_key: int | None = None, entered: Callable[[], None] = lambda: None) -> None:
        self.capacity = capacity
        self._entered = entered
        self.num_inside = 0
        self.num_refused = 0
        self._per_key = per_key
        self._inside_of: Counter[str] = Counter()
        self._mean_seconds = 1.0
        self._is_shut = False

    def shut(self) -> None:
        """Nobody comes in any more; those inside may finish."""
        self._is_shut = True

    @contextmanager
    def enter(self, tenant: str, num_sequences: int) -> Iterator[None]:
        """Be inside. Raises ApiError: 429 with Retry-After when it is full, 503 when the server stops."""
        if self._is_shut:
            raise unavailable("the server is shutting down")
        if self.num_inside >= self.capacity:
            self.num_refused += 1
            raise too_many(f"{self.num_inside} sequences are running or waiting; try again later", self._retry_after())
        if self._per_key is not None and self._inside_of[tenant] >= self._per_key:
            self.num_refused += 1
            raise too_many(f"{self._per_key} requests of this key are under way; try again later", self._retry_after())
        self.num_inside += num_sequences
        self._inside_of[tenant] += 1
        self._entered()
        try:
            yield
        finally:
            self.num_inside -= num_sequences
            self._inside_of[tenant] -= 1
            if not self._inside_of[tenant]:
                del self._inside_of[tenant]

    def note_duration(self, seconds: float) -> None:
        """A request took so long: what Retry-After is guessed from."""
        self._mean_seconds += 0.1 * (seconds - self._mean_seconds)

    def _retry_after(self) -> int:
        return min(60, max(1, math.ceil(self._mean_seconds)))
