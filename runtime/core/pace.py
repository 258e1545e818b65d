"""How long steps take, learnt from those that were computed, and how much of prompts a step may have beside decodes.

    seconds = a + b * prompt tokens + c * decoded tokens + d * KV read by decodes + e * (prompt tokens x KV before them)

Least squares over the last steps with prompts and the last ones without, each forgotten at their own pace, so that
long decodes leave what is known of prompts as it is; no factor below nothing (Lawson and Hanson 1974, 23). A step
that took far longer than the others do counts as one that took a few times their usual error longer, so that a hiccup
of the machine is no fact of the model. Chunks of prompts run beside decodes as in Sarathi-Serve (Agrawal et al. 2024);
there the budget is found beforehand for a machine, here it follows from what is learnt. Has no clock: it is told how
long a step took.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Factors: TypeAlias = npt.NDArray[np.float64]

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
RIDGE = 1e-3
"""Added to each factor's square: where steps are all alike they do not say whose time it was, and it is divided."""
PLAIN_EVERY = 16
"""Of the steps without prompts so many make one that is learnt: a decode is like the next."""
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

    @property
    def factors(self) -> tuple[float, ...]:
        """In units of SCALES."""
        _, prompt, decoded, read, pairs = SCALES
        return 1.0, self.num_prompt / prompt, self.num_decoded / decoded, self.num_read / read, self.num_pairs / pairs


NOTHING = Load()


class _Memory:
    """Steps of one kind, as sums of products of their factors with each other and with their seconds."""

    def __init__(self) -> None:
        self.squares = np.zeros((len(SCALES), len(SCALES)))
        self.products = np.zeros(len(SCALES))
        self.count = 0

    def add(self, factors: Factors, seconds: float) -> None:
        """One more; the others count less."""
        self.squares = FORGETTING * self.squares + np.outer(factors, factors)
        self.products = FORGETTING * self.products + seconds * factors
        self.count += 1


class StepCost:
    """The formula above; no factor makes a step cheaper."""

    def __init__(self) -> None:
        self._mixed, self._plain = _Memory(), _Memory()
        self._weights: list[float] = [0.0] * len(SCALES)
        self._usual_error = 0.0
        self._num_plain = 0

    @property
    def is_known(self) -> bool:
        """Whether enough was seen to predict anything."""
        return self._mixed.count >= NUM_TO_KNOW and self._plain.count >= NUM_TO_KNOW

    @property
    def knows_prompts(self) -> bool:
        """Whether enough was seen to predict how long prompts take."""
        return self._mixed.count >= NUM_TO_KNOW

    def learn(self, load: Load, seconds: float) -> None:
        """A step of this load took so long."""
        if not load.num_prompt:
            self._num_plain += 1
            if self._num_plain > NUM_TO_KNOW and self._num_plain % PLAIN_EVERY:
                return
        expected = self.seconds(load)
        error, most = seconds - expected, MOST_ERRORS * self._usual_error
        self._usual_error += 0.1 * (min(abs(error), 2 * most or abs(error)) - self._usual_error)
        if self._mixed.count + self._plain.count > 4 * NUM_TO_KNOW:
            seconds = expected + max(-most, min(most, error))
        memory = self._mixed if load.num_prompt else self._plain
        memory.add(np.array(load.factors), seconds)
        self._fit()

    def _fit(self) -> None:
        """The factors that fit best; whichever would be below nothing is nothing, the worst first."""
        squares = self._mixed.squares + self._plain.squares + RIDGE * np.eye(len(SCALES))
        products = self._mixed.products + self._plain.products
        free = list(range(len(SCALES)))
        while free:
            found = np.linalg.solve(squares[np.ix_(free, free)], products[free])
            worst = int(found.argmin())
            if found[worst] >= 0:
                break
            del free[worst]
        self._weights = [0.0] * len(SCALES)
        for index, weight in zip(free, found.tolist() if free else (), strict=True):
            self._weights[index] = weight

    def seconds(self, load: Load) -> float:
        """How long such a step will take."""
        return sum(weight * factor for weight, factor in zip(self._weights, load.factors, strict=True))

    def chunk(self, decodes: Load, context: int, seconds: float) -> int:
        """Tokens of a prompt, behind `context` of its own, with which a step of these decodes takes so long; 0 where
        steps have not said what prompts take."""
        each = self._weights[1] / SCALES[1] + self._weights[4] * context / SCALES[4]
        left = seconds - self.seconds(decodes)
        return math.floor(left / each) if each > 0 else 0

    def decoded(self, seconds: float) -> int:
        """Decoded tokens with which a step takes so long."""
        each = self._weights[2] / SCALES[2]
        return max(math.floor((seconds - self._weights[0]) / each), 0) if each > 0 else MOST


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

    def most_decoded(self) -> int:
        """Tokens that sequences past their prompts may have in a step, drafts among them."""
        if self._tpot is None or not self.cost.is_known:
            return MOST
        return self.cost.decoded(AIM * self._tpot)

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
