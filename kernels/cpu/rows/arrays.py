"""`RowOps` on arrays of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class ArrayRows:
    """Has no state."""

    def copy(self, x: Floats) -> Floats:
        return x.copy()

    def with_ones(self, x: Floats) -> Floats:
        return np.concatenate((x, np.ones_like(x)), axis=-1)

    def cap(self, x: Floats, softcap: float) -> Floats:
        capped: Floats = softcap * np.tanh(x / softcap)
        return capped

    def are_finite(self, x: Floats) -> bool:
        return bool(np.isfinite(x).all())

    def total(self, x: Floats) -> npt.NDArray[np.float64]:
        total: npt.NDArray[np.float64] = x.sum(axis=0, dtype=np.float64)
        return total

    def log_softmax(self, logits: Floats) -> Floats:
        found = np.empty_like(logits)
        for row, own in zip(logits, found, strict=True):  # one by one: no sum hangs on how many there are
            np.subtract(row, row.max(), out=own)
            own -= np.float32(np.log(np.exp(own).sum(dtype=np.float64)))
        return found

    def largest(self, row: Floats, count: int) -> tuple[list[int], list[float]]:
        if not count:
            return [], []
        least = np.partition(row, len(row) - count)[len(row) - count]
        candidates = np.flatnonzero(row >= least)
        ids = candidates[np.argsort(-row[candidates], kind="stable")][:count]
        return ids.tolist(), row[ids].tolist()

    def add(self, row: Floats, places: npt.NDArray[np.int64], values: npt.NDArray[np.floating[Any]]) -> None:
        row[places] += values.astype(np.float32)

    def penalise(self, row: Floats, places: npt.NDArray[np.int64], factor: float, most: float) -> None:
        seen = row[places]
        with np.errstate(over="ignore"):
            changed = np.where(seen > 0, seen / np.float32(factor), seen * np.float32(factor))
        row[places] = np.minimum(changed, np.float32(most))
