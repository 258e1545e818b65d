"""What the core asks of a grammar and of a text, so that it depends on neither."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class ForcedTokens(Protocol):
    """What a matcher knows of the next tokens: `tokens` are certain, `drafts` are likely and must be verified."""

    @property
    def tokens(self) -> list[int]:
        """Appended without asking the model."""

    @property
    def drafts(self) -> list[int]:
        """Computed behind the last token and kept as far as the samples agree."""


class GrammarMatcher(Protocol):
    """The grammar of one sequence, at its current position (stemma.fsm.Matcher)."""

    def mask_into(self, row: npt.NDArray[np.uint32]) -> None:
        """Set the bits of the tokens that may come next."""

    def advance(self, token: int) -> bool:
        """Take a token; False if it is not allowed."""

    def forced(self) -> ForcedTokens:
        """The tokens that must or should come next."""

    def rollback(self, num_tokens: int) -> None:
        """Take back the last tokens."""

    @property
    def is_finished(self) -> bool:
        """Nothing can follow."""

    def shortest_completion(self, budget: int) -> list[int] | None:
        """The fewest tokens that complete the output, perhaps none; None if it takes more than `budget`."""


class StopChecker(Protocol):
    """Watches the generated text for what ends it."""

    def push(self, token: int) -> bool:
        """Take a token; True if a stop string is complete."""
