"""Drafts from the text itself: what followed, in prompt and output, the last time that the same tokens came.

Summaries quote, edits repeat, code says its names again (prompt lookup decoding, Saxena 2023). All places where the
last two tokens stood before are chained, newest first; of the first few, the one with the longest common past is
followed for as long as it is right. Who quotes at length and then says a word otherwise, leaves one out or puts one in
goes on near there, so where the last two tokens stood nowhere, that is the guess. A token costs O(1).
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
LEAST_RUN = 4
"""Tokens in a row behind which what is said otherwise is taken for a change in what is quoted."""
NEAR = 8
"""Tokens from there on, here and in what is quoted, within which it is expected to go on."""


class PromptSource:
    """A `DraftSource`. Grounds: tokens in a row, up to here, that stand there as well: at least two, and behind what
    was said otherwise fewer.

    tokens  .... a b c d e f g h ......... a b c d     e         b c d e x     f         b c d e g     h
                     |   ^ at                    |               the same, x for f:      the same, without f:
                     |-- past --|     the same past              past 0, at g            past 1, at h
    """

    first_trust = (0.1, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.85, 0.9, 0.95, 0.97)
    __slots__ = ("_at", "_before", "_first", "_last", "_left", "_left_at", "_past", "_seen")

    def __init__(self) -> None:
        self._first = 0  # position of the first token that is indexed
        self._last: dict[int, int] = {}  # by two tokens: the position behind where they stood last
        self._before: list[int] = []  # by position, counted from `_first`: the same of the time before; 0: none
        self._at = self._past = self._seen = 0  # what is followed; 0: nothing
        self._left = self._left_at = 0  # the token of the last long quotation that did not come, and what came; 0: none

    def guess(self, sequence: Sequence, at_most: int) -> Guess:
        tokens = sequence.tokens
        self._follow(tokens)
        self._index(tokens)
        if not self._at:
            self._find(tokens)
        if not self._at:
            self._go_on(tokens)
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
                if self._past >= LEAST_RUN:
                    self._left, self._left_at = self._at, self._seen
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

    def _go_on(self, tokens: list[int]) -> None:
        """Near where a long quotation was left: behind the last token, if it stands there, else as though it stood in
        place of another."""
        num_others = len(tokens) - self._left_at
        if not self._left or num_others > NEAR:
            return
        near = tokens[self._left : min(self._left + NEAR, len(tokens) - 1)]
        try:
            self._at, self._past = self._left + near.index(tokens[-1]) + 1, 1
        except ValueError:
            self._at, self._past = self._left + num_others, 0
