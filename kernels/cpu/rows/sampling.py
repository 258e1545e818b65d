"""Sampling of one row with temperature, without sorting the vocabulary where that is not needed.

The definition is `reference.py`'s: top-k, then top-p of what top-k left, then min-p, then the first kept token in
ascending order whose cumulative probability exceeds `uniform` times the kept sum.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stemma.kernels.ops import Int32Array, SamplingRows

Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
NUCLEUS = 512
"""Candidates tried for top-p before the whole vocabulary is sorted."""


def sample_warm_rows(logits: npt.NDArray[np.float32], rows: SamplingRows, tokens: Int32Array) -> None:
    """Tokens of the rows that have a temperature, to their places in `tokens`."""
    for row in np.flatnonzero(rows.temperature).tolist():
        tokens[row] = sample_row(
            logits[row], float(rows.temperature[row]), int(rows.top_k[row]), float(rows.top_p[row]),
            float(rows.min_p[row]), float(rows.uniform[row]),
        )  # fmt: skip


def sample_row(
    logits: npt.NDArray[np.float32], temperature: float, top_k: int, top_p: float, min_p: float, uniform: float
) -> int:
    """A token of one row (vocabulary,)."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    ids: Ids | None = None
    if 0 < top_k < len(weights):
        ids = _largest(weights, top_k)
    if top_p < 1:
        ids = _nucleus(weights, ids, top_p)
    if min_p > 0:
        kept = np.flatnonzero(weights >= min_p * weights.max()) if ids is None else ids[weights[ids] >= min_p]
        ids = kept if len(kept) else _largest(weights, 1)
    if ids is None:
        return _draw(weights, uniform)
    ids = np.sort(ids)
    return int(ids[_draw(weights[ids], uniform)])


def _largest(weights: Doubles, count: int) -> Ids:
    """Ids of the `count` largest, falling; among equals the lowest ids."""
    threshold = np.partition(weights, len(weights) - count)[len(weights) - count]
    candidates = np.flatnonzero(weights >= threshold)
    return candidates[np.argsort(-weights[candidates], kind="stable")][:count]


def _nucleus(weights: Doubles, ids: Ids | None, top_p: float) -> Ids:
    """The shortest beginning of the falling order that holds `top_p` of the sum, at least one token."""
    total = float((weights if ids is None else weights[ids]).sum())
    size = min(NUCLEUS, len(weights))
    while True:
        ordered = _largest(weights, size) if ids is None else ids
        before = np.cumsum(weights[ordered]) - weights[ordered]
        keep = max(1, int(np.searchsorted(before, top_p * total)))
        if ids is not None or keep < len(ordered) or size == len(weights):
            return ordered[:keep]
        size = len(weights)


def _draw(weights: Doubles, uniform: float) -> int:
    cumulative = np.cumsum(weights)
    return min(int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right")), len(weights) - 1)
