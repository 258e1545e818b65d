"""Tokens that were sampled on a device, which may be there later than the call that asked for them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stemma.kernels.changes import LogProbs

Int32Array = npt.NDArray[np.int32]

MOST_AHEAD = 4096
"""Rows of a step whose tokens the next one may name before the host knows them: a device keeps so many."""


class Sampled(Protocol):
    """One token of each row of logits, under way."""

    def tokens(self) -> Int32Array:
        """Waits until all that was asked of the device up to the sampling is done."""


class Known(NamedTuple):
    """Tokens that are there."""

    ids: Int32Array

    def tokens(self) -> Int32Array:
        return self.ids


class Reported(Protocol):
    """Log-probabilities of sampled tokens, under way."""

    def log_probs(self) -> LogProbs:
        """Waits for the tokens and for these."""


class KnownLogProbs(NamedTuple):
    """Log-probabilities that are there."""

    found: LogProbs

    def log_probs(self) -> LogProbs:
        return self.found


class AtOnce:
    """For the `Ops` of a device that computes while the host waits: nothing is gained by asking ahead, and any thread
    is as good as another."""

    runs_ahead = False

    def total_memory(self) -> int | None:
        return None

    def free_unused(self) -> None:
        """The host's allocator keeps nothing that counts."""

    def warm(self, *given: Any, **named: Any) -> int:
        """Operations are compiled when they are packed."""
        return 0

    def on_device(self) -> AbstractContextManager[None]:
        return nullcontext()

    def begin_sample(self, logits: Any, rows: Any) -> Known:
        return Known(self.sample(logits, rows))  # type: ignore[attr-defined]  # of the class that this is mixed into

    def begin_log_probs(self, logits: Any, sampled: Any, rows: Int32Array, count: int) -> KnownLogProbs:
        found: LogProbs = self.log_probs(logits, sampled.tokens()[rows], count)  # type: ignore[attr-defined]
        return KnownLogProbs(found)
