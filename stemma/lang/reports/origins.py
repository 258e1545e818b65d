"""Where the tokens of a state came from, as spans: for its picture."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

Origin = Literal["cached", "computed", "sampled", "forced"]


class OriginSpan(NamedTuple):
    """Tokens up to position `end` (not with it) that came from one place; the span before it ends where it starts."""

    origin: Origin
    end: int


def with_prompt(spans: tuple[OriginSpan, ...], num_tokens: int, num_cached: int) -> tuple[OriginSpan, ...]:
    """The spans after a prompt of so many tokens, the first `num_cached` of which were found.

    |<--- spans ---->|<- cached ->|<- computed ->|
                            num_cached      num_tokens
    """
    for span in (OriginSpan("cached", num_cached), OriginSpan("computed", num_tokens)):
        if span.end > num_computed(spans):
            spans = (*spans, span)
    return spans


def with_generated(spans: tuple[OriginSpan, ...], num_tokens: int, forced: Collection[int]) -> tuple[OriginSpan, ...]:
    """The spans after so many generated tokens; `forced` are indexes among these."""
    start, grown = num_computed(spans), list(spans)
    for index in range(num_tokens):
        origin: Origin = "forced" if index in forced else "sampled"
        if index and grown[-1].origin == origin:
            grown.pop()
        grown.append(OriginSpan(origin, start + index + 1))
    return tuple(grown)


def num_computed(spans: tuple[OriginSpan, ...]) -> int:
    """Tokens that any request has been through."""
    return spans[-1].end if spans else 0
