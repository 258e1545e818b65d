"""What is done to logits before tokens are chosen from them: of all rows of a step together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

LARGEST_LOGIT = 1e30
"""What a small repetition penalty may make of a logit: finite, so that probabilities are numbers."""
NOTHING_ADDED = np.float32(-0.0)
"""Of all numbers the one that leaves every other one as it is, zero's sign too."""


class Places(NamedTuple):
    """Single logits that change, each pair of row and token once; arrays of (places,).

    A logit x becomes `penalised(x + bias) + added`. Where `factor` is not 1 a penalty divides what is positive by it,
    multiplies what is not (Keskar et al. 2019), up to LARGEST_LOGIT.
    """

    rows: Int32Array
    tokens: Int32Array
    bias: Float32Array
    factor: Float32Array
    added: Float32Array

    @classmethod
    def none(cls) -> Places:
        """No logit changes."""
        ids, floats = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        return cls(ids, ids, floats, floats, floats)

    @classmethod
    def joined(cls, parts: list[Places]) -> Places:
        """Of several rows."""
        return cls(*map(np.concatenate, zip(*parts, strict=True))) if parts else cls.none()


class Masks(NamedTuple):
    """words: (masked rows, ceil(vocabulary / 32)) uint32; token t of row `rows[i]` may not follow where bit t % 32 of
    `words[i, t // 32]` is 0."""

    words: npt.NDArray[np.uint32]
    rows: Int32Array

    @classmethod
    def none(cls, vocabulary: int) -> Masks:
        """Everything may follow."""
        return cls(np.empty((0, -(-vocabulary // 32)), dtype=np.uint32), np.empty(0, dtype=np.int32))


class Changes(NamedTuple):
    """Places first, then masks."""

    places: Places
    masks: Masks

    def __bool__(self) -> bool:
        return bool(len(self.places.rows) or len(self.masks.rows))


class LogProbs(NamedTuple):
    """Of rows of logits, on the host: own: (rows,) of one token each; the places of the most likely, falling, and they
    themselves: (rows, count)."""

    own: list[float]
    ids: list[list[int]]
    values: list[list[float]]


def changed(values: npt.NDArray[np.float32], places: Places) -> Float32Array:
    """What becomes of the logits at these places."""
    values = values + places.bias
    with np.errstate(over="ignore"):
        scaled = np.where(values > 0, values / places.factor, values * places.factor)
    limited = np.minimum(scaled, np.float32(LARGEST_LOGIT))
    result: Float32Array = np.where(places.factor == 1, values, limited) + places.added
    return result


def change_array(logits: npt.NDArray[np.float32], places: Places) -> None:
    """In place, logits (rows, vocabulary)."""
    if len(places.rows):
        at: Any = places.rows, places.tokens
        logits[at] = changed(logits[at], places)
