"""Where the tokens of a state came from, as runs: for its picture."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

Origin = Literal["cached", "computed", "sampled", "forced"]


class Run(NamedTuple):
    """Tokens up to position `end` (not with it) that came from one place; the run before it ends where it starts."""

    origin: Origin
    end: int


def with_prompt(runs: tuple[Run, ...], num_tokens: int, num_cached: int) -> tuple[Run, ...]:
    """The runs after a prompt of so many tokens, the first `num_cached` of which were found.

    |<---- runs ---->|<- cached ->|<- computed ->|
                            num_cached      num_tokens
    """
    for run in (Run("cached", num_cached), Run("computed", num_tokens)):
        if run.end > num_computed(runs):
            runs = (*runs, run)
    return runs


def with_generated(runs: tuple[Run, ...], num_tokens: int, forced: Collection[int]) -> tuple[Run, ...]:
    """The runs after so many generated tokens; `forced` are indexes among these."""
    start, grown = num_computed(runs), list(runs)
    for index in range(num_tokens):
        origin: Origin = "forced" if index in forced else "sampled"
        if index and grown[-1].origin == origin:
            grown.pop()
        grown.append(Run(origin, start + index + 1))
    return tuple(grown)


def num_computed(runs: tuple[Run, ...]) -> int:
    """Tokens that any request has been through."""
    return runs[-1].end if runs else 0
