"""`RowOps` on arrays of numpy, and log-probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stemma.kernels.changes import LogProbs

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
            _log_softmax(row, own)
        return found

    def take(self, x: Floats, rows: npt.NDArray[np.int32]) -> Floats:
        taken: Floats = x[rows]
        return taken


def array_log_probs(logits: Floats, tokens: npt.NDArray[np.int32], count: int) -> LogProbs:
    """`Ops.log_probs`, with memory for one row."""
    found, own = LogProbs([], [], []), np.empty(logits.shape[1], dtype=np.float32)
    for row, token in zip(logits, tokens.tolist(), strict=True):
        _log_softmax(row, own)
        ids, values = _largest(own, count)
        found.own.append(float(own[token]))
        found.ids.append(ids)
        found.values.append(values)
    return found


def _log_softmax(row: Floats, out: Floats) -> None:
    np.subtract(row, row.max(), out=out)
    out -= np.float32(np.log(np.exp(out).sum(dtype=np.float64)))


def _largest(row: Floats, count: int) -> tuple[list[int], list[float]]:
    """The places of the `count` largest, falling, and they themselves; among equals the first ones first."""
    if not count:
        return [], []
    least = np.partition(row, len(row) - count)[len(row) - count]
    candidates = np.flatnonzero(row >= least)
    ids = candidates[np.argsort(-row[candidates], kind="stable")][:count]
    return ids.tolist(), row[ids].tolist()
