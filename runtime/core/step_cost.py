"""How long steps take, learnt from all that were computed: the one measure of targets, deadlines and drafts.

    seconds = a + b(decoded tokens) + c * KV read by decodes + d * prompt tokens + e * (prompt tokens x KV before them)

b is made of straight lines between KNOTS, since a back end has kernels of its own for few rows, and bends as little as
what was seen allows. Least squares of relative errors over the last steps with prompts and the last ones without, each
forgotten at their own pace, so that long decodes leave what is known of prompts as it is; no factor below nothing
(Lawson and Hanson 1974, 23). A step that took far longer than expected counts as one that took somewhat longer, so
that a hiccup of the machine is no fact of the model. Has no clock: it is told how long a step took.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Factors: TypeAlias = npt.NDArray[np.float64]

KNOTS = (0, 2, 4, 8, 16, 32, 64)
"""Decoded tokens behind which one more may cost something else."""
ENDS = (*KNOTS[1:], math.inf)
BOUND = 128
"""Of so many decoded tokens each number's cost is reckoned when it is learnt."""
UNIT = 8.0
READ_UNIT, PROMPT_UNIT, PAIRS_UNIT = 8192.0, 64.0, 65536.0
"""What one unit of each factor of a load is here, so that all are near one."""
NUM_SLOPES = len(KNOTS)
READ, PROMPT, PAIRS = range(1 + NUM_SLOPES, 4 + NUM_SLOPES)
"""Places of the factors behind what every step costs and what decoded tokens do."""
NUM_FACTORS = 4 + NUM_SLOPES

FIRST_SECONDS = 0.01
"""Of a step, while none was seen."""
FIRST_SLOPE = 0.15
"""Of a decoded token more, in steps of one, while no more were seen."""
STIFFNESS = 0.3
"""How little the cost of decoded tokens bends: what a bend counts beside one step's relative error."""
RIDGE = 1e-2
"""Likewise of the other factors' size: where steps are all alike they do not say whose time it was, and it is
divided."""

LEAST_FIXED = 1e-3
"""Of a step that is as usual, what a step that computes nothing takes at least: none takes nothing."""

FORGETTING = 0.98
"""What is known of steps of one kind counts behind a few more."""
GATHERED = 16
"""Steps that are learnt together: a decode is like the next."""
FORGOTTEN_PROMPTS, FORGOTTEN_PLAIN = 2, 16
"""Steps of either kind behind which what was known counts FORGETTING times as much."""
MOST_SURPRISE = 2.0
"""Times as long as expected that a step counts at most, where such steps are known."""
MOST_CUT = 16.0
"""Times that what a step took is cut at most for that, for an estimate can be wrong too; and times shorter than usual
that a step is taken to be at most, when errors are weighed."""
NUM_TO_KNOW = 3
"""Steps with prompts, and without, behind which an estimate is one."""
NUM_SETTLED = 4 * NUM_TO_KNOW
"""Steps of a kind that are believed, whatever they say, and learnt at once; so are as many between
two knots."""
NUM_PREPARING = 2
"""The first steps of so many decoded tokens may be slower than it is: a back end prepares it. One that is a surprise is
not learnt at all: learnt as what was expected it would weigh more than all those that say how long it takes."""


MOST = 1 << 30
"""Tokens, where nothing bounds them."""


class Load(NamedTuple):
    """What a step computes. num_read: tokens of KV that decoded tokens attend to. num_pairs: of tokens of prompts and
    tokens of KV before them."""

    num_prompt: int = 0
    num_decoded: int = 0
    num_read: int = 0
    num_pairs: float = 0.0


NOTHING = Load()


class _Memory:
    """Steps of one kind, as sums of products of their factors with each other and with their seconds."""

    def __init__(self, forgotten: int) -> None:
        self.squares = np.zeros((NUM_FACTORS, NUM_FACTORS))
        self.products = np.zeros(NUM_FACTORS)
        self.count = 0
        self._forgotten = forgotten
        self._new: list[tuple[Load, float, bool]] = []

    def add(self, load: Load, seconds: float, *, is_new: bool) -> bool:
        """One more. is_new: its like was hardly seen. Returns whether there is enough to learn from."""
        self.count += 1
        is_new = is_new or self.count <= NUM_SETTLED
        self._new.append((load, seconds, is_new))
        return is_new or len(self._new) >= GATHERED

    def learn(self, weights: Factors, usual: float) -> None:
        """What was added counts from now on, the others less. weights: of factors, as they are known so far. usual:
        seconds of a step."""
        if not self._new:
            return
        factors = _factors(*zip(*(load for load, *_ in self._new), strict=True))
        took = np.array([seconds for _, seconds, _ in self._new])
        expected = np.maximum(factors @ weights, took / MOST_CUT)
        cut = np.clip(took, expected / MOST_SURPRISE, expected * MOST_SURPRISE)
        seconds = np.where([is_new for *_, is_new in self._new], took, cut)
        scales = np.maximum(seconds, usual / MOST_CUT)
        factors /= scales[:, None]
        kept = FORGETTING ** (len(self._new) / self._forgotten)
        self.squares = kept * self.squares + factors.T @ factors
        self.products = kept * self.products + factors.T @ (seconds / scales)
        self._new.clear()


class StepCost:
    """The formula above; no factor makes a step cheaper."""

    def __init__(self) -> None:
        self._mixed, self._plain = _Memory(FORGOTTEN_PROMPTS), _Memory(FORGOTTEN_PLAIN)
        self._num_seen: dict[int, int] = {}  # steps without prompts, by decoded tokens, as far as they were prepared
        self._num_between = [0] * NUM_SLOPES  # the same between knots, up to those that are enough
        self._usual = 0.0  # seconds
        self._believe(np.array([FIRST_SECONDS, *[FIRST_SECONDS * FIRST_SLOPE * UNIT] * NUM_SLOPES, 0.0, 0.0, 0.0]))

    @property
    def is_known(self) -> bool:
        """Whether enough was seen to predict anything."""
        return self._mixed.count >= NUM_TO_KNOW and self._plain.count >= NUM_TO_KNOW

    @property
    def knows_decodes(self) -> bool:
        """Whether enough was seen to predict how long steps without prompts take."""
        return self._plain.count >= NUM_TO_KNOW

    @property
    def knows_prompts(self) -> bool:
        """Whether enough was seen to predict how long prompts take."""
        return self._mixed.count >= NUM_TO_KNOW

    # Learning ----------------------------------------------------------------
    def learn(self, load: Load, seconds: float) -> None:
        """A step of this load took so long."""
        if seconds <= 0:
            return
        memory, is_new = self._plain, False
        if load.num_prompt:
            memory = self._mixed
        else:
            is_first = self._is_prepared(load.num_decoded) and self.knows_decodes
            if is_first and seconds > MOST_SURPRISE * self.seconds(load):
                return
            is_new = self._is_new(load.num_decoded)
        if not memory.add(load, seconds, is_new=is_new):
            return
        self._usual = 0.9 * self._usual + 0.1 * seconds if self._usual else seconds
        memory.learn(self._weights, self._usual)
        self._believe(self._fit())

    def _is_new(self, num_decoded: int) -> bool:
        """Whether hardly a step of about so many was seen."""
        at = bisect_left(ENDS, num_decoded)
        self._num_between[at] += self._num_between[at] < NUM_SETTLED
        return self._num_between[at] < NUM_SETTLED

    def _is_prepared(self, num_decoded: int) -> bool:
        """Whether a back end may have had to prepare this step."""
        num_seen = self._num_seen.get(num_decoded, 0)
        if num_seen < NUM_PREPARING:
            self._num_seen[num_decoded] = num_seen + 1
        return num_seen < NUM_PREPARING

    def _fit(self) -> Factors:
        """The factors that fit best; whichever would be below nothing is nothing, the worst first."""
        squares = self._mixed.squares + self._plain.squares + _BENDS / self._usual**2
        products = self._mixed.products + self._plain.products
        free = list(range(NUM_FACTORS))
        weights = np.zeros(NUM_FACTORS)
        while free:
            found = np.linalg.solve(squares[np.ix_(free, free)], products[free])
            worst = int(found.argmin())
            if found[worst] >= 0:
                weights[free] = found
                break
            del free[worst]
        weights[0] = max(weights[0], LEAST_FIXED * self._usual)
        return weights

    def _believe(self, weights: Factors) -> None:
        self._weights = weights
        slopes = weights[1 : 1 + NUM_SLOPES]
        self._decoded: list[float] = (_STEPS @ slopes).tolist()  # seconds of so many decoded tokens
        self._beyond = float(slopes[-1]) / UNIT
        self._fixed, self._read, self._prompt, self._pairs = (
            float(weights[at]) / unit
            for at, unit in ((0, 1.0), (READ, READ_UNIT), (PROMPT, PROMPT_UNIT), (PAIRS, PAIRS_UNIT))
        )

    # Asking ----------------------------------------------------------------
    def seconds(self, load: Load) -> float:
        """How long such a step will take."""
        others = self._read * load.num_read + self._prompt * load.num_prompt + self._pairs * load.num_pairs
        return self._fixed + others + self.of_decoded(load.num_decoded)

    def of_decoded(self, count: int) -> float:
        """How much longer a step takes that decodes so many tokens than one that decodes none."""
        if count <= BOUND:
            return self._decoded[count]
        return self._decoded[BOUND] + self._beyond * (count - BOUND)

    def chunk(self, decodes: Load, context: int, seconds: float) -> int:
        """Tokens of a prompt, behind `context` of its own, with which a step of these decodes takes so long; 0 where
        steps have not said what prompts take."""
        each = self._prompt + self._pairs * context
        left = seconds - self.seconds(decodes)
        return math.floor(left / each) if each > 0 else 0

    def most_decoded(self, num_read: int, seconds: float) -> int:
        """Decoded tokens with which a step that reads so much KV takes so long."""
        left = seconds - self._fixed - self._read * num_read
        if left < self._decoded[BOUND]:
            return max(bisect_right(self._decoded, left) - 1, 0)
        return BOUND + math.floor((left - self._decoded[BOUND]) / self._beyond) if self._beyond > 0 else MOST


def _decoded_factors(decoded: Factors) -> Factors:
    """[number, slopes]: how much of each stretch between knots so many decoded tokens fill."""
    starts, ends = np.array(KNOTS, float), np.array(ENDS)
    filled: Factors = np.clip(decoded[:, None] - starts, 0, ends - starts) / UNIT
    return filled


_STEPS = _decoded_factors(np.arange(BOUND + 1.0))


def _factors(
    prompt: tuple[int, ...], decoded: tuple[int, ...], read: tuple[int, ...], pairs: tuple[float, ...]
) -> Factors:
    """[step, factor] of loads."""
    others = np.array([read, prompt, pairs], float).T / (READ_UNIT, PROMPT_UNIT, PAIRS_UNIT)
    made: Factors = np.hstack([np.ones((len(prompt), 1)), _decoded_factors(np.array(decoded, float)), others])
    return made


def _bends() -> Factors:
    """[factor, factor]: the squares of what each decoded token costs more than one before the last knot, and of
    the factors that have nothing to be compared with."""
    rows = np.zeros((NUM_SLOPES, NUM_FACTORS))
    rows[0, :2] = -FIRST_SLOPE * UNIT, 1.0
    for at in range(1, NUM_SLOPES):
        rows[at, at : at + 2] = -1.0, 1.0
    squares: Factors = STIFFNESS**2 * rows.T @ rows
    for at in (READ, PROMPT, PAIRS):
        squares[at, at] = RIDGE**2
    return squares


_BENDS = _bends()
