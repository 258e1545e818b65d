"""How tokens are chosen: what a caller may ask for, checked when it is asked. The choosing itself is in `sampler`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.runtime.core.checking import check_fields, describe
from stemma.runtime.errors import InvalidRequest

MAX_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Sampling:
    """Parameters of decoding. The default is greedy, so that a program gives the same answer twice.

    temperature: 0 is greedy; else logits are divided by it.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the smallest set of tokens with this probability (Holtzman et al. 2020); 1 keeps all.
    min_p: keep tokens with at least this share of the largest probability (Nguyen et al. 2024); 0 keeps all.
    repetition_penalty: divides positive, multiplies negative logits of tokens seen (Keskar et al. 2019); 1 is off.
    presence_penalty, frequency_penalty: subtracted from generated tokens' logits, once / for each occurrence.
    seed: the same seed gives the same tokens in any batch; None draws one.
    logit_bias: added to the logits of these tokens.
    stop: strings that end the text; they are not part of it.
    stop_token_ids: tokens that end the text, besides the model's own end tokens.
    ignore_eos: go on past the model's end tokens.
    min_tokens: nothing ends the text before it has so many, except that a form ends where nothing may follow.
    include_stop: the stop string that ends the text is part of it.
    logprobs: None for none, else report the chosen token's log-probability and this many of the most likely.

    Raises InvalidRequest for a value of another type, or out of its range; numpy's numbers are numbers.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    include_stop: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _require(0 <= self.temperature <= 100, "temperature", "between 0 (greedy) and 100", self.temperature)
        _require(self.top_k >= 0, "top_k", "0 (off) or more", self.top_k)
        _require(0 < self.top_p <= 1, "top_p", "above 0 and at most 1 (off)", self.top_p)
        _require(0 <= self.min_p <= 1, "min_p", "between 0 (off) and 1", self.min_p)
        _require(
            0 < self.repetition_penalty <= 100, "repetition_penalty", "above 0 and at most 100", self.repetition_penalty
        )
        _require(-2 <= self.presence_penalty <= 2, "presence_penalty", "between -2 and 2", self.presence_penalty)
        _require(-2 <= self.frequency_penalty <= 2, "frequency_penalty", "between -2 and 2", self.frequency_penalty)
        _require(all(self.stop), "stop", "strings that are not empty", self.stop)
        _require(self.min_tokens >= 0, "min_tokens", "0 or more", self.min_tokens)
        for bias in self.logit_bias.values():
            _require(-100 <= bias <= 100, "logit_bias", "between -100 and 100", bias)
        if self.logprobs is not None:
            _require(0 <= self.logprobs <= MAX_LOGPROBS, "logprobs", f"between 0 and {MAX_LOGPROBS}", self.logprobs)

    @property
    def has_penalties(self) -> bool:
        """Whether logits depend on which tokens came before."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def changes_logits(self) -> bool:
        """Whether logits are changed before a token is chosen."""
        return self.has_penalties or bool(self.logit_bias)


class TokenLogprob(NamedTuple):
    """Log-probabilities at one position, of the model's own distribution (before temperature, penalties and masks).

    top: the most likely tokens as (token, log-probability), best first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


SEED_MASK = (1 << 64) - 1


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the position (SplitMix64, Steele et al. 2014).

    Positions are drawn independently, so a token is the same in any batch, after a preemption, or as a verified draft.
    """
    state = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & SEED_MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & SEED_MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & SEED_MASK
    return ((state ^ (state >> 31)) >> 11) / (1 << 53)


def uniforms(seeds: npt.NDArray[np.uint64], positions: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """`uniform` of each pair."""
    state = seeds * np.uint64(0x9E3779B97F4A7C15) + positions * np.uint64(0xD1B54A32D192ED03)
    state += np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / float(1 << 53), dtype=np.float64)


def _require(condition: bool, param: str, expected: str, given: object) -> None:
    if not condition:
        raise InvalidRequest(f"{param} must be {expected}; it is {describe(given)}", param)
