"""What is done to weights as they are taken: rows divided and put in order, norms multiplied; rows of quantised
matrices move whole, as they are stored. And products that were made as one, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.ops import Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.weights import WeightSource


def reordered(weight: StoredWeight, rows: npt.NDArray[np.intp] | None) -> StoredWeight:
    """Rows of each head in another order, in all heads alike."""
    if rows is None:
        return weight
    starts = np.arange(0, weight.shape[0], len(rows))[:, None]
    return weight.rows((starts + rows).reshape(-1))


def divided(weight: StoredWeight, sizes: Sequence[int]) -> list[StoredWeight]:
    """Matrices (or biases) that a file holds as one, along the outputs."""
    ends = np.cumsum(sizes)
    return [weight.rows(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def take_divided(
    weights: WeightSource, fused: str, names: Sequence[str], sizes: Sequence[int], *columns: int
) -> list[StoredWeight]:  # fmt: skip
    """Matrices of one input, by their names or as the file's one of the name `fused`."""
    if weights.has(fused):
        return divided(weights.take(fused, sum(sizes), *columns), sizes)
    return [weights.take(name, size, *columns) for name, size in zip(names, sizes, strict=True)]


def columns(rows: Rows, *sizes: int) -> list[Rows]:
    """Parts of rows side by side, where they stand."""
    ends = accumulate(sizes)
    return [rows[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]


def multiplied(weight: StoredWeight, factor: float) -> StoredWeight:
    """In float32, or as it is stored where nothing changes."""
    return weight if factor == 1.0 else weight.times(factor)


def take_taps(weights: WeightSource, name: str, channels: int, taps: int) -> StoredWeight:
    """A depthwise convolution, (channels, taps), which files have with an axis of one input."""
    weight = weights.take(name, channels, 1, taps)
    return replace(weight, shape=(channels, taps), data=weight.data.reshape(channels, -1))


def take_norm(
    config: ModelConfig, weights: WeightSource, ops: Ops, name: str, size: int | None = None, scale: float = 1.0
) -> Any:  # fmt: skip
    """A norm of the family's kind. size: None is that of the residual stream. scale: of what it gives."""
    norms = config.norms
    size = config.hidden if size is None else size
    weight = _changed(weights.take(f"{name}.weight", size), 1.0 if norms.one_more else 0.0, scale)
    if norms.kind == "rms":
        return ops.norm(weight, config.norm_epsilon)
    bias = _changed(weights.take(f"{name}.bias", size), 0.0, scale) if norms.bias else None
    return ops.layer_norm(weight, bias, config.norm_epsilon)


def head_norm(
    config: ModelConfig, weights: WeightSource, ops: Ops, name: str, heads: tuple[int, int],
    rows: npt.NDArray[np.intp] | None,
) -> Any:  # fmt: skip
    """A norm of Q or K, its weight in the order of their rows. heads: how many, and their numbers."""
    size = heads[1] * (1 if config.attention.norms == "head" else heads[0])
    weight = _changed(weights.take(f"{name}.weight", size), 1.0 if config.norms.one_more else 0.0, 1.0)
    weight = reordered(weight, rows)
    if config.attention.norms == "each":
        return ops.layer_norm(weight, None, config.norm_epsilon)
    return ops.norm(weight, config.norm_epsilon)


def _changed(weight: StoredWeight, more: float, scale: float) -> StoredWeight:
    """`(weight + more) * scale`."""
    if more == 0.0 and scale == 1.0:
        return weight
    values = (dequantize(weight) + np.float32(more)) * np.float32(scale)
    return StoredWeight("F32", weight.shape, values)
