"""Rotary tables, and the order of a head's rows in which every rotation is one of halves (Su et al. 2021)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.runtime.model.config import ModelConfig, RopeConfig

STRIDE = 1024


class RopeTables(NamedTuple):
    cos: npt.NDArray[np.float32]  # (positions, head_dim / 2)
    sin: npt.NDArray[np.float32]


def inverse_frequencies(theta: float, rotated: int) -> npt.NDArray[np.float64]:
    """(rotated / 2,) radians a position, without scaling."""
    return theta ** (-np.arange(0, rotated, 2, dtype=np.float64) / rotated)


def rope_tables(rope: RopeConfig, positions: int, head_dim: int, rotated: int) -> RopeTables:
    """Cosine and sine of every angle, computed in double precision; 1 and 0 for pairs that are not rotated.

    Contexts of a million positions are usual, and cosines are slow: those of STRIDE positions are turned on from the
    cosines of every STRIDE-th.
    """
    frequencies = inverse_frequencies(rope.theta, rotated)
    if rope.factors:
        frequencies = frequencies / np.array(rope.factors)
    near = np.exp(1j * np.arange(min(STRIDE, positions))[:, None] * frequencies) * rope.amplitude
    cos = np.ones((positions, head_dim // 2), dtype=np.float32)
    sin = np.zeros((positions, head_dim // 2), dtype=np.float32)
    for start in range(0, positions, STRIDE):
        turned = near[: positions - start] * np.exp(1j * start * frequencies)
        cos[start : start + STRIDE, : rotated // 2] = turned.real
        sin[start : start + STRIDE, : rotated // 2] = turned.imag
    return RopeTables(cos, sin)


def rows_of_a_head(config: ModelConfig) -> npt.NDArray[np.intp] | None:
    """Where the rows of a head of Q or K stand in the file, in the order in which pairs are (i, i + head_dim / 2); None
    if they stand like that. Of a head of 8, of which 4 are rotated:

        in the file   0 1 2 3 . . . .   halves 0 1 . . 2 3 . .   interleaved 0 2 . . 1 3 . .

    Queries and keys change places alike, so their products do not change.
    """
    head_dim, attention = config.head_dim, config.attention
    rotated = attention.rotated or head_dim
    if rotated == head_dim and not attention.interleaved:
        return None
    pairs = np.arange(rotated).reshape((-1, 2) if attention.interleaved else (2, -1))
    first, second = pairs.T if attention.interleaved else pairs
    still = np.arange(rotated, head_dim).reshape(2, -1)
    return np.concatenate((first, still[0], second, still[1])).astype(np.intp)
