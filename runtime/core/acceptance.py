"""What becomes of a sequence's tokens: samples are taken, drafts verified, forced ones appended, ends recognised.

Touches nothing but the sequence; blocks and queues are the scheduler's. What its matcher or its text raises becomes the
sequence's error.
"""

from __future__ import annotations

from typing import NamedTuple

from stemma.runtime.core.agreement import num_equal
from stemma.runtime.core.batch import Row, RowResult
from stemma.runtime.core.failures import as_stemma_error, dead_end
from stemma.runtime.core.matchers import ForcedTokens, GrammarMatcher
from stemma.runtime.core.sequence import FinishReason, Sequence


class _Forced(NamedTuple):
    """Where nothing is looked at."""

    tokens: list[int]
    drafts: list[int]


def accept_samples(row: Row, result: RowResult, *, jumps: bool = True) -> int:
    """Take the samples as far as the drafts agree with them. Returns how many drafts did.

    jumps: where a grammar forces tokens between two samples, these are taken, not what was sampled there: as without
    drafts.
    """
    try:
        return _accept_samples(row, result, jumps)
    except BaseException as error:
        row.sequence.error = as_stemma_error(error)
        return 0


def _accept_samples(row: Row, result: RowResult, jumps: bool) -> int:
    sequence, num_accepted = row.sequence, 0
    if sequence.is_plain and len(result.tokens) == 1 and not row.num_drafts and not result.logprobs:
        sequence.num_decoded += 1  # most rows of most steps
        _append(sequence, result.tokens[0])
        return 0
    drafts, sequence.drafts = row.tokens[len(row.tokens) - row.num_drafts :], []
    sequence.num_drafted += len(drafts)
    for index, token in enumerate(result.tokens):
        if index < num_accepted:
            continue  # a forced token stands there
        if index and _is_stuck(sequence, token):
            raise dead_end(sequence.num_generated)
        if _ends_in_time(sequence, token):
            break
        if result.logprobs:
            sequence.logprobs.append(result.logprobs[index])
        sequence.num_decoded += 1
        _append(sequence, token)
        if sequence.is_finished or index == len(drafts) or drafts[index] != token:
            break
        num_accepted += 1
        if jumps and sequence.matcher is not None:
            num_forced, num_agreed = _take_forced(sequence, drafts[num_accepted:])
            num_accepted += num_agreed
            if sequence.is_finished or num_agreed < num_forced:
                break
    sequence.num_accepted += num_accepted
    return num_accepted


def _take_forced(sequence: Sequence, drafts: list[int]) -> tuple[int, int]:
    """Append what the matcher forces. Returns how many tokens that were, and how many of them the drafts begin with."""
    num_before = len(sequence.tokens)
    _jump_forward(sequence)
    forced = sequence.tokens[num_before:]
    return len(forced), num_equal(forced, drafts)


def jump_forward(sequence: Sequence) -> None:
    """Append what the matcher forces; the next step computes it like a piece of prompt. What it guesses is noted.

    Where log-probabilities are reported every token is sampled, so that each has one.
    """
    try:
        _jump_forward(sequence)
    except BaseException as error:
        sequence.error = as_stemma_error(error)


def _jump_forward(sequence: Sequence) -> None:
    if sequence.forced_to == len(sequence.tokens):
        return  # asked again in the same place it may force more, which would hang on how steps were divided
    sequence.likely = []
    forced = _forced(sequence)
    for token in forced.tokens:
        _append_forced(sequence, token)
        if sequence.is_finished:
            return
    sequence.likely, sequence.forced_to = forced.drafts, len(sequence.tokens)


def _forced(sequence: Sequence) -> ForcedTokens:
    """What the matcher forces now, and what it guesses behind that."""
    matcher = sequence.matcher
    if sequence.is_finished or matcher is None or sequence.request.sampling.logprobs is not None:
        return _Forced([], [])
    forced = matcher.forced()
    if forced.tokens and not _leaves_time(sequence, matcher, forced.tokens):
        return _Forced([], [])
    return forced


def _ends_in_time(sequence: Sequence, token: int) -> bool:
    """Whether the output was ended by its shortest completion, because after this token none would fit."""
    matcher = sequence.matcher
    if matcher is None or not sequence.request.finish_in_time:
        return False
    if _leaves_time(sequence, matcher, [token]):
        return False
    completion = matcher.shortest_completion(sequence.request.max_tokens - sequence.num_generated)
    if completion is None:
        return False  # there never was time: it ends by its length
    for forced in completion:
        _append_forced(sequence, forced)
        if sequence.finish_reason is FinishReason.STOP:
            break  # by a stop string: nothing comes behind it
    sequence.finish_reason = FinishReason.STOP
    return True


def _leaves_time(sequence: Sequence, matcher: GrammarMatcher, tokens: list[int]) -> bool:
    """Whether a completion still fits behind these tokens; always, where nobody asked for that."""
    if not sequence.request.finish_in_time:
        return True
    remaining = sequence.request.max_tokens - sequence.num_generated - len(tokens)
    for token in tokens:
        matcher.advance(token)
    fits = remaining >= 0 and (matcher.is_finished or matcher.shortest_completion(remaining) is not None)
    matcher.rollback(len(tokens))
    return fits


def _append_forced(sequence: Sequence, token: int) -> None:
    sequence.jumped.append(sequence.num_generated)
    _append(sequence, token)


def _append(sequence: Sequence, token: int) -> None:
    """Append a token and see whether it ends the sequence."""
    request, tokens = sequence.request, sequence.tokens
    tokens.append(token)
    stopped = sequence.stop_checker is not None and sequence.stop_checker.push(token)
    if stopped or (sequence.matcher is not None and _advance(sequence, token)) or token in request.end_tokens:
        sequence.finish_reason = FinishReason.STOP
    elif len(tokens) - sequence.num_prompt >= request.max_tokens:
        sequence.finish_reason = FinishReason.LENGTH


def _advance(sequence: Sequence, token: int) -> bool:
    """Tell the matcher; whether nothing can follow."""
    assert sequence.matcher is not None
    allowed = sequence.matcher.advance(token)
    assert allowed, f"token {token} was sampled or forced against the matcher's mask"
    return sequence.matcher.is_finished


def _is_stuck(sequence: Sequence, token: int) -> bool:
    """Whether a token was sampled behind a draft where the mask had none to choose from."""
    matcher = sequence.matcher
    if matcher is None:
        return False
    if not matcher.advance(token):
        return True
    matcher.rollback(1)
    return False
