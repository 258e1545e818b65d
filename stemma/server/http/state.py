"""What a server keeps to answer anything at all: who may come in, how many are inside, whether it is ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from stemma.server.config import ServerConfig
from stemma.server.http.admission_limiter import AdmissionLimiter
from stemma.server.http.keys import KeyRing, Tenant
from stemma.server.http.request_log import RequestCounts
from stemma.server.http.unused_fields import UnusedFields

P = ParamSpec("P")
T = TypeVar("T")
NUM_WORKERS = 4


class HttpState:
    """Lives as long as the server.

    stopping: set when the server ends. is_over: set when those who are still waiting then are sent away.
    """

    def __init__(self, config: ServerConfig, capacity: int, entered: Callable[[], None]) -> None:
        """capacity: sequences that may be inside. entered: called when a request comes in."""
        self.config = config
        self.keys = KeyRing(config.api_keys)
        self.limiter = AdmissionLimiter(capacity, config.max_requests_per_key, entered)
        self.counts = RequestCounts()
        self.unused_fields = UnusedFields()
        self.stopping = asyncio.Event()
        self.is_over = asyncio.Event()
        self._workers = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="stemma-server")

    def sees_totals(self, tenant: Tenant) -> bool:
        """Whether this caller may be told numbers of all requests: an admin, or who is alone."""
        return tenant.is_admin or len(self.config.api_keys) == 1

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what takes time (tokenizing, compiling, asking the engine) beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Let go of threads."""
        self.stopping.set()
        self._workers.shutdown(wait=False, cancel_futures=True)
