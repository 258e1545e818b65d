"""Counts of what was answered, by path and status, and by tenant. Written on the event loop alone."""

from __future__ import annotations

from collections import Counter, defaultdict

from stemma.runtime.engine import Metrics
from stemma.server.http.record import RequestRecord


class RequestCounts:
    """Requests since the start. of_tenants: of each key, what its requests were; there are no more names than keys."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.answered_to: defaultdict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
        self.of_tenants: defaultdict[str, Metrics] = defaultdict(Metrics)
        self.num_gone = 0
        self.num_open = 0

    def ended(self, record: RequestRecord) -> None:
        """One more request has ended."""
        if record.status:
            self.answered[record.path, record.status] += 1
            self.answered_to[record.tenant][record.path, record.status] += 1
        if not record.is_outlived:
            self.generated(record)

    def generated(self, record: RequestRecord) -> None:
        """What its completions were."""
        metrics = self.of_tenants[record.tenant]
        for completion in record.completions:
            metrics.ended(completion.finish_reason, completion.usage)
            metrics.completed(completion.usage, completion.timing)
