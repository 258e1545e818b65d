"""Families of metrics as prometheus-client has them, of one reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from stemma.runtime.engine import EngineStats, Metrics
from stemma.runtime.engine.metrics import Histogram
from stemma.server.generation.service import Service

Labels = Mapping[str, str]


class Reading(NamedTuple):
    """What a caller may be told at one moment. engine: None for a tenant among others, who is told of its own requests.
    metrics: of all requests, or of the tenant's. tokens_per_second: since the reading before."""

    service: Service
    metrics: Metrics
    engine: EngineStats | None
    tenant: str | None
    tokens_per_second: float = 0.0


def gauge(name: str, text: str, value: float, labels: Labels | None = None) -> Metric:
    """One value that goes up and down."""
    family = GaugeMetricFamily(name, text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), value)
    return family


def counter(name: str, text: str, value: float, labels: Labels | None = None) -> Metric:
    """One total."""
    family = CounterMetricFamily(name, text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), value)
    return family


def counters(name: str, text: str, label: str, values: Mapping[str, float], labels: Labels | None = None) -> Metric:
    """A total for each value of a label."""
    family = CounterMetricFamily(name, text, labels=[*(labels or {}), label])
    for key, value in values.items():
        family.add_metric([*(labels or {}).values(), key], value)
    return family


def histogram(name: str, text: str, values: Histogram, labels: Labels | None = None) -> Metric:
    """A histogram with its own buckets."""
    family = HistogramMetricFamily(name, text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), buckets(values), sum_value=values.total)
    return family


def buckets(values: Histogram) -> Sequence[tuple[str, float]]:
    """Cumulated, as Prometheus wants them."""
    made, count = [], 0
    for bound, number in zip([*map(str, values.bounds), "+Inf"], values.counts, strict=True):
        count += number
        made.append((bound, count))
    return made
