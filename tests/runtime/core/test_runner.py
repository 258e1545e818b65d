"""A step of the tiny model in float64: chunks, company and copied blocks never change a logit."""

from __future__ import annotations

import pytest
import torch

from stemma.kernels.steps import EagerExecutor
from stemma.radix import BlockCopy, PrefixCache
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.runner import Runner
from stemma.runtime.errors import NoRoomForGraphs
from tests.kernels.memories import memory_of
from tests.runtime.core.making import row, sequence

PROMPT = [(37 * at) % 250 for at in range(21)]
SIZE = 4


@pytest.fixture
def runner(tiny_loaded):
    model = tiny_loaded.model
    return Runner(model, memory_of(model.ops, model.config, 16, SIZE))


def step(runner, *rows, copies=()):
    batch = Batch(copies=list(copies))
    for made in rows:
        batch.add(made)
    return runner.forward(batch).logits


def leased(cache, prompt, **options):
    """A sequence with room for its prompt and one token more."""
    item = sequence(prompt, **options)
    item.lease = cache.acquire(item.tokens, max_hit=0)
    item.lease.reserve(len(prompt) + 1)
    return item


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_prompt_in_chunks_is_the_prompt_at_once(runner):
    whole = step(runner, row(leased(PrefixCache(16, SIZE), PROMPT), 0, PROMPT))
    assert whole.shape == (1, runner.model.config.vocab_size)
    item = leased(PrefixCache(16, SIZE), PROMPT)
    for start, end in ((0, 7), (7, 14), (14, 20)):
        assert step(runner, row(item, start, PROMPT[start:end], num_samples=0)).numel() == 0
    close(step(runner, row(item, 20, PROMPT[20:])), whole)


def test_logits_come_row_by_row_and_position_by_position(runner):
    """Of one that is scored from its middle on, one inside its prompt, and one with two drafts."""
    cache = PrefixCache(16, SIZE)
    scored, inside, drafting = (
        leased(cache, PROMPT, prompt_logprobs=0, scored_from=18), leased(cache, PROMPT[:9]), leased(cache, PROMPT[3:9])
    )  # fmt: skip
    rows = (row(scored, 0, PROMPT), row(inside, 0, PROMPT[:6], num_samples=0),
            row(drafting, 0, [*PROMPT[3:7], 5, 6], num_drafts=2))  # fmt: skip
    logits = step(runner, *rows)
    assert [made.num_logits for made in rows] == [4, 0, 3]
    assert len(logits) == 7
    for at, prefix in enumerate((*(PROMPT[:end] for end in (18, 19, 20, 21)),
                                 PROMPT[3:7], [*PROMPT[3:7], 5], [*PROMPT[3:7], 5, 6])):  # fmt: skip
        close(step(runner, row(leased(PrefixCache(16, SIZE), prefix), 0, prefix))[0], logits[at])


def test_copies_are_made_before_the_step_writes_and_once(runner):
    """A prompt that goes on from the middle of another's block: the copy has its tokens, the other keeps its own."""
    cache = PrefixCache(16, SIZE)
    first = leased(cache, PROMPT[:8])
    step(runner, row(first, 0, PROMPT[:8]))
    second = leased(cache, [*PROMPT[:6], 240, 241])
    table, source = second.lease.blocks, first.lease.blocks
    copies = [BlockCopy(source[0], table[0], SIZE), BlockCopy(source[1], table[1], 2)]
    batch = Batch([row(second, 6, [240, 241])], copies, num_tokens=2)
    logits = runner.forward(batch).logits
    assert batch.copies == []
    alone = PrefixCache(16, SIZE)
    other = Runner(runner.model, memory_of(runner.model.ops, runner.model.config, 16, SIZE))
    close(logits, step(other, row(leased(alone, second.tokens), 0, second.tokens)))
    close(step(runner, row(first, 8, [9])), step(other, row(leased(alone, [*PROMPT[:8], 9]), 0, [*PROMPT[:8], 9])))


def test_a_trial_leaves_all_but_the_first_block_alone(runner):
    runner.memory.full.keys.fill_(7.0)
    assert runner.try_once()
    keys = runner.memory.full.keys
    assert not torch.equal(keys[:, :1], torch.full_like(keys[:, :1], 7.0))
    assert torch.equal(keys[:, SIZE:], torch.full_like(keys[:, SIZE:], 7.0))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_trial_tells_a_model_whose_logits_are_no_numbers(runner, monkeypatch, wrong):
    computed = runner.model.logits

    def spoilt(hidden, rows):
        logits = computed(hidden, rows)
        logits[0, 3] = wrong
        return logits

    monkeypatch.setattr(runner.model, "logits", spoilt)
    assert not runner.try_once()


class Unrecorded(EagerExecutor):
    """Its device fails when steps are recorded."""

    error: RuntimeError

    def record(self, report, beside=()):
        try:
            raise self.error
        except RuntimeError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error


@pytest.fixture
def unrecorded(tiny_loaded):
    model = tiny_loaded.model
    made = Runner(model, memory_of(model.ops, model.config, 16, SIZE))
    made._step = Unrecorded(model.ops, model, made.memory)
    return made


def test_without_memory_to_record_in_steps_are_computed_one_by_one(unrecorded, runner):
    unrecorded._step.error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.warns(NoRoomForGraphs, match="Lower memory_share, max_running, max_batch_tokens or context_length"):
        unrecorded.record(lambda num_done, num_all: None)
    first, second = (step(each, row(leased(PrefixCache(16, SIZE), PROMPT), 0, PROMPT)) for each in (unrecorded, runner))
    close(first, second)


def test_what_else_fails_while_steps_are_recorded_is_everybody_s(unrecorded):
    unrecorded._step.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="previous error during capture"):
        unrecorded.record(lambda num_done, num_all: None)
