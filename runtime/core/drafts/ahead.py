"""What a draft model is to the others: a source whose guesses are made before the step, for all sequences at once.

It is asked where its guesses are likely to give more tokens for the time, its own time included. Only there is it
measured, so where it does not pay it is tried now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stemma.runtime.core import sequence as core
from stemma.runtime.core.drafts.followed import Followed
from stemma.runtime.core.drafts.source import NOTHING, Guess

MOST_AHEAD = 15
"""Tokens that a draft model guesses for one sequence at once."""
NUM_TRIED = 3
"""Tokens that it guesses where it is only tried."""
TRIAL_SHARE = 0.01
"""Of the time of all steps, what such trials may take."""


class Guesser(Protocol):
    """A draft model (`draft_model`).

    seconds: that it has taken, in all. step_seconds: of one of its steps, by the last ones.
    """

    seconds: float
    step_seconds: float

    def guess(self, wanted: Sequence[tuple[core.Sequence, int]]) -> list[list[int]]:
        """For each sequence at most so many tokens."""

    def forget(self, sequence: core.Sequence) -> None:
        """The sequence has ended."""


class ModelSource:
    """A `DraftSource`: hands out what a draft model has guessed before the step. Grounds: its guesses in a row that
    were right."""

    first_trust = (0.6, 0.65, 0.7, 0.7, 0.75, 0.75, 0.8, 0.8, 0.8, 0.8, 0.8)
    __slots__ = ("_guess",)

    def __init__(self) -> None:
        self._guess = Followed()

    def guess(self, sequence: core.Sequence, at_most: int) -> Guess:
        found = self._guess.rest(sequence.tokens)
        return Guess(found[:at_most], self._guess.agreed) if found else NOTHING

    def put(self, sequence: core.Sequence, guess: list[int]) -> None:
        """What the model has guessed."""
        self._guess.begin(guess, len(sequence.tokens))

    @property
    def grounds(self) -> int:
        """As of the next guess."""
        return self._guess.agreed
