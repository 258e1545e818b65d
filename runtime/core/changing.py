"""What a request changes of its logits before a token is chosen: bias, penalties, and no end before its time.

All of it becomes places (kernels/changes.py), so that a device changes the logits of a whole step at once. The order is
that of the formula there: bias, the penalty of repetition, then what is subtracted; last, what may not come at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemma.kernels.changes import Places
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.seen import SeenTokens
from stemma.runtime.core.sequence import Sequence


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
    sampling, seen = position.sampling, _seen(position, vocabulary)
    tokens, bias, factor, added = seen.places(
        sampling.presence_penalty, sampling.frequency_penalty, is_early=position.is_early
    )
    return Places(np.full(len(tokens), position.logits_row, dtype=np.int32), tokens, bias, factor, added)


def _seen(position: Position, vocabulary: int) -> SeenTokens:
    """Drafts before it count, since what is sampled behind a wrong one is thrown away."""
    sampling, sequence, num_tokens = position.sampling, position.sequence, position.num_tokens
    kept = sequence.seen
    if kept is None or kept.num_taken > num_tokens:
        ends = sequence.request.end_tokens if sampling.min_tokens > 0 else ()
        kept = sequence.seen = SeenTokens(sampling.logit_bias, ends, sampling.repetition_penalty, vocabulary)
    if not sampling.has_penalties:
        return kept
    num_known = len(sequence.tokens)
    kept.take(sequence.tokens if num_tokens >= num_known else sequence.tokens[:num_tokens], sequence.num_prompt)
    if num_tokens > num_known:
        kept = kept.copy()
        kept.take([*sequence.tokens, *sequence.drafts[: num_tokens - num_known]], sequence.num_prompt)
    return kept
