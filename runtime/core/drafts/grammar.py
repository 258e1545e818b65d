"""Drafts from the grammar: what it thinks likely where nothing is certain, such as the layout of JSON."""

from __future__ import annotations

from stemma.runtime.core.drafts.source import Guess
from stemma.runtime.core.drafts.trust import NUM_LEVELS
from stemma.runtime.core.sequence import Sequence


class GrammarSource:
    """A `DraftSource`. The guess was made where the forced tokens were (`jump_forward`)."""

    first_trust = (0.8,) * NUM_LEVELS
    __slots__ = ()

    def guess(self, sequence: Sequence, at_most: int) -> Guess:
        return Guess(sequence.likely[:at_most], 0)
