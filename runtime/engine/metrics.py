"""Counters of an engine. Written by the loop's thread alone, read by anybody; no exporter lives here."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from stemma.radix import CacheStats
from stemma.runtime.core.sequence import Usage

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms' buckets, seconds."""


@dataclass(slots=True)
class Histogram:
    """Durations in seconds, counted in BUCKETS; the last count is of all that are longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = next((at for at, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))
        self.counts[index] += 1
        self.total += seconds


@dataclass(slots=True)
class Metrics:
    """Totals since the engine was made."""

    num_steps: int = 0
    num_step_tokens: int = 0
    num_finished: dict[str, int] = field(default_factory=dict)  # by finish reason
    usage: Usage = field(default_factory=Usage)
    ttft: Histogram = field(default_factory=Histogram)
    tpot: Histogram = field(default_factory=Histogram)
    total: Histogram = field(default_factory=Histogram)

    def copy(self) -> Metrics:
        """These totals, which change no more."""
        return deepcopy(self)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """One moment of an engine."""

    num_running: int
    num_waiting: int
    cache: CacheStats
    metrics: Metrics
