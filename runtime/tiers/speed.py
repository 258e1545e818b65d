"""How long reads of a tier take, learnt from those that were made: a wait for the first byte, and a rate behind it."""

from __future__ import annotations

WEIGHT = 0.2
"""Of the newest read."""
SMALL_BYTES = 1 << 16
"""A read of fewer says nothing of the rate."""


class Speed:
    """Of one tier. seconds: of all reads."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.rate: float | None = None  # bytes a second

    def waited(self, seconds: float) -> None:
        """A question without payload took so long."""
        self.latency += WEIGHT * (seconds - self.latency)

    def read(self, num_bytes: int, seconds: float) -> None:
        """So many bytes took so long."""
        if num_bytes < SMALL_BYTES:
            return
        rate = num_bytes / max(seconds, 1e-9)
        self.rate = rate if self.rate is None else 1 / (WEIGHT / rate + (1 - WEIGHT) / self.rate)

    def seconds(self, num_bytes: int) -> float | None:
        """How long so many bytes will take; None while nobody knows."""
        return None if self.rate is None else self.latency + num_bytes / self.rate
