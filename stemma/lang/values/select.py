"""Choosing among given answers by how likely the model finds each of them. Pure: what to ask, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from stemma.runtime.core.checking import checked, describe
from stemma.runtime.engine import Completion
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import Tokenizer

By = Literal["likelihood", "unconditional", "mask"]


class Scoring(NamedTuple):
    """A prompt that ends in an option. first: index of the first token that is scored."""

    prompt: tuple[int, ...]
    first: int


def check_options(options: Sequence[str]) -> None:
    """Raises InvalidRequest unless there is something to choose."""
    is_list = isinstance(options, Sequence) and not isinstance(options, str)
    texts = checked(options, Sequence[str], "options") if is_list else []
    if not texts or not all(texts) or len(set(texts)) < len(texts):
        raise InvalidRequest(f"give select a list of different texts; these are {describe(options)}", "options")


def scorings(
    context: tuple[int, ...], options: Sequence[tuple[int, ...]], by: By, tokenizer: Tokenizer
) -> list[Scoring]:
    """One for each option behind the context; then, for "unconditional", one for each behind nothing."""
    asked = [Scoring(context + option, len(context)) for option in options]
    if by == "unconditional":
        nothing = _nothing(tokenizer)
        asked += [Scoring(nothing + option, len(nothing)) for option in options]
    return asked


def scores(completions: Sequence[Completion], num_options: int) -> list[float]:
    """The mean log-probability of each option's tokens, less what it is without the context if that was asked."""
    means = [sum(item.logprob for item in each.prompt_logprobs) / len(each.prompt_logprobs) for each in completions]
    without = means[num_options:] or [0.0] * num_options
    return [mean - prior for mean, prior in zip(means[:num_options], without, strict=True)]


def _nothing(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The token that stands where a text begins; one that separates texts if the model has no such token."""
    if tokenizer.prefix_ids:
        return tuple(tokenizer.prefix_ids)
    return (tokenizer.bos_id if tokenizer.bos_id is not None else min(tokenizer.special.values()),)
