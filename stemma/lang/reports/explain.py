"""Where the cache stops matching a state, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stemma.lang.reports.picture import text_of
from stemma.radix import Explanation, Reason
from stemma.runtime.model import Tokenizer

NUM_AROUND = 12
"""Tokens that are shown on either side."""


class StateExplanation(NamedTuple):
    """found: in tokens. before, after: text on either side of where the match ends. expected: what is cached there."""

    found: Explanation
    before: str
    after: str
    expected: tuple[str, ...]

    def __str__(self) -> str:
        found = self.found
        head = f"{found.hit_len} of {found.num_tokens} tokens are cached"
        if found.replayed_len:
            head += (
                f" ({found.match_len} match, and without a mark between {found.hit_len} and {found.match_len} "
                f"{found.replayed_len} are computed again)"
            )
        match found.reason:
            case Reason.COMPLETE:
                return head if found.replayed_len else f"all {found.num_tokens} tokens are cached"
            case Reason.DIVERGED:
                others = " or ".join(map(repr, self.expected))
                return f"{head}: behind {self.before!r} comes {self.after!r}, the cache goes on with {others}"
            case Reason.EVICTED:
                return f"{head}: behind {self.before!r} {found.evicted_len} more tokens were cached, and evicted"
        return f"{head}: behind {self.before!r}, {found.reason.value}"


def explained(found: Explanation, tokens: Sequence[int], tokenizer: Tokenizer) -> StateExplanation:
    """With the texts that belong to it."""
    at = found.position
    return StateExplanation(
        found,
        text_of(tokens[max(0, at - NUM_AROUND) : at], tokenizer),
        text_of(tokens[at : at + NUM_AROUND], tokenizer),
        tuple(text_of([token], tokenizer) for token in found.expected),
    )
