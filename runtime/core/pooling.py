"""What a request reads off its prompt where it does not go on from it: a vector, or how likely a few tokens are next.

prompt      t0  t1  t2  t3      hidden states behind the last norm: h0 h1 h2 h3
"last"      h3                  the prefix is looked up in the cache, as for any prompt
"mean"      (h0 + .. + h3) / 4  every state is needed, so all of the prompt is computed
"tokens"    log-probabilities of given tokens at t4
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stemma.kernels.rows import RowOps, Rows
from stemma.runtime.core.checking import check_fields

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pooling:
    """What is read. tokens: whose log-probabilities, for kind "tokens"."""

    kind: Literal["last", "mean", "tokens"]
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def reads_hidden(self) -> bool:
        """Whether it is made of hidden states, not of logits."""
        return self.kind != "tokens"

    def of_step(self, rows: Rows, ops: RowOps) -> Vector:
        """The part of one step; rows: float32 hidden states (rows, hidden), or logits of one row (1, vocabulary).

        Sums are in double precision, so that how a prompt was cut into steps does not matter.
        """
        if self.kind == "tokens":
            return np.array(ops.log_softmax(rows[-1:])[0][list(self.tokens)].tolist())
        return ops.total(rows)

    def value(self, parts: Items[Vector], num_tokens: int) -> npt.NDArray[np.float32]:
        """What all steps of a prompt of `num_tokens` give together."""
        total: Vector = np.sum(parts, axis=0)
        averaged = total / num_tokens if self.kind == "mean" else total
        return np.asarray(averaged, dtype=np.float32)
