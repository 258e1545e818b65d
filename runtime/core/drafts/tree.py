"""Drafts from the tree: what cached text goes on with behind this very path, in the sequence's own namespace.

Whoever asks the same again (a second try, a program run once more, an agent that starts over) is likely to be told the
same. The lease sees what it may see: nothing of another namespace.
"""

from __future__ import annotations

from stemma.runtime.core.drafts.followed import Followed
from stemma.runtime.core.drafts.source import NOTHING, Guess
from stemma.runtime.core.sequence import Sequence

LOOK_AHEAD = 256
"""Tokens that are read from the tree at once."""
FIRST_PAUSE, LONGEST_PAUSE = 16, 512
"""Tokens until the next look where the tree had nothing; each time twice as many."""


class TreeSource:
    """A `DraftSource`. Grounds: tokens in a row in which the cached text was right."""

    first_trust = (0.6, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.995)
    __slots__ = ("_cached", "_look_at", "_pause")

    def __init__(self) -> None:
        self._cached = Followed()
        self._look_at = 0
        self._pause = FIRST_PAUSE

    def guess(self, sequence: Sequence, at_most: int) -> Guess:
        agreed = self._cached.agreed
        found = self._cached.rest(sequence.tokens)
        if self._cached.agreed < agreed:
            self._look_at = 0  # it went on otherwise: perhaps as another cached text does
        if not found and len(sequence.tokens) >= self._look_at:
            found = self._look(sequence)
        return Guess(found[:at_most], self._cached.agreed) if found else NOTHING

    def _look(self, sequence: Sequence) -> list[int]:
        lease, tokens = sequence.lease, sequence.tokens
        assert lease is not None
        found = lease.continuation(tokens[lease.num_published :], LOOK_AHEAD)
        self._cached.begin(found, len(tokens))
        if found:
            self._pause = FIRST_PAUSE
        else:
            self._look_at = len(tokens) + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return found
