"""Drafts from the tree: what cached text goes on with behind this very path, in the sequence's own namespace.

Whoever asks the same again (a second try, a program run once more, an agent that starts over) is likely to be told the
same. The lease sees what it may see: nothing of another namespace.
"""

from __future__ import annotations

from stemma.runtime.core.drafts.source import NOTHING, Guess
from stemma.runtime.core.sequence import Sequence

LOOK_AHEAD = 256
"""Tokens that are read from the tree at once."""
FIRST_PAUSE, LONGEST_PAUSE = 16, 512
"""Tokens until the next look where the tree had nothing; each time twice as many."""


class TreeSource:
    """A `DraftSource`. Grounds: tokens in a row in which the cached text was right.

    sequence  |---------- tokens ----------|
    cached          first |--- agreed -----|---- guess ----|
    """

    first_trust = (0.6, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.995)
    __slots__ = ("_agreed", "_cached", "_first", "_look_at", "_pause", "_seen")

    def __init__(self) -> None:
        self._cached: list[int] = []
        self._first = self._seen = self._agreed = self._look_at = 0
        self._pause = FIRST_PAUSE

    def guess(self, sequence: Sequence, at_most: int) -> Guess:
        tokens = sequence.tokens
        self._follow(tokens)
        at = len(tokens) - self._first
        if at >= len(self._cached) and len(tokens) >= self._look_at:
            self._look(sequence)
            at = 0
        found = self._cached[at : at + at_most]
        return Guess(found, self._agreed) if found else NOTHING

    def _follow(self, tokens: list[int]) -> None:
        """See how the sequence went on; the cached text is dropped where it did otherwise."""
        end = min(len(tokens), self._first + len(self._cached))
        while self._seen < end:
            if self._cached[self._seen - self._first] != tokens[self._seen]:
                self._cached, self._agreed, self._look_at = [], 0, len(tokens)
                return
            self._seen += 1
            self._agreed += 1

    def _look(self, sequence: Sequence) -> None:
        lease, num_tokens = sequence.lease, len(sequence.tokens)
        assert lease is not None
        self._cached = lease.continuation(sequence.tokens[lease.num_published :], LOOK_AHEAD)
        self._first = self._seen = num_tokens
        if self._cached:
            self._pause = FIRST_PAUSE
        else:
            self._agreed, self._look_at = 0, num_tokens + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
