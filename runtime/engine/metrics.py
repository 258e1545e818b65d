"""Counters of an engine. Written by the loop's thread alone, read by anybody; no exporter lives here."""

from __future__ import annotations

from bisect import bisect_left
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, get_args

from stemma.radix import CacheStats
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.drafts.drafter import DraftCount
from stemma.runtime.core.sequence import Usage
from stemma.runtime.core.stopwatch import Phases
from stemma.runtime.engine.generation import Timing
from stemma.runtime.tiers import TierStats

BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0
)  # fmt: skip
"""Upper bounds of the buckets of durations, seconds."""
TOKEN_BUCKETS = tuple(digit * 10.0**power for power in range(6) for digit in (1, 2, 5))
"""Upper bounds of the buckets of numbers of tokens: 1, 2, 5, 10, ... 500,000."""


StepKind = Literal["prefill", "mixed", "decode"]
"""Prompts alone; prompts, and sequences that take a token or a few; these alone."""
STEP_KINDS: tuple[StepKind, ...] = get_args(StepKind)


@dataclass(slots=True)
class Histogram:
    """Values counted in buckets, whose upper bounds are these; the last count is of all that are larger."""

    bounds: tuple[float, ...] = BUCKETS
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, or as many that are equal."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count


@dataclass(slots=True)
class StepWork:
    """What the steps of one kind did. seconds: of the model. seen: positions that their rows saw, all together."""

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    seen: int = 0

    def add(self, batch: Batch, seconds: float) -> None:
        """One more step."""
        self.steps += 1
        self.seconds += seconds
        self.tokens += batch.num_tokens
        self.seen += batch.num_seen


def _of_tokens() -> Histogram:
    return Histogram(TOKEN_BUCKETS)


@dataclass(slots=True)
class Metrics:
    """Totals since the engine was made.

    ttft, total: as in Timing. tpot: mean time of a further token, of each request. inter_token: between the steps that
    gave a request more tokens. The others are histograms of each request that ended with a completion; `step_tokens`
    of each batch. phases: where the time of all steps went. steps_of: by what was computed in them.
    """

    num_steps: int = 0
    num_step_tokens: int = 0
    num_preempted: int = 0
    phases: Phases = field(default_factory=Phases)
    steps_of: dict[StepKind, StepWork] = field(default_factory=lambda: {kind: StepWork() for kind in STEP_KINDS})
    num_finished: dict[str, int] = field(default_factory=dict)  # by finish reason
    usage: Usage = field(default_factory=Usage)
    drafts: dict[str, DraftCount] = field(default_factory=dict)  # by source
    ttft: Histogram = field(default_factory=Histogram)
    tpot: Histogram = field(default_factory=Histogram)
    total: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    prefill: Histogram = field(default_factory=Histogram)
    decode: Histogram = field(default_factory=Histogram)
    inference: Histogram = field(default_factory=Histogram)
    inter_token: Histogram = field(default_factory=Histogram)
    prompt_tokens: Histogram = field(default_factory=_of_tokens)
    completion_tokens: Histogram = field(default_factory=_of_tokens)
    max_tokens: Histogram = field(default_factory=_of_tokens)
    step_tokens: Histogram = field(default_factory=_of_tokens)

    def ended(self, reason: str, usage: Usage) -> None:
        """A request ended, well or not."""
        self.num_finished[reason] = self.num_finished.get(reason, 0) + 1
        self.usage += usage

    def completed(self, usage: Usage, timing: Timing) -> None:
        """A request ended with a completion, that took so long."""
        self.ttft.add(timing.ttft)
        self.total.add(timing.total)
        self.queue.add(timing.queue)
        self.prefill.add(timing.ttft - timing.queue)
        self.decode.add(timing.total - timing.ttft)
        self.inference.add(timing.total - timing.queue)
        self.prompt_tokens.add(usage.prompt_tokens)
        self.completion_tokens.add(usage.completion_tokens)
        if usage.completion_tokens > 1:
            self.tpot.add((timing.total - timing.ttft) / (usage.completion_tokens - 1))

    def step(self, batch: Batch, seconds: float) -> None:
        """A batch was computed, in which the model took so long."""
        self.num_steps += 1
        self.num_step_tokens += batch.num_tokens
        self.step_tokens.add(batch.num_tokens)
        kind: StepKind = "decode" if not batch.num_prompt_tokens else "mixed"
        self.steps_of["prefill" if batch.num_prompt_tokens == batch.num_tokens else kind].add(batch, seconds)

    def copy(self) -> Metrics:
        """These totals, which change no more."""
        return deepcopy(self)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """One moment of an engine. tiers: those beneath its cache, the fastest first. num_filled: tokens that came from
    them into the cache. num_left_out: blocks that the way into them had no room for."""

    num_running: int
    num_waiting: int
    cache: CacheStats
    metrics: Metrics
    tiers: tuple[TierStats, ...] = ()
    num_filled: int = 0
    num_left_out: int = 0
