"""How often a source is right, by its grounds: measured on every guess, whether it was computed or not.

What a guess would have been worth is seen when the tokens have come, for nothing. So a source need not be tried to be
known, and one that is wrong all the time costs no more than the time to ask it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

BOUNDS = (1, 2, 3, 4, 6, 9, 13, 17, 33, 65)
"""Grounds from one of these up to the next are one level; so are those below the first."""
LEVELS = tuple(bisect_right(BOUNDS, grounds) for grounds in range(BOUNDS[-1] + 1))
NUM_LEVELS = len(BOUNDS) + 1
WEIGHT = 4.0
"""Of what was known before, in guesses that one sequence sees."""
OWN = 0.3
"""Of what a sequence begins with, the share that no other sequence has a say in: after texts that repeat themselves the
next one may not."""
PATIENCE, MEMORY = 1.0, 16.0
"""In one sequence all levels are trusted less as soon as fewer tokens were right than was to be expected, and more as
fewer were wrong: by how many, and how many are remembered. Text is drawn, or told to somebody else, in which the same
beginnings lead elsewhere; what repeats itself goes on so."""
MAX_SEEN = 512.0
"""Then what was seen counts half: what is new is learnt as well."""
LEAST = 0.02
"""A token that is less likely than that to be kept is not looked at."""


class Trust:
    """Of one source: of all sequences, or with `beyond` of one, which begins with what all others have seen."""

    __slots__ = ("_beyond", "_expected", "_first", "_noted", "_num_right", "_right", "_seen")

    def __init__(self, first: Sequence[float], beyond: Trust | None = None) -> None:
        """first: the share of each level before anything was seen."""
        assert len(first) == NUM_LEVELS
        self._first = first
        self._beyond = beyond
        self._right = [0.0] * NUM_LEVELS
        self._seen = [0.0] * NUM_LEVELS
        self._num_right = self._expected = self._noted = 0.0

    def of_sequence(self) -> Trust:
        """For one sequence."""
        return Trust(self._first, self)

    def share(self, level: int) -> float:
        """How likely a token of this level is right."""
        known = self._first[level]
        if self._beyond is not None:
            known = OWN * known + (1 - OWN) * self._beyond.share(level)
            if self._num_right < self._expected:
                known *= (PATIENCE + self._num_right) / (PATIENCE + self._expected)
            else:
                num_wrong, expected = self._noted - self._num_right, self._noted - self._expected
                known = 1 - (1 - known) * (PATIENCE + num_wrong) / (PATIENCE + expected)
        return (WEIGHT * known + self._right[level]) / (WEIGHT + self._seen[level])

    def chances(self, grounds: int, count: int) -> list[float]:
        """How likely each of the next tokens is kept, which it is with all before it; as far as that matters. Those
        before it count as seen then, and right: a level of which little is known is either good or bad throughout."""
        made: list[float] = []
        chance, level, wrong, weight = 1.0, -1, 0.0, 1.0
        for at in range(grounds, grounds + count):
            each = LEVELS[at] if at < len(LEVELS) else NUM_LEVELS - 1
            if each != level:
                level, weight = each, WEIGHT + self._seen[each]
                wrong = weight * (1.0 - self.share(each))
            chance *= 1.0 - wrong / weight
            weight += 1.0
            if chance < LEAST:
                break
            made.append(chance)
        return made

    def saw(self, grounds: int, num_right: int, is_wrong: bool) -> None:
        """So many tokens of a guess were right, and perhaps the next one wrong."""
        for at in range(grounds, grounds + num_right):
            self._note(at, 1.0)
        if is_wrong:
            self._note(grounds + num_right, 0.0)
        if self._beyond is not None:
            self._beyond.saw(grounds, num_right, is_wrong)

    def _note(self, grounds: int, right: float) -> None:
        level = LEVELS[grounds] if grounds < len(LEVELS) else NUM_LEVELS - 1
        if self._beyond is not None:
            self._num_right += right
            self._expected += self._beyond.share(level)
            self._noted += 1.0
            if self._expected > MEMORY:
                self._num_right /= 2
                self._expected /= 2
                self._noted /= 2
        self._right[level] += right
        self._seen[level] += 1.0
        if self._seen[level] > MAX_SEEN:
            self._right[level] /= 2
            self._seen[level] /= 2
