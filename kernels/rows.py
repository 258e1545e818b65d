"""Rows of numbers on a device, and the little that is done to them outside of a network's operations."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = Any
"""Activations, hidden states or logits, as a back end has them: arrays of numpy on a CPU, tensors of torch elsewhere.

Whoever knows no back end takes their `shape`, parts of them by slices or lists of rows, sets such parts, adds and
multiplies them, and reads them with `tolist`, in all of which the two are alike. What else is needed is in `RowOps`.
"""


class RowOps(Protocol):
    """What is done to rows by a sampler, and where adapters add to products."""

    def copy(self, x: Rows) -> Rows:
        """The same numbers in memory of their own, which no later operation writes over."""

    def with_ones(self, x: Rows) -> Rows:
        """(rows, columns) -> (rows, 2 * columns), with ones behind each row."""

    def cap(self, x: Rows, softcap: float) -> Rows:
        """`softcap * tanh(x / softcap)`."""

    def are_finite(self, x: Rows) -> bool:
        """Whether all of them are numbers."""

    def total(self, x: Rows) -> npt.NDArray[np.float64]:
        """The sum of the rows, in double precision, on the host."""

    def log_softmax(self, logits: Rows) -> Rows:
        """Log-probabilities (rows, vocabulary), float32, in memory of their own; each row's do not hang on others."""

    def take(self, x: Rows, rows: npt.NDArray[np.int32]) -> Rows:
        """Some rows, in memory of their own."""
