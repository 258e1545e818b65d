"""When sessions begin: so many at once, at a rate, or when a trace says."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from stemma.bench.workloads import Session
from stemma.runtime.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Pace:
    """One of three; nothing given is one session after the other.

    concurrency: sessions under way at once, the next as soon as one ends (a closed loop).
    rate: sessions a second, whether the server keeps up or not (an open loop).
    burstiness: of a rate: 1 is a Poisson process, less comes in bursts, more evenly (gamma-distributed gaps of that
        shape); infinity is a fixed gap.
    speed: of a trace: 2 plays it in half the time.
    """

    concurrency: int | None = None
    rate: float | None = None
    burstiness: float = 1.0
    speed: float | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.concurrency, self.rate, self.speed)) > 1:
            raise InvalidRequest("a concurrency, a rate, and the times of a trace exclude each other", "rate")
        if self.concurrency is not None and self.concurrency < 1:
            raise InvalidRequest("concurrency must be at least 1", "concurrency")
        for name in ("rate", "burstiness", "speed"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and (math.isfinite(value) or name == "burstiness")):
                raise InvalidRequest(f"{name} must be more than 0", name)

    @property
    def most_at_once(self) -> int | None:
        """None where nothing waits for anything."""
        return None if self.rate is not None or self.speed is not None else self.concurrency or 1

    @property
    def name(self) -> str:
        if self.rate is not None:
            return f"{self.rate:g} a second"
        return (
            "as traced"
            if self.speed == 1
            else f"traced, {self.speed:g}x"
            if self.speed
            else f"{self.most_at_once} at once"
        )

    def starts(self, sessions: Sequence[Session], seed: int) -> list[float]:
        """Seconds from the start at which each may begin. Raises InvalidRequest for a trace without times."""
        if self.speed is not None:
            if any(session.at is None for session in sessions):
                raise InvalidRequest("the trace has no timestamps: give a rate or a concurrency", "trace")
            return [(session.at or 0.0) / self.speed for session in sessions]
        if self.rate is None:
            return [0.0] * len(sessions)
        chance, at, starts = random.Random(seed), 0.0, []
        for _ in sessions:
            starts.append(at)
            gap = 1.0 if math.isinf(self.burstiness) else chance.gammavariate(self.burstiness, 1 / self.burstiness)
            at += gap / self.rate
        return starts
