"""How long steps take, learnt from those that were computed, and how much of prompts a step may have beside decodes.

    seconds = a + b * prompt tokens + c * decoded tokens + d * KV read by decodes + e * (prompt tokens x KV before them)

Recursive least squares that forgets (Ljung 1999, 11.2); a step that took far longer than the others do counts as one
that took a few times their usual error longer, so that a machine's hiccup is no fact of the model. Chunks of prompts
run beside decodes as in Sarathi-Serve (Agrawal et al. 2024); there the budget is found beforehand for a machine, here
it follows from what is learnt. Has no clock: it is told how long a step took.
"""

from __future__ import annotations

import math
from typing import NamedTuple

STRETCH = 2.0
"""What a step may take beside streams that somebody reads, as a multiple of the step without prompts; where a time a
token is asked for, that is the bound instead."""

AIM = 0.75
"""Of the time that a token may take: what a step with prompts is planned for. Some take longer than was learnt."""

LEAST_CHUNK = 8
"""Tokens of prompts that every step may have, however long it takes, and while nothing is known: prompts always go on.
Also what chunks are multiples of, so that steps come in few sizes."""

FORGETTING = 0.99
SCALES = (1.0, 64.0, 8.0, 8192.0, 65536.0)
"""What one unit of each factor of a load is here, so that all are near one."""
START = 100.0
MOST_ERRORS = 3.0
"""An error counts as so many times the usual one at most."""
NUM_TO_KNOW = 3
"""Steps with prompts, and without, behind which an estimate is one."""


class Load(NamedTuple):
    """What a step computes. num_read: tokens of KV that decoded tokens attend to. num_pairs: of tokens of prompts and
    tokens of KV before them."""

    num_prompt: int = 0
    num_decoded: int = 0
    num_read: int = 0
    num_pairs: float = 0.0


NOTHING = Load()


class StepCost:
    """The formula above; no factor makes a step cheaper."""

    def __init__(self) -> None:
        size = len(SCALES)
        self._weights = [0.0] * size
        self._spread = [[START * (row == column) for column in range(size)] for row in range(size)]
        self._usual_error = 0.0
        self._num_mixed = self._num_plain = 0

    @property
    def is_known(self) -> bool:
        """Whether enough was seen to predict anything."""
        return self._num_mixed >= NUM_TO_KNOW and self._num_plain >= NUM_TO_KNOW

    @property
    def knows_prompts(self) -> bool:
        """Whether enough was seen to predict how long prompts take."""
        return self._num_mixed >= NUM_TO_KNOW

    def learn(self, load: Load, seconds: float) -> None:
        """A step of this load took so long."""
        if load.num_prompt:
            self._num_mixed += 1
        else:
            self._num_plain += 1
            if self._num_plain > NUM_TO_KNOW and self._num_plain % 4:
                return  # one decode is like the next
        factors = _factors(load)
        spread = self._spread
        moved = [sum(map(_times, row, factors)) for row in spread]
        error = seconds - sum(map(_times, self._weights, factors))
        most = MOST_ERRORS * self._usual_error
        self._usual_error += 0.1 * (min(abs(error), 2 * most or abs(error)) - self._usual_error)
        if self._num_mixed + self._num_plain > 4 * NUM_TO_KNOW:
            error = max(-most, min(most, error))
        gain = 1 / (FORGETTING + sum(map(_times, moved, factors)))
        for index, value in enumerate(moved):
            self._weights[index] += gain * value * error
            row, by = spread[index], gain * value
            spread[index] = [
                min((old - by * other) / FORGETTING, START) if index == column else (old - by * other) / FORGETTING
                for column, (old, other) in enumerate(zip(row, moved, strict=True))
            ]

    def seconds(self, load: Load) -> float:
        """How long such a step will take."""
        return sum(max(weight, 0.0) * factor for weight, factor in zip(self._weights, _factors(load), strict=True))

    def chunk(self, decodes: Load, context: int, seconds: float) -> int:
        """Tokens of a prompt, behind `context` of its own, with which a step of these decodes takes so long."""
        each = max(self._weights[1], 0.0) / SCALES[1] + max(self._weights[4], 0.0) * context / SCALES[4]
        left = seconds - self.seconds(decodes)
        return math.floor(left / each) if each > 0 else MOST


MOST = 1 << 30


class Pace:
    """How many tokens of prompts a step may have, and when a prompt would be through.

    tpot: seconds that a further token may take; None bounds steps by STRETCH, where streams are read.
    """

    def __init__(self, tpot: float | None, max_chunk: int, max_batch_tokens: int) -> None:
        self.cost = StepCost()
        self._tpot = tpot
        self._max_chunk = max_chunk
        self._max_batch_tokens = max_batch_tokens

    def budget(self, decodes: Load, context: int, *, is_read: bool) -> int:
        """Tokens of prompts beside these decodes. context: of the first prompt's tokens, those before. is_read: whether
        somebody reads one of them while it is made."""
        if not decodes.num_decoded or (self._tpot is None and not is_read):
            return MOST
        if not self.cost.is_known:
            return LEAST_CHUNK
        bound = STRETCH * self.cost.seconds(decodes) if self._tpot is None else AIM * self._tpot
        num_tokens = self.cost.chunk(decodes, context, bound)
        return max(num_tokens // LEAST_CHUNK, 1) * LEAST_CHUNK

    def prefill_seconds(self, num_tokens: int, context: int, decodes: Load, *, is_read: bool) -> float:
        """How long it takes, beside these decodes, until so many tokens of a prompt are computed; 0 while nobody
        knows."""
        if not self.cost.knows_prompts:
            return 0.0
        chunk = min(self.budget(decodes, context, is_read=is_read), self._max_chunk, self._max_batch_tokens)
        num_steps = -(-num_tokens // chunk)
        pairs = num_tokens * (context + num_tokens / 2)
        whole = self.cost.seconds(Load(num_tokens, 0, 0, pairs))
        others = self.cost.seconds(decodes)
        return whole + others + (num_steps - 1) * max(others, self.cost.seconds(Load()))


def _factors(load: Load) -> tuple[float, ...]:
    return (
        1.0,
        load.num_prompt / SCALES[1],
        load.num_decoded / SCALES[2],
        load.num_read / SCALES[3],
        load.num_pairs / SCALES[4],
    )


def _times(left: float, right: float) -> float:
    return left * right
