"""What a request changes of its logits before a token is chosen: bias, penalties, and no end before its time.

All of it becomes places (kernels/changes.py), so that a device changes the logits of a whole step at once. The order is
that of the formula there: bias, the penalty of repetition, then what is subtracted; last, what may not come at all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.kernels.changes import NOTHING_ADDED, Places
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.sequence import Sequence

Ids = npt.NDArray[np.int64]


class Position(NamedTuple):
    """One row of logits from which a token is chosen. num_tokens: the tokens before it, drafts included."""

    logits_row: int
    sequence: Sequence
    num_tokens: int

    @property
    def sampling(self) -> Sampling:
        """As its request has it."""
        return self.sequence.request.sampling

    @property
    def changes_logits(self) -> bool:
        """Whether it has places."""
        sampling = self.sequence.request.sampling
        return sampling.changes_logits or (sampling.min_tokens > 0 and self.is_early)

    @property
    def is_early(self) -> bool:
        """Whether a text without a form may not end yet."""
        return is_early(self.sequence, self.num_tokens) and self.sequence.matcher is None


def is_early(sequence: Sequence, num_tokens: int) -> bool:
    """Whether the text has fewer tokens than it must have, if its sequence has so many."""
    return num_tokens - sequence.num_prompt < sequence.request.sampling.min_tokens


def places_of(position: Position, vocabulary: int) -> Places:
    """The places of one row. Raises IndexError for a token that is none."""
    sampling = position.sampling
    ended = [*position.sequence.request.end_tokens] if position.is_early else []
    seen, made = _before(position)
    groups = [_ids(ids) for ids in ([*sampling.logit_bias], ended, seen if sampling.repetition_penalty != 1 else made)]
    biased, endings, penalised = groups
    tokens = np.unique(np.concatenate(groups))
    if len(tokens) and not 0 <= tokens[0] <= tokens[-1] < vocabulary:
        raise IndexError(f"token {tokens[0] if tokens[0] < 0 else tokens[-1]} is not one of {vocabulary}")
    count = len(tokens)
    bias, added = (np.full(count, NOTHING_ADDED, dtype=np.float32) for _ in range(2))
    factor = np.ones(count, dtype=np.float32)
    if len(biased):
        bias[np.searchsorted(tokens, biased)] = [*sampling.logit_bias.values()]
    if sampling.repetition_penalty != 1:
        factor[np.searchsorted(tokens, penalised)] = sampling.repetition_penalty
    if made:
        counts = np.bincount(np.searchsorted(tokens, _ids(made)), minlength=count)
        penalty = sampling.presence_penalty + sampling.frequency_penalty * counts
        np.copyto(added, -penalty, where=counts > 0, casting="same_kind")
    if ended:
        added[np.searchsorted(tokens, endings)] = -math.inf
    rows = np.full(count, position.logits_row, dtype=np.int32)
    return Places(rows, tokens.astype(np.int32), bias, factor, added)


def _before(position: Position) -> tuple[list[int], list[int]]:
    """All different tokens before it, and the generated ones, if they are penalised. Drafts are among them, since what
    is sampled behind a wrong one is thrown away."""
    sampling, sequence = position.sampling, position.sequence
    if not sampling.has_penalties:
        return [], []
    before = [*sequence.tokens, *sequence.drafts][: position.num_tokens]
    seen = [*set(before)] if sampling.repetition_penalty != 1 else []
    return seen, before[sequence.num_prompt :]


def _ids(tokens: list[int]) -> Ids:
    return np.array(tokens, dtype=np.int64)
