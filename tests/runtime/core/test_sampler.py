"""From logits to tokens: against the formulas, and each row as though it were alone."""

from __future__ import annotations

import math
from types import NoneType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.kernels.changes import LARGEST_LOGIT
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.runner import StepOutput
from stemma.runtime.core.sampler import Sampler
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.errors import GrammarFailed, RequestFailed
from tests.runtime.core.making import Words, row, sequence

SIZE = 40
SAMPLER = Sampler(ReferenceOps(torch.device("cpu")))


def logits_of(num_positions, seed=0):
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(size=(num_positions, SIZE)).astype(np.float32) * 3)


def batch_of(*rows):
    batch = Batch()
    for made in rows:
        batch.add(made)
    return batch


def sampled(batch, logits):
    return SAMPLER.sample(batch, StepOutput(logits, torch.empty(0, 0)))


def one(logits, generated=(), **options):
    """What is sampled behind a prompt and some output; `logits` as they were sampled from."""
    item = sequence([1, 2, 3], max_tokens=50, **options)
    item.tokens += generated
    (result,) = sampled(batch_of(row(item, len(item.tokens) - 1, item.tokens[-1:])), logits)
    return item, result


def test_the_default_is_the_largest_logit():
    logits = logits_of(1)
    assert one(logits.clone())[1].tokens == [int(logits.argmax())]


def test_a_bias_is_added():
    logits, before = logits_of(1), logits_of(1)
    _, result = one(logits, sampling=Sampling(logit_bias={7: 50.0, 9: -50.0}))
    before[0, 7] += 50
    before[0, 9] -= 50
    assert torch.equal(logits, before)
    assert result.tokens == [7]


@given(
    repetition=st.sampled_from([1.0, 0.5, 1.3, 100.0]),
    presence=st.sampled_from([0.0, 0.7, -2.0]),
    frequency=st.sampled_from([0.0, 0.3, -1.0]),
    generated=st.lists(st.integers(0, SIZE - 1), max_size=12),
)
def test_penalties_are_what_their_papers_say(repetition, presence, frequency, generated):
    """Repetition concerns the prompt too; presence and frequency what was generated."""
    sampling = Sampling(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency)
    logits, wanted = logits_of(1), logits_of(1)[0].tolist()
    one(logits, generated, sampling=sampling)
    for token in {1, 2, 3, *generated}:
        wanted[token] = wanted[token] / repetition if wanted[token] > 0 else wanted[token] * repetition
    for token in set(generated):
        wanted[token] -= presence + frequency * generated.count(token)
    assert logits[0].tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_a_small_repetition_penalty_leaves_logits_finite():
    logits = logits_of(1)
    logits[0, 1] = 10.0
    _, result = one(logits, sampling=Sampling(repetition_penalty=1e-38))
    assert result.tokens == [1]
    assert torch.isfinite(logits).all()
    assert logits.max() == LARGEST_LOGIT


def test_log_probabilities_are_the_models_own():
    """Before bias, penalties, temperature and grammar: of a token that only these made possible, too."""
    logits = logits_of(1)
    own = torch.log_softmax(logits[0].double(), -1)
    least = int(own.argmin())
    sampling = Sampling(temperature=2.0, seed=1, logit_bias={3: 9.0}, frequency_penalty=1.0, logprobs=4)
    _, result = one(logits, [5, 5], sampling=sampling, matcher=Words([5, 5, least]).past(5, 5))
    (report,) = result.logprobs
    assert result.tokens == [report.token] == [least]
    assert report.logprob == pytest.approx(float(own[least]), abs=1e-5)
    best = own.sort(descending=True)
    assert [token for token, _ in report.top] == best.indices[:4].tolist()
    assert [value for _, value in report.top] == pytest.approx(best.values[:4].tolist(), abs=1e-5)


@pytest.mark.parametrize(("start", "end", "scored_from"), [(0, 4, 1), (4, 9, 1), (0, 10, 6), (5, 10, 8), (9, 10, 1)])
def test_a_prompt_is_scored_by_what_predicts_each_token(start, end, scored_from):
    prompt = [(7 * at) % SIZE for at in range(10)]
    item = sequence(prompt, prompt_logprobs=2, scored_from=scored_from)
    made = row(item, start, prompt[start:end], num_samples=int(end == 10))
    logits = logits_of(made.num_logits)
    own = torch.log_softmax(logits.double(), -1)
    (result,) = sampled(batch_of(made), logits)
    wanted = {at + 1: own[at - end] for at in range(max(start, scored_from - 1), min(end, 9))}
    assert [report.token for report in result.prompt_logprobs] == [prompt[at] for at in wanted]
    for report, (at, values) in zip(result.prompt_logprobs, wanted.items(), strict=True):
        assert report.logprob == pytest.approx(float(values[prompt[at]]), abs=1e-5)
        assert [token for token, _ in report.top] == values.topk(2).indices.tolist()


def test_drafts_are_sampled_where_the_grammar_stands_behind_each():
    """Positions of one row: behind the last token, and behind each draft; the matcher comes back to where it was."""
    matcher = Words([10, 11, 12], [10, 11, 13], [10, 14, 15], [16, 17, 18]).past(10)
    item = sequence([1], matcher=matcher)
    item.tokens.append(10)
    (result,) = sampled(batch_of(row(item, 1, [10, 11], num_drafts=1)), logits_of(2))
    first, second = result.tokens
    assert first in (11, 14)
    assert second in (12, 13)
    assert matcher.said == [10]
    assert item.error is None


def test_where_nothing_can_follow_the_sequence_has_an_error_with_its_place():
    (start, first), (inside, second) = (one(logits_of(1), generated, matcher=Dead()) for generated in ([], [4, 5, 6]))
    assert type(start.error) is type(inside.error) is GrammarFailed
    assert "at the start of the output" in str(start.error)
    assert "after 3 tokens of output" in str(inside.error)
    assert len(first.tokens) == len(second.tokens) == 1  # thrown away by who reads the error


class Dead(Words):
    """Allows nothing, and has not ended."""

    def mask_into(self, row):
        row[:] = 0


class Raising:
    def __getattr__(self, name):
        raise ZeroDivisionError(name)


OWN = {
    "greedy": {},
    "warm": {"sampling": Sampling(temperature=0.8, seed=3, top_k=9, top_p=0.9, min_p=0.01)},
    "biased": {"sampling": Sampling(temperature=1.5, logit_bias={3: 4.0, 5: -4.0}, logprobs=2)},
    "penalised": {"sampling": Sampling(repetition_penalty=1.4, frequency_penalty=1.0, logprobs=0)},
    "guided": {},
    "scored": {"prompt_logprobs": 3},
    "refused": {},
}


def made(kind, seed):
    options = dict(OWN[kind])
    if kind == "guided":
        options["matcher"] = Words(*([token, 1] for token in [*range(5), *range(20, 30)]))
    if kind == "refused":
        options["matcher"] = Raising()
    prompt = [seed % SIZE, 2, 3, 4]
    return row(sequence(prompt, seed=seed, **options), 0, prompt)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(OWN)), st.integers(0, 2**40)), min_size=1, max_size=6))
def test_a_row_in_company_is_what_it_is_alone(kinds):
    rows = [made(*each) for each in kinds]
    logits = [logits_of(each.num_logits, at) for at, each in enumerate(rows)]
    together = sampled(batch_of(*rows), torch.cat(logits))
    for kind, each, result, own in zip(kinds, rows, together, logits, strict=True):
        again = made(*kind)
        (alone,) = sampled(batch_of(again), own.clone())
        errors = [type(item.sequence.error) for item in (each, again)]
        assert errors == [RequestFailed if kind[0] == "refused" else NoneType] * 2
        assert result == alone


def test_a_draft_that_its_own_grammar_refuses_is_the_sequences_trouble():
    item = sequence([1], matcher=Words([10, 11], [12, 13]))
    sampled(batch_of(row(item, 0, [1, 30], num_drafts=1)), logits_of(2))
    assert isinstance(item.error.__cause__, AssertionError)


def test_no_logits_are_asked_for_inside_a_prompt():
    item = sequence(range(8))
    (result,) = sampled(batch_of(row(item, 0, [0, 1, 2], num_samples=0)), torch.empty(0, 0))
    assert (result.tokens, result.logprobs, result.prompt_logprobs) == ([], (), ())


def test_temperature_spreads_what_is_drawn():
    """Of a thousand seeds at temperature 1, two logits that differ by log 3 are drawn three to one."""
    warm = Sampling(temperature=1.0)
    rows = [row(sequence([1], seed=seed, sampling=warm), 0, [1]) for seed in range(1000)]
    logits = torch.full((1000, SIZE), -math.inf)
    logits[:, :2] = torch.tensor([math.log(3), 0.0])
    drawn = [result.tokens[0] for result in sampled(batch_of(*rows), logits)]
    assert set(drawn) == {0, 1}
    assert abs(drawn.count(0) - 750) < 70  # five standard deviations


@given(
    temperatures=st.lists(st.sampled_from([0.0, 0.7, 1.5]), min_size=2, max_size=6),
    begun=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    seed=st.integers(0, 9),
)
def test_streams_beside_prompts_are_sampled_as_though_each_were_alone(temperatures, begun, seed):
    """begun: 0 is inside its prompt, 1 at its end, more are behind it."""
    rows = []
    for index, (temperature, num_begun) in enumerate(zip(temperatures, begun, strict=False)):
        item = sequence([1, 2, 3, 4], max_tokens=50, sampling=Sampling(temperature=temperature), seed=seed + index)
        item.tokens += range(max(num_begun - 1, 0))
        if num_begun > 1:
            rows.append(row(item, len(item.tokens) - 1, item.tokens[-1:]))
        else:
            rows.append(row(item, 1, item.tokens[1 : 3 + num_begun], num_samples=num_begun))
    logits = logits_of(sum(made.num_samples for made in rows), seed)
    results = sampled(batch_of(*rows), logits.clone())
    first = 0
    for made, result in zip(rows, results, strict=True):
        own = logits[first : first + made.num_samples].clone()
        first += made.num_samples
        alone = sampled(Batch([made], num_tokens=len(made.tokens)), own)[0]
        assert result.tokens == alone.tokens
        assert len(result.tokens) == made.num_samples
