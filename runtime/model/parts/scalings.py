"""Scalings of rotary frequencies, which come down to one divisor for each and a factor of all cosines and sines
(Llama 3.1; YaRN, Peng et al. 2023; LongRoPE, Ding et al. 2024)."""

from __future__ import annotations

import math

import numpy as np

from stemma.runtime.model.parts.rope import inverse_frequencies

STILL = 1e30


def linear_factors(rotated: int, factor: float) -> tuple[float, ...]:
    """Positions divided by `factor`."""
    return (factor,) * (rotated // 2)


def proportional_factors(head_dim: int, share: float, factor: float) -> tuple[float, ...]:
    """Gemma 4: the first pairs of a head, those that turn fastest, are rotated; the others stand still, divided by what
    llama.cpp's converter divides them by."""
    turning = int(share * head_dim // 2)
    return (float(factor),) * turning + (STILL,) * (head_dim // 2 - turning)


def llama3_factors(
    theta: float, rotated: int, factor: float, low_freq_factor: float, high_freq_factor: float, original_context: int
) -> tuple[float, ...]:
    """Llama 3.1's scaling, by the wavelength of each frequency against the context the model was trained on:

    wavelength  0 ....... original/high ............ original/low ........
    divisor        1      blends from 1 to factor      factor
    """
    wavelengths = 2 * math.pi / inverse_frequencies(theta, rotated)
    smooth = (original_context / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    smooth = np.clip(smooth, 0.0, 1.0)
    divisors = 1 / ((1 - smooth) / factor + smooth)
    return tuple(float(divisor) for divisor in divisors)


def yarn_factors(
    theta: float, rotated: int, factor: float, beta_fast: float, beta_slow: float, original_context: int, truncate: bool
) -> tuple[float, ...]:
    """YaRN's scaling, by how often each pair turns within the context the model was trained on:

    turns      beta_fast and more ................ beta_slow and less
    divisor            1      blends from 1 to factor      factor

    truncate: whether the ends of the blend are whole indices of pairs.
    """

    def pair_that_turns(times: float) -> float:
        return rotated * math.log(original_context / (times * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    high = high + 0.001 if low == high else high
    slow = np.clip((np.arange(rotated // 2) - low) / (high - low), 0.0, 1.0)
    return tuple(float(divisor) for divisor in 1 / (slow / factor + 1 - slow))


def yarn_amplitude(factor: float, slope: float = 1.0) -> float:
    """How much sharper attention becomes in a context that is `factor` times as long (section 3.4 of the paper)."""
    return 1.0 if factor <= 1 else 0.1 * slope * math.log(factor) + 1.0


def longrope_amplitude(factor: float, original_context: int) -> float:
    """The same of LongRoPE."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original_context))


def dynamic_growth(factor: float, times: float, rotated: int) -> float:
    """What dynamic scaling multiplies theta by in a context that is `times` as long as that of the training."""
    return float((factor * times - (factor - 1)) ** (rotated / (rotated - 2)))
