"""What a step takes, by how many tokens it computes and samples: learnt from the steps themselves.

A step's time is a scale times a shape. The scale goes up and down with contexts and with what else the machine does,
and follows each step; the shape, how many times longer than one token a step of so many takes, is the machine's and the
model's, and settles. So what is known of sizes that were not seen for a while stays right.
"""

from __future__ import annotations

from bisect import bisect_left

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Steps are of these sizes where that can be chosen: a back end may prepare each size once."""
FIRST_SLOPE = 0.15
"""Of a token more, in steps of one token, while nothing larger was seen."""
MOST_SURPRISE = 2.0
"""A step that was interrupted, or the first of its size, is believed so far at most."""
NUM_SETTLED = 16
"""Measurements after which the scale moves and the shape hardly does."""
SCALE_RATE = 0.1
NUM_PREPARING = 2
"""The first steps of a size may be slower than it is: a back end prepares it."""
FORGET_AFTER, FORGET_TO = 256, 0.9
"""So many steps after it was last seen a size is taken to be so much cheaper: what was bad luck is tried again."""


class StepCost:
    """Relative: a step of one token costs 1."""

    __slots__ = ("_counts", "_scale", "_seen_at", "_shape", "_step")

    def __init__(self) -> None:
        self._scale = 0.0  # seconds of a step whose shape is 1
        self._shape = [1.0] + [0.0] * (len(SIZES) - 1)
        self._counts = [0] * len(SIZES)
        self._seen_at = [0] * len(SIZES)
        self._step = 0

    def relative(self, seconds: float) -> float:
        """So many seconds in steps of one token."""
        return seconds / (self._scale * self._shape[0]) if self._scale else FIRST_SLOPE

    def took(self, num_tokens: int, seconds: float) -> None:
        """A step of so many tokens, each of which was sampled, took so long."""
        at = bisect_left(SIZES, num_tokens)
        if at == len(SIZES) or seconds <= 0:
            return
        self._forget()
        expected = self._expected(num_tokens)
        if not self._scale:
            self._scale = seconds / expected
        surprise = min(max(seconds / (self._scale * expected), 1 / MOST_SURPRISE), MOST_SURPRISE)
        if SIZES[at] == num_tokens:
            if self._counts[at] < NUM_PREPARING and surprise > 1:
                surprise = 1.0
            share = 1 / (1 + min(self._counts[at], NUM_SETTLED))
            self._shape[at] = expected * surprise**share
            self._counts[at] += 1
            self._seen_at[at] = self._step
            surprise **= 1 - share
        self._scale *= surprise**SCALE_RATE

    def _forget(self) -> None:
        self._step += 1
        if self._step % FORGET_AFTER:
            return
        for at, seen_at in enumerate(self._seen_at[1:], 1):
            if self._counts[at] and self._step - seen_at >= FORGET_AFTER:
                self._shape[at] *= FORGET_TO
                self._counts[at] = NUM_PREPARING

    def of(self, num_tokens: int) -> float:
        """What a step of so many tokens costs; never less than one of fewer."""
        return self._expected(num_tokens) / self._shape[0]

    def _expected(self, num_tokens: int) -> float:
        """Between sizes that were seen, in proportion; behind the last, as it rose up to there."""
        before, shape = 1, self._shape[0]
        for at in range(1, len(SIZES)):
            if not self._counts[at]:
                continue
            size, here = SIZES[at], max(self._shape[at], shape)
            if size >= num_tokens:
                return shape + (here - shape) * (num_tokens - before) / (size - before)
            before, shape = size, here
        slope = (shape - self._shape[0]) / (before - 1) if before > 1 else FIRST_SLOPE * shape
        return shape + slope * (num_tokens - before)
