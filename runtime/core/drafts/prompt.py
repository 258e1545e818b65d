"""Drafts from the text itself: what followed, in prompt and output, the last time that the same tokens came.

Summaries quote, edits repeat, code says its names again (prompt lookup decoding, Saxena 2023). All places where the
last two tokens stood before are chained, newest first; of the first few, the one with the longest common past is
followed for as long as it is right. A token costs O(1).
"""

from __future__ import annotations

from stemma.runtime.core.drafts.source import NOTHING, Guess
from stemma.runtime.core.sequence import Sequence

MAX_INDEXED = 16_384
"""Of a longer prompt the last tokens: bounds the time and the memory of the index."""
MAX_PLACES = 8
"""Places that are compared."""
MAX_PAST = 64
"""Tokens back that are compared."""


class PromptSource:
    """A `DraftSource`. Grounds: tokens in a row, up to here, that stand there as well: at least two.

    tokens  .... a b c d e f ......... a b c d
                     |   ^ at                |
                     |-- past --|            |-- the same past
    """

    first_trust = (0.1, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.85, 0.9, 0.95, 0.97)
    __slots__ = ("_at", "_before", "_first", "_last", "_past", "_seen")

    def __init__(self) -> None:
        self._first = 0  # position of the first token that is indexed
        self._last: dict[int, int] = {}  # by two tokens: the position behind where they stood last
        self._before: list[int] = []  # by position, counted from `_first`: the same of the time before; 0: none
        self._at = self._past = self._seen = 0  # what is followed; 0: nothing

    def guess(self, sequence: Sequence, at_most: int) -> Guess:
        tokens = sequence.tokens
        self._follow(tokens)
        self._index(tokens)
        if not self._at:
            self._find(tokens)
        if not self._at:
            return NOTHING
        found = tokens[self._at : self._at + at_most]
        while len(found) < at_most:  # it goes on with itself: what repeats
            found += found[: at_most - len(found)]
        return Guess(found, self._past)

    def _follow(self, tokens: list[int]) -> None:
        """See whether the sequence went on as it did there."""
        while self._at and self._seen < len(tokens):
            if tokens[self._at] != tokens[self._seen]:
                self._at = 0
                return
            self._at, self._past, self._seen = self._at + 1, self._past + 1, self._seen + 1

    def _index(self, tokens: list[int]) -> None:
        """Note of all pairs but the last one what they were followed by."""
        if not self._before:
            self._first = max(1, len(tokens) - MAX_INDEXED)
        start, end = self._first + len(self._before), len(tokens) - 1
        before, last = self._before, self._last
        for position in range(start, end):
            pair = tokens[position - 1] << 32 | tokens[position]
            before.append(last.get(pair, 0))
            last[pair] = position + 1

    def _find(self, tokens: list[int]) -> None:
        """The place with the longest common past; of equals the newest."""
        end = self._seen = len(tokens)
        place = self._last.get(tokens[-2] << 32 | tokens[-1], 0) if end > 1 else 0
        self._past = 0
        for _ in range(MAX_PLACES):
            if not place:
                return
            past = 2
            while past < MAX_PAST and past < place and tokens[place - 1 - past] == tokens[end - 1 - past]:
                past += 1
            if past > self._past:
                self._at, self._past = place, past
            place = self._before[place - 1 - self._first]
