"""What becomes of samples, drafts and forced tokens: against plain lists, and a grammar of finitely many words."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.runtime.core.acceptance import accept_samples, jump_forward
from stemma.runtime.core.batch import RowResult
from stemma.runtime.core.sampling import Sampling, TokenLogprob
from stemma.runtime.core.sequence import FinishReason
from stemma.runtime.errors import RequestFailed
from tests.runtime.core.making import Forced, Words, common, row, sequence

TOKENS = st.integers(0, 3)


@given(
    drafts=st.lists(TOKENS, max_size=4),
    samples=st.lists(TOKENS, min_size=5, max_size=5),
    max_tokens=st.integers(1, 6),
    end_tokens=st.frozensets(TOKENS, max_size=2),
    with_logprobs=st.booleans(),
)
def test_drafts_count_as_far_as_the_samples_agree(drafts, samples, max_tokens, end_tokens, with_logprobs):
    item = sequence([9, 9], max_tokens, end_tokens=end_tokens)
    samples = samples[: len(drafts) + 1]
    reports = [TokenLogprob(token, -float(at)) for at, token in enumerate(samples)]
    num_agreed = len(common(drafts, samples))
    said = samples[: num_agreed + 1][:max_tokens]
    ends = [at for at, token in enumerate(said) if token in end_tokens]
    said = said[: ends[0] + 1] if ends else said

    result = RowResult(samples, reports if with_logprobs else [])
    num_accepted = accept_samples(row(item, 1, [9, *drafts], len(drafts)), result)
    assert item.generated == said
    assert item.num_decoded == len(said)
    assert num_accepted == min(num_agreed, len(said) - (item.is_finished or len(said) == num_agreed + 1))
    assert item.logprobs == (reports[: len(said)] if with_logprobs else [])
    wanted = FinishReason.STOP if ends else FinishReason.LENGTH if len(said) == max_tokens else None
    assert item.finish_reason is wanted


class StopAt:
    """Stops the text at a token."""

    def __init__(self, token):
        self.token, self.heard = token, []

    def push(self, token):
        self.heard.append(token)
        return token == self.token


def test_nothing_is_taken_behind_what_stops_the_text():
    item = sequence([9], stop_checker=StopAt(5))
    assert accept_samples(row(item, 0, [9, 4, 5, 6], 3), RowResult([4, 5, 6, 7])) == 1
    assert item.generated == item.stop_checker.heard == [4, 5]
    assert item.finish_reason is FinishReason.STOP


def test_a_grammar_ends_the_output_where_nothing_can_follow():
    item = sequence([9], matcher=Words([1, 2], [1, 3, 4]))
    accept_samples(row(item, 0, [9]), RowResult([1]))
    assert item.finish_reason is None
    accept_samples(row(item, 1, [1]), RowResult([2]))
    assert item.finish_reason is FinishReason.STOP


def test_what_is_forced_is_appended_and_told_apart():
    item = sequence([9], matcher=Words([1, 2, 3, 4], [1, 2, 3, 5, 6]))
    jump_forward(item)
    assert (item.generated, item.jumped, item.num_decoded) == ([1, 2, 3], [0, 1, 2], 0)
    accept_samples(row(item, 3, [3]), RowResult([5]))
    jump_forward(item)
    assert (item.generated, item.jumped, item.num_decoded) == ([1, 2, 3, 5, 6], [0, 1, 2, 4], 1)
    assert item.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("options", "generated", "likely"),
    [
        ({}, [1], [2, 3, 4]),
        ({"max_tokens": 1}, [1], []),  # it has ended
        ({"sampling": Sampling(logit_bias={1: 1.0})}, [1], [2, 3, 4]),
        ({"sampling": Sampling(logprobs=0)}, [], []),  # every token is sampled, so that each has one
    ],
    ids=str,
)
def test_what_the_grammar_guesses_is_noted_unless_every_token_is_sampled(options, generated, likely):
    item = sequence([9], matcher=Guessing([1], [2, 3, 4]), **options)
    jump_forward(item)
    assert item.generated == generated
    assert item.likely == likely


class Guessing(Words):
    """Forces some tokens once, and guesses what comes behind them."""

    def __init__(self, certain, guesses):
        super().__init__([*certain, *guesses, 5], [*certain, 7])
        self.certain, self.guesses = certain, guesses

    def forced(self):
        return Forced(self.certain[len(self.said) :], self.guesses)


def test_after_the_end_nothing_is_forced():
    item = sequence([9], matcher=Words([1]))
    item.finish_reason = FinishReason.ABORT
    jump_forward(item)
    assert item.generated == []


WORDS = st.lists(st.lists(TOKENS, min_size=1, max_size=7).map(lambda word: (*word, 4)), min_size=1, max_size=6)


@given(words=WORDS, max_tokens=st.integers(1, 9), jumps=st.booleans(), seed=st.integers(0, 99))
def test_an_output_that_can_end_in_time_does(words, max_tokens, jumps, seed):
    """Whatever is sampled: if any word fits, the output is one, and if none does, it is cut at its limit."""
    draw = random.Random(seed)
    item = sequence([9], max_tokens, matcher=Words(*words), finish_in_time=True)
    while not item.is_finished and item.error is None:
        if jumps:
            jump_forward(item)
        if not item.is_finished:
            at, said = item.num_generated, tuple(item.generated)
            sample = draw.choice([word[at] for word in words if word[:at] == said])
            accept_samples(row(item, len(item.tokens) - 1, item.tokens[-1:]), RowResult([sample]))
    assert item.error is None
    if min(map(len, words)) <= max_tokens:
        assert item.finish_reason is FinishReason.STOP
        assert tuple(item.generated) in words
    else:
        assert item.finish_reason is FinishReason.LENGTH
    assert item.num_generated <= max_tokens


class Spelled(Words):
    """One text, that the tokenizer writes in three tokens and that two say as well."""

    def __init__(self):
        super().__init__([1, 1, 1, 4], [2, 3, 4])

    def forced(self):
        return Forced([] if self.said else [1, 1, 1], [])


@pytest.mark.parametrize(("max_tokens", "generated"), [(3, []), (4, [1, 1, 1])])
def test_what_is_forced_does_not_take_the_room_that_an_end_needs(max_tokens, generated):
    item = sequence([9], max_tokens, matcher=Spelled(), finish_in_time=True)
    jump_forward(item)
    assert item.generated == generated
    accept_samples(row(item, 0, [9]), RowResult([4] if generated else [1]))
    assert item.generated == ([1, 1, 1, 4] if generated else [2, 3, 4])
    assert item.finish_reason is FinishReason.STOP


class Finishing(Words):
    """What is forced is one word to its end; another is shorter."""

    def __init__(self):
        super().__init__([1, 1, 1, 4], [2, 4])

    def forced(self):
        return Forced([] if self.said else [1, 1, 1, 4], [])


@pytest.mark.parametrize(("max_tokens", "generated"), [(3, [2, 4]), (4, [1, 1, 1, 4])])
def test_a_forced_end_beyond_the_limit_is_not_in_time(max_tokens, generated):
    item = sequence([9], max_tokens, matcher=Finishing(), finish_in_time=True)
    jump_forward(item)
    if not item.is_finished:
        accept_samples(row(item, 0, [9]), RowResult([1]))
    assert (item.generated, item.finish_reason) == (generated, FinishReason.STOP)


class Raising:
    """Fails at whatever is asked."""

    def __getattr__(self, name):
        raise ZeroDivisionError(name)


@pytest.mark.parametrize("options", [{"matcher": Raising()}, {"stop_checker": Raising()}, {"matcher": Words([7])}])
def test_trouble_with_a_sample_is_the_sequences_own(options):
    item = sequence([9], **options)
    assert accept_samples(row(item, 0, [9, 5], 1), RowResult([5, 6])) == 0
    assert type(item.error) is RequestFailed
    assert type(item.error.__cause__) in (ZeroDivisionError, AssertionError)


def test_trouble_with_forced_tokens_is_the_sequences_own():
    item = sequence([9], matcher=Raising())
    jump_forward(item)
    assert isinstance(item.error.__cause__, ZeroDivisionError)
