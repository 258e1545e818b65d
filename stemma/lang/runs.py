"""Where the tokens of a state came from, as runs: for its picture."""

from __future__ import annotations

from typing import Literal, NamedTuple

Origin = Literal["cached", "computed", "sampled"]


class Run(NamedTuple):
    """Tokens up to position `end` (not with it) that came from one place; the run before it ends where it starts."""

    origin: Origin
    end: int


def grown(runs: tuple[Run, ...], num_prompt: int, num_cached: int, num_generated: int) -> tuple[Run, ...]:
    """The runs after a request: new prompt tokens, found or computed, then what was generated.

    |<---- runs ---->|<- cached ->|<- computed ->|<- sampled ->|
                                  num_cached     num_prompt
    """
    end = runs[-1].end if runs else 0
    new = (Run("cached", num_cached), Run("computed", num_prompt), Run("sampled", num_prompt + num_generated))
    for run in new:
        if run.end > end:
            runs = (*runs, run)
            end = run.end
    return runs
