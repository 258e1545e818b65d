"""What guesses: the one protocol of all sources of drafts. A guess is never taken on trust, so a wrong one costs time
and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stemma.runtime.core import sequence as core


class Guess(NamedTuple):
    """What may follow a sequence's tokens. grounds: how many tokens the source has been right about up to here; the
    more, the likelier it is right again. What counts as one is the source's own affair."""

    tokens: list[int]
    grounds: int


NOTHING = Guess([], 0)


class DraftSource(Protocol):
    """Guesses for one sequence. It may remember what it found, and sees by the sequence's tokens what became of it.

    first_trust: how often it is right, level by level (see `trust`), before anything was seen.
    """

    @property
    def first_trust(self) -> Sequence[float]: ...

    def guess(self, sequence: core.Sequence, at_most: int) -> Guess:
        """At most so many tokens, perhaps none. The sequence has a lease; all of it is computed in the next step."""
