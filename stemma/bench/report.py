"""What a run comes to: latencies, throughput, the share of prompts that was cached, and goodput against a target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from stemma.bench.client import Record
from stemma.bench.run import Measured


class Target(NamedTuple):
    """What a request must meet to count as good: seconds, None is anything (goodput, Zhong et al. 2024, DistServe)."""

    ttft: float | None = None
    tpot: float | None = None

    def is_met(self, record: Record) -> bool:
        if record.error is not None:
            return False
        in_time = self.ttft is None or record.ttft <= self.ttft
        return in_time and (self.tpot is None or record.tpot is None or record.tpot <= self.tpot)


class Spread(NamedTuple):
    """Of one latency, seconds; NaN where nothing was measured."""

    mean: float
    p50: float
    p90: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one run. pace: its name. failed: requests without a whole answer, counted by why.

    requests_a_second, output_tokens_a_second, tokens_a_second: of those that ended well, in the run's whole time.
    ttft, tpot, inter_token, total: see Record. lateness: how far behind the pace the load generator itself was: where
        that is not small, it was what limited.
    hit_rate: cached tokens of prompt tokens; None where the server does not say.
    goodput: requests a second that met the target. good_share: of all requests.
    """

    pace: str
    num_requests: int
    failed: dict[str, int]
    seconds: float
    requests_a_second: float
    output_tokens_a_second: float
    tokens_a_second: float
    mean_prompt_tokens: float
    mean_completion_tokens: float
    ttft: Spread
    tpot: Spread
    inter_token: Spread
    total: Spread
    lateness: Spread
    hit_rate: float | None
    goodput: float
    good_share: float

    def as_json(self) -> dict[str, Any]:
        """Plain values; what was not measured is null."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def summary(measured: Measured, target: Target) -> Summary:
    """Of all that was recorded."""
    records, seconds = measured.records, max(measured.seconds, 1e-9)
    done = [record for record in records if record.error is None]
    prompt = sum(record.prompt_tokens for record in done)
    output = sum(record.completion_tokens for record in done)
    cached = [record.cached_tokens for record in done if record.cached_tokens is not None]
    good = sum(target.is_met(record) for record in records)
    return Summary(
        pace=measured.pace.name,
        num_requests=len(records),
        failed=dict(Counter(record.error for record in records if record.error is not None)),
        seconds=measured.seconds,
        requests_a_second=len(done) / seconds,
        output_tokens_a_second=output / seconds,
        tokens_a_second=(prompt + output) / seconds,
        mean_prompt_tokens=prompt / len(done) if done else math.nan,
        mean_completion_tokens=output / len(done) if done else math.nan,
        ttft=spread([record.ttft for record in done]),
        tpot=spread([record.tpot for record in done if record.tpot is not None]),
        inter_token=spread([gap for record in done for gap in record.gaps]),
        total=spread([record.total for record in done]),
        lateness=spread([record.sent - record.due for record in records]),
        hit_rate=sum(cached) / prompt if cached and prompt else None,
        goodput=good / seconds,
        good_share=good / len(records) if records else 0.0,
    )


def spread(values: Sequence[float]) -> Spread:
    """Percentiles are the least value that so many are not above (nearest rank)."""
    if not values:
        return Spread(*[math.nan] * 5)
    ordered = sorted(values)

    def rank(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return Spread(sum(ordered) / len(ordered), rank(0.5), rank(0.9), rank(0.99), ordered[-1])


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return None if isinstance(value, float) and math.isnan(value) else value
