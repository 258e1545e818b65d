"""GET /metrics: the engine's counters and the server's own, as Prometheus or OpenMetrics. Reads, counts nothing itself.

Who may read what: without keys everybody everything, likewise with --open-metrics. With keys an admin everything, and
so the only key there is; a tenant among others what its own requests were: totals would tell what others asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from stemma.runtime.engine import EngineStats, Metrics
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.status.families import Reading
from stemma.server.status.own_metrics import own_metrics
from stemma.server.status.peer_metrics import sglang_metrics, vllm_metrics

RATE_SECONDS = 1.0
"""Readings that follow each other faster tell the same rate."""


class MetricsApi:
    """The endpoint, with what it read before."""

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._num_given = 0
        self._rate = 0.0

    async def metrics(self, context: RequestContext[Service, None]) -> Response:
        """One reading. Raises ApiError (401) for who needs a key and has none."""
        service, headers = context.service, context.request.headers
        if service.config.open_metrics:
            sees_all, name = True, ""
        else:
            tenant = service.keys.tenant(headers.get("authorization"), headers.get("x-api-key"))
            sees_all, name = service.sees_totals(tenant), tenant.name
        if sees_all:
            stats = await service.work(service.engine.stats)
            reading = Reading(service, stats.metrics, stats, None, self._tokens_per_second(stats))
        else:
            reading = Reading(service, service.counts.of_tenants.get(name) or Metrics(), None, name)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(ReadingCollector(reading))
        encode, media_type = choose_encoder(headers.get("accept", ""))
        return Response(encode(registry), media_type=media_type)

    def _tokens_per_second(self, stats: EngineStats) -> float:
        now = time.monotonic()
        if now - self._read_at >= RATE_SECONDS:
            num_given = sum(stats.metrics.ttft.counts) + sum(stats.metrics.inter_token.counts)
            self._rate = (num_given - self._num_given) / (now - self._read_at)
            self._read_at, self._num_given = now, num_given
        return self._rate


@dataclass(frozen=True, slots=True, eq=False)
class ReadingCollector(Collector):
    """A reading under the names that were asked for."""

    reading: Reading

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        yield from own_metrics(self.reading)
        config = self.reading.service.config
        if config.vllm_metric_names:
            yield from vllm_metrics(self.reading)
        if config.sglang_metric_names:
            yield from sglang_metrics(self.reading)
