"""Those whose first token must come in time, and who of them cannot be in time any more. Has no clock."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable

from stemma.runtime.core.sequence import Sequence
from stemma.runtime.errors import DeadlineMissed

MAX_LOOKS = 16
"""So many of the earliest deadlines are looked at in a step."""

DOUBT = 0.8
"""What counts of an estimate: one that may be in time goes on."""


class Deadlines:
    """Of sequences that wait, or whose prompts are computed."""

    def __init__(self) -> None:
        self._earliest: list[Sequence] = []

    def __bool__(self) -> bool:
        return bool(self._earliest)

    def add(self, sequence: Sequence) -> None:
        """One that has a deadline, or has none."""
        if sequence.deadline < math.inf:
            insort(self._earliest, sequence, key=_deadline)

    def discard(self, sequence: Sequence) -> None:
        """It has met its deadline, or ended."""
        if sequence.deadline < math.inf and sequence in self._earliest:
            self._earliest.remove(sequence)

    def missed(self, now: float, seconds: Callable[[Sequence], float]) -> list[Sequence]:
        """Those that cannot be in time if the earliest deadlines go first. seconds: until a prompt is computed, if
        nothing else is."""
        missed: list[Sequence] = []
        busy_until = now
        for sequence in self._earliest[:MAX_LOOKS]:
            ready = busy_until + DOUBT * seconds(sequence)
            if ready > sequence.deadline:
                missed.append(sequence)
            else:
                busy_until = ready
        return missed


def missed_deadline(sequence: Sequence) -> DeadlineMissed:
    """The error for the caller."""
    left = sequence.num_prompt - sequence.num_computed if sequence.lease is not None else sequence.num_prompt
    within = 0.0 if sequence.request.ttft is None else 1000 * sequence.request.ttft
    what = f"{left} of its {sequence.num_prompt} prompt tokens are still to be computed" if left else "it came later"
    return DeadlineMissed(
        f"the first token cannot come within ttft_ms={within:g}: {what}; ask again later, allow more time or raise its "
        "priority"
    )


def _deadline(sequence: Sequence) -> float:
    return sequence.deadline
