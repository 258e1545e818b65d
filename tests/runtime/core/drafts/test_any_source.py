"""Whatever is guessed, the tokens are the model's: right guesses, wrong ones, both, with preemption and eviction."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.radix import PrefixCache
from stemma.runtime.core.drafts.drafter import FREE_SOURCES, Drafter
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import FinishReason
from tests.runtime.core.making import drafter, sequence

NUM_TOKENS = 50


def oracle(fake, share_right: float):
    """Knows what comes, and is wrong now and then."""
    draw = random.Random(1)

    def guess(tokens: list[int]) -> list[int]:
        right = fake.expected(tokens, 9)
        return [token if draw.random() < share_right else draw.randrange(NUM_TOKENS) for token in right]

    return guess


@pytest.mark.parametrize("share_right", [0.0, 0.5, 0.9, 1.0])
@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=24), min_size=1, max_size=8),
    max_tokens=st.integers(1, 12),
    block_size=st.sampled_from([1, 2, 4, 16]),
    extra_blocks=st.integers(0, 40),
    max_running=st.integers(1, 6),
    max_chunk=st.sampled_from([1, 7, 64]),
)
def test_any_schedule_gives_the_models_tokens(
    fake, share_right, prompts, max_tokens, block_size, extra_blocks, max_running, max_chunk
):
    num_blocks = -(-36 // block_size) + extra_blocks
    limits = Limits(max_running=max_running, max_batch_tokens=32, max_chunk=max_chunk)
    scheduler = Scheduler(PrefixCache(num_blocks, block_size), limits, drafter(oracle(fake, share_right), 32))
    items = [sequence(prompt, max_tokens) for prompt in prompts]
    for item in items:
        scheduler.add(item)
    fake.run(scheduler, fake.Model(num_blocks, block_size))
    for item in items:
        assert item.generated == fake.expected(item.request.prompt.tolist(), max_tokens)
        assert item.finish_reason is FinishReason.LENGTH
        assert item.usage.decoded_tokens == max_tokens
    assert scheduler.cache.stats().leased == 0
    assert not scheduler.drafter._asked, "a sequence that has ended is remembered"


def test_right_guesses_save_steps_and_no_token_is_computed_twice(fake):
    model, scheduler = fake.Model(64, 4), Scheduler(PrefixCache(64, 4), Limits(), drafter(oracle(fake, 1.0)))
    item = sequence([1, 2, 3], 21)
    scheduler.add(item)
    steps = 0
    while not scheduler.is_idle:
        batch = scheduler.schedule()
        scheduler.commit(batch, model.forward(batch))
        steps += 1
    assert item.generated == fake.expected([1, 2, 3], 21)
    assert steps < 6
    assert model.num_computed == 3 + 20
    assert (item.num_drafted, item.num_accepted) == (21 - steps, 21 - steps)


def test_what_a_request_switches_off_is_not_guessed(fake):
    scheduler = Scheduler(PrefixCache(64, 4), Limits(), drafter(oracle(fake, 1.0)))
    item = sequence([1, 2, 3], 9, drafts=False)
    scheduler.add(item)
    fake.run(scheduler, fake.Model(64, 4))
    assert item.generated == fake.expected([1, 2, 3], 9)
    assert item.num_drafted == 0


@pytest.mark.parametrize("name", sorted(FREE_SOURCES))
def test_the_same_again_is_the_same(fake, name):
    scheduler = Scheduler(PrefixCache(64, 4), Limits(), Drafter({name: FREE_SOURCES[name]}, 1024))
    model, generated = fake.Model(64, 4), []
    for _ in range(3):
        item = sequence([4, 5, 4, 5, 4], 30)
        scheduler.add(item)
        fake.run(scheduler, model)
        generated.append(item.generated)
    assert generated == [fake.expected([4, 5, 4, 5, 4], 30)] * 3
    if name == "tree":
        assert item.num_accepted > 20, "the tree goes on with what it went on with before"
