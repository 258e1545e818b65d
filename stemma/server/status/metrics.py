"""GET /metrics: the engine's counters and the server's own, in Prometheus' format. Reads, counts nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from stemma.runtime.engine import EngineStats
from stemma.runtime.engine.metrics import BUCKETS, Histogram
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext


async def metrics(context: RequestContext[Service, None]) -> Response:
    """One reading."""
    service = context.service
    stats = await service.work(service.engine.stats)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineCollector(service, stats))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@dataclass(frozen=True, slots=True, eq=False)
class EngineCollector(Collector):
    """What is true of the engine at one moment."""

    service: Service
    stats: EngineStats

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        yield from self._server()
        yield from self._engine()
        if self.service.config.vllm_metric_names:
            yield from self._in_vllm_names()

    def _server(self) -> Iterator[Metric]:
        service = self.service
        answered = CounterMetricFamily("stemma_http_requests", "Requests answered", labels=["path", "status"])
        for (path, status), count in service.counts.answered.items():
            answered.add_metric([path, str(status)], count)
        yield answered
        yield _counter("stemma_http_disconnects", "Clients that left early", service.counts.num_gone)
        yield _counter(
            "stemma_refused_requests",
            "Requests refused because the server or a key was full",
            service.limiter.num_refused,
        )
        yield _gauge("stemma_http_requests_open", "Requests under way", service.counts.num_open)
        yield _gauge("stemma_remembered_turn_tokens", "Tokens of remembered turns", service.turns.num_tokens)

    def _engine(self) -> Iterator[Metric]:
        stats, cache, usage = self.stats, self.stats.cache, self.stats.metrics.usage
        yield _gauge("stemma_sequences_running", "Sequences that hold KV", stats.num_running)
        yield _gauge("stemma_sequences_waiting", "Sequences in the queue", stats.num_waiting)
        blocks = GaugeMetricFamily("stemma_kv_blocks", "KV blocks by state", labels=["state"])
        for state in ("free", "leased", "cached"):
            blocks.add_metric([state], getattr(cache, state))
        yield blocks
        yield _counter("stemma_cache_hit_tokens", "Prompt tokens found in the cache", cache.hit_tokens)
        yield _counter("stemma_cache_miss_tokens", "Prompt tokens not found", cache.miss_tokens)
        yield _counter("stemma_evicted_blocks", "Blocks evicted", cache.evicted_blocks)
        for name in ("prompt", "completion", "cached", "prefilled", "decoded", "jumped", "recomputed"):
            count = getattr(usage, f"{name}_tokens")
            yield _counter(f"stemma_{name}_tokens", f"Tokens of finished requests: {name}", count)
        yield _counter("stemma_steps", "Batches computed", stats.metrics.num_steps)
        yield _counter("stemma_step_tokens", "Tokens of all batches", stats.metrics.num_step_tokens)
        yield self._finished("stemma_finished_requests", "reason", {})
        for name, text, histogram in self._histograms("stemma_"):
            yield _histogram(name, text, histogram)

    def _in_vllm_names(self) -> Iterator[Metric]:
        stats, cache, usage = self.stats, self.stats.cache, self.stats.metrics.usage
        model = {"model_name": self.service.model_name}
        yield _gauge("vllm:num_requests_running", "Running", stats.num_running, model)
        yield _gauge("vllm:num_requests_waiting", "Waiting", stats.num_waiting, model)
        yield _gauge("vllm:kv_cache_usage_perc", "Share of leased blocks", cache.leased / cache.total, model)
        yield _gauge("vllm:gpu_cache_usage_perc", "Share of leased blocks", cache.leased / cache.total, model)
        queries = cache.hit_tokens + cache.miss_tokens
        yield _counter("vllm:prefix_cache_queries", "Tokens looked up", queries, model)
        yield _counter("vllm:prefix_cache_hits", "Tokens found", cache.hit_tokens, model)
        yield _counter("vllm:prompt_tokens", "Prompt tokens", usage.prompt_tokens, model)
        yield _counter("vllm:generation_tokens", "Generated tokens", usage.completion_tokens, model)
        yield self._finished("vllm:request_success", "finished_reason", model)
        seconds = self.stats.metrics
        for name, histogram in (
            ("time_to_first_token_seconds", seconds.ttft),
            ("time_per_output_token_seconds", seconds.tpot),
            ("e2e_request_latency_seconds", seconds.total),
        ):
            yield _histogram(f"vllm:{name}", name, histogram, model)

    def _histograms(self, prefix: str) -> Iterator[tuple[str, str, Histogram]]:
        seconds = self.stats.metrics
        yield f"{prefix}ttft_seconds", "Submission to first token", seconds.ttft
        yield f"{prefix}tpot_seconds", "Mean time of a further token", seconds.tpot
        yield f"{prefix}request_seconds", "Submission to end", seconds.total

    def _finished(self, name: str, label: str, labels: dict[str, str]) -> Metric:
        family = CounterMetricFamily(name, "Requests that ended", labels=[*labels, label])
        for reason, count in self.stats.metrics.num_finished.items():
            family.add_metric([*labels.values(), reason], count)
        return family


def _gauge(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), value)
    return family


def _counter(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> Metric:
    family = CounterMetricFamily(name, text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), value)
    return family


def _histogram(name: str, text: str, histogram: Histogram, labels: dict[str, str] | None = None) -> Metric:
    family = HistogramMetricFamily(name, text, labels=list(labels or {}))
    buckets, count = [], 0
    for bound, number in zip([*map(str, BUCKETS), "+Inf"], histogram.counts, strict=True):
        count += number
        buckets.append((bound, count))
    family.add_metric(list((labels or {}).values()), buckets, sum_value=histogram.total)
    return family
