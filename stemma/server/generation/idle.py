"""What is computed while nobody asks for anything: one thing at a time, given up when a request comes.

request 1 | answer, idle work ........ | request 2: what was computed is cached, the rest is given up
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from stemma.runtime.engine import Engine, Generation, RequestOptions
from stemma.runtime.errors import EngineClosed, InvalidRequest

WHEN_IDLE = -(2**31)
"""The priority of what nobody waits for."""


class IdleWork:
    """Any thread may use it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._num_requests = 0
        self._under_way: Generation | None = None

    def ticket(self) -> int:
        """To be shown by work that begins now: it is void when a request has come since."""
        return self._num_requests

    def compute(self, ticket: int, tokens: Sequence[int], options: RequestOptions) -> None:
        """Have these tokens in the cache, where a request with these options finds them, if no request has come since
        the ticket was taken."""
        namespace, lora = options["namespace"], options["lora"]
        with self._lock, suppress(EngineClosed, InvalidRequest):  # what does not fit is not needed
            if ticket == self._num_requests:
                self._give_up()
                self._under_way = self._engine.submit(
                    tokens, max_tokens=0, namespace=namespace, lora=lora, priority=WHEN_IDLE
                )

    def give_way(self) -> None:
        """A request comes."""
        with self._lock:
            self._num_requests += 1
            self._give_up()

    def _give_up(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None
