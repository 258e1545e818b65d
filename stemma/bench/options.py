"""How a server is loaded, as options of a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stemma.bench.pacing import Pace
from stemma.runtime.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What is asked, how fast, and what counts as good.

    model: as the server calls it; its first if left out.
    trace: a JSONL trace instead of a made workload: texts, Mooncake's form or Bailian's.
    requests: sessions of each run; of a trace the first so many.
    rates: sessions a second; several are run in turn.
    burstiness: of a rate: 1 is a Poisson process, less comes in bursts, inf evenly.
    concurrency: sessions at once; several are run in turn.
    speed: play a trace by its own times, so many times as fast.
    ttft_ms: target, milliseconds to the first token.
    tpot_ms: target, milliseconds of a further token.
    warmup: sessions before, one at a time, that do not count.
    timeout: seconds without a byte after which a request has failed.
    """

    model: str | None = None
    trace: Path | None = None
    requests: int = 64
    rates: tuple[float, ...] = ()
    burstiness: float = 1.0
    concurrency: tuple[int, ...] = ()
    speed: float | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    warmup: int = 2
    timeout: float = 600.0

    def __post_init__(self) -> None:
        if self.requests < 1 or self.warmup < 0:
            raise InvalidRequest("requests must be at least 1, and warmup at least 0", "requests")
        if self.speed is not None and self.trace is None:
            raise InvalidRequest("speed plays a trace by its own times: give a trace", "speed")
        for name in ("timeout", "ttft_ms", "tpot_ms"):
            if (limit := getattr(self, name)) is not None and not limit > 0:
                raise InvalidRequest(f"{name} must be more than 0", name)

    @property
    def paces(self) -> list[Pace]:
        """Of each run; one session after the other where nothing else is said."""
        paces = [Pace(rate=rate, burstiness=self.burstiness) for rate in self.rates]
        paces += [Pace(concurrency=count) for count in self.concurrency]
        paces += [] if self.speed is None else [Pace(speed=self.speed)]
        return paces or [Pace(concurrency=1)]
