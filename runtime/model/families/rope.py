"""Rotary tables, and the scalings that come down to one divisor for each frequency (Su et al. 2021; Llama 3.1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.runtime.model.config import ModelConfig


class RopeTables(NamedTuple):
    cos: npt.NDArray[np.float32]  # (positions, head_dim / 2)
    sin: npt.NDArray[np.float32]


def inverse_frequencies(theta: float, head_dim: int) -> npt.NDArray[np.float64]:
    """(head_dim / 2,) radians a position, without scaling."""
    return theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)


def rope_tables(config: ModelConfig) -> RopeTables:
    """Cosine and sine of every angle up to the context length, computed in double precision."""
    frequencies = inverse_frequencies(config.rope.theta, config.head_dim)
    if config.rope.factors:
        frequencies = frequencies / np.array(config.rope.factors)
    angles = np.arange(config.context_length)[:, None] * frequencies
    return RopeTables(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))


def linear_factors(head_dim: int, factor: float) -> tuple[float, ...]:
    """Positions divided by `factor`."""
    return (factor,) * (head_dim // 2)


def llama3_factors(
    theta: float, head_dim: int, factor: float, low_freq_factor: float, high_freq_factor: float, original_context: int
) -> tuple[float, ...]:
    """Llama 3.1's scaling, by the wavelength of each frequency against the context the model was trained on:

    wavelength  0 ....... original/high ............ original/low ........
    divisor        1      blends from 1 to factor      factor
    """
    wavelengths = 2 * math.pi / inverse_frequencies(theta, head_dim)
    smooth = (original_context / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    smooth = np.clip(smooth, 0.0, 1.0)
    divisors = 1 / ((1 - smooth) / factor + smooth)
    return tuple(float(divisor) for divisor in divisors)
