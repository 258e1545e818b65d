"""Learning what steps cost, and how much of prompts they may have."""

from __future__ import annotations

import numpy as np
import pytest

from stemma.radix import PrefixCache
from stemma.runtime.core.drafts.drafter import Drafter
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.pace import AIM, FIRST_DECODES, LEAST_CHUNK, STRETCH, Pace
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.step_cost import MOST, Load, StepCost
from tests.runtime.core.making import sequence
from tests.runtime.core.test_step_cost import machine, taught


def test_a_step_with_a_chunk_takes_what_was_asked_for():
    pace = Pace(taught(), 0.03, 512, 1024)
    decodes = Load(0, 8, 8000)
    for context in (0, 1000, 4000):
        chunk = pace.budget(decodes, context, is_read=False)
        assert chunk % LEAST_CHUNK == 0
        most = machine(decodes._replace(num_prompt=chunk, num_pairs=chunk * context))
        assert most <= 1.04 * AIM * 0.03
        more = chunk + LEAST_CHUNK
        assert machine(decodes._replace(num_prompt=more, num_pairs=more * context)) > 0.97 * AIM * 0.03


def test_without_a_target_only_streams_that_are_read_bound_a_step():
    pace = Pace(StepCost(), None, 512, 1024)
    decodes = Load(0, 8, 8000)
    assert pace.budget(decodes, 0, is_read=True) == LEAST_CHUNK  # nothing is known yet
    pace.cost = taught()
    assert pace.budget(decodes, 0, is_read=False) == MOST
    assert pace.budget(Load(), 0, is_read=True) == MOST
    chunk = pace.budget(decodes, 0, is_read=True)
    assert machine(decodes._replace(num_prompt=chunk)) <= 1.05 * STRETCH * machine(decodes)


def test_drafts_and_prompts_of_a_step_share_what_it_may_take_longer():
    pace, plain = Pace(taught(), None, 512, 1024), Load(0, 64, 8000)
    drafted = plain._replace(num_decoded=64 + 40)
    chunk = pace.budget(drafted, 0, is_read=True, num_drafts=40)
    assert LEAST_CHUNK < chunk < pace.budget(plain, 0, is_read=True) < pace.budget(drafted, 0, is_read=True)
    assert machine(drafted._replace(num_prompt=chunk)) <= 1.05 * STRETCH * machine(plain)
    assert pace.budget(plain._replace(num_decoded=256), 0, is_read=True, num_drafts=192) == LEAST_CHUNK


def test_a_target_that_decodes_alone_miss_still_lets_prompts_go_on():
    pace = Pace(taught(), 1e-4, 512, 1024)
    assert pace.budget(Load(0, 8, 8000), 0, is_read=True) == LEAST_CHUNK


def worst_step(scheduler, model, prompt_len: int) -> tuple[float, float]:
    """The longest step of eight streams alone, and with a prompt beside them."""
    items = [sequence([n % 50] * (n + 2), 200) for n in range(8)]
    for item in items:
        item.is_read = True
        scheduler.add(item)
    worst = [0.0, 0.0]
    newcomer = None
    for step in range(190):
        if step == 60:
            scheduler.add(newcomer := sequence(np.arange(prompt_len) % 50, 1))
        batch = scheduler.schedule(0.0)
        seconds = machine(batch.load)
        if step > 20:
            worst[newcomer is not None] = max(worst[newcomer is not None], seconds)
        scheduler.commit(batch, model(batch))
        scheduler.drafter.took(batch, seconds)
        if newcomer is not None and newcomer.is_finished:
            break
    assert newcomer is not None
    assert newcomer.is_finished
    return worst[0], worst[1]


def test_a_long_prompt_beside_eight_streams_keeps_their_gaps(fake):
    alone, beside = worst_step(Scheduler(PrefixCache(512, 16), Limits(max_chunk=512)), fake.answers, 600)
    assert beside < 3 * alone
    alone, beside = worst_step(Scheduler(PrefixCache(512, 16), Limits(max_chunk=512, tpot=0.04)), fake.answers, 600)
    assert beside < 1.5 * 0.04


def test_a_target_bounds_what_is_decoded_too():
    assert Pace(StepCost(), None, 512, 1024).most_decoded(0) == MOST
    pace = Pace(StepCost(), 0.010, 512, 1024)
    assert pace.most_decoded(0) == MOST  # nothing is known yet
    pace.cost = taught()
    most = pace.most_decoded(0)
    assert pace.cost.seconds(Load(0, most)) <= AIM * 0.010 < pace.cost.seconds(Load(0, most + 1))


def with_target(tpot: float, cost: StepCost, num_blocks=512, **limits) -> Scheduler:
    drafter = Drafter({}, 1024)
    drafter.cost = cost
    return Scheduler(PrefixCache(num_blocks, 4), Limits(tpot=tpot, **limits), drafter)


def decoding(scheduler: Scheduler) -> int:
    return sum(item.request.max_tokens > 1 for item in scheduler.running)


def run(scheduler: Scheduler, model, most_steps=2000) -> list[int]:
    """How many ran beside each other, step by step, until all have ended."""
    counts = []
    for _ in range(most_steps):
        if scheduler.is_idle:
            return counts
        batch = scheduler.schedule(0.0)
        counts.append(decoding(scheduler))
        if batch is not None:
            scheduler.commit(batch, model(batch))
        scheduler.cache.check()
    raise AssertionError("somebody waits for ever")


TARGET = (0.004 + 5.2 * 2e-4) / AIM
"""Five decodes of the tests' machine are within it, six are not."""


@pytest.mark.parametrize("order", ["fair", "lpm", "dfs", "fcfs"])
def test_no_more_are_admitted_than_decode_within_the_target_and_one_comes_in_when_one_ends(fake, order):
    scheduler = with_target(TARGET, taught(), order=order)
    items = [sequence([n % 50, n // 50, 7], 3 + n % 9) for n in range(60)]
    for item in items:
        scheduler.add(item)
    counts = run(scheduler, fake.answers)
    assert max(counts) == 5
    assert set(counts[: -2 * 12]) <= {5}  # full from the first step until nobody waits
    assert all(item.num_generated == item.request.max_tokens for item in items)


def test_where_not_even_one_decodes_within_the_target_they_go_one_by_one(fake):
    scheduler = with_target(1e-4, taught())
    items = [sequence([n, 1, 2], 4) for n in range(5)]
    for item in items:
        scheduler.add(item)
    assert set(run(scheduler, fake.answers)) == {1}
    assert all(item.num_generated == 4 for item in items)


def test_of_those_held_back_the_higher_priority_comes_in_first(fake):
    scheduler = with_target(1e-4, taught())
    items = [sequence([n, 1, 2], 4, priority=n % 3) for n in range(9)]
    for item in items:
        scheduler.add(item)
    ended = []
    while not scheduler.is_idle:
        scheduler.commit(batch := scheduler.schedule(0.0), fake.answers(batch))
        ended += [item.request.priority for item in scheduler.take_ended()]
    assert ended == sorted(ended, reverse=True)


def test_what_is_only_read_is_held_back_by_nobodys_decodes_while_one_has_its_place(fake):
    """It decodes nothing, so that it does not count, and others do not count for it."""
    scheduler = with_target(TARGET, taught())
    for n in range(4):
        scheduler.add(sequence([n, 1, 2], 40))
    scheduler.schedule(0.0)
    for n in range(20):
        scheduler.add(sequence([20 + n, 3], 1))
    scheduler.commit(batch := scheduler.schedule(0.0), fake.answers(batch))
    assert len(scheduler.take_ended()) == 20


def test_long_contexts_let_short_ones_pass_and_do_not_starve(fake):
    """Reading this much takes a step beyond the target, except for one alone."""
    cost = StepCost()
    for step in range(2000):
        read = 1000 * (step % 7)
        cost.learn(Load(0, 1 + step % 6, read), 0.001 + 1e-5 * read)
    scheduler = with_target(0.004, cost, num_blocks=4096, max_chunk=4096, max_batch_tokens=8192)
    long = sequence(np.arange(3000) % 50, 5)
    short = [sequence([n % 50, n // 50, 3], 5) for n in range(300)]
    for item in (short[0], long, *short[1:]):
        scheduler.add(item)
    ended = []
    while not scheduler.is_idle:
        scheduler.commit(batch := scheduler.schedule(0.0), fake.answers(batch))
        ended += scheduler.take_ended()
    assert len(ended) == 301
    assert 10 < ended.index(long) < 300


def test_while_nothing_is_known_few_decode_side_by_side(fake):
    scheduler = with_target(0.01, StepCost())
    for n in range(20):
        scheduler.add(sequence([n, 1, 2], 4))
    assert set(run(scheduler, fake.answers)[:5]) == {FIRST_DECODES}


def test_a_preempted_one_comes_back_only_within_the_target(fake):
    """A pool too small for all: who was sent back waits for its place like the others, and has all its tokens."""
    scheduler = with_target(TARGET, taught(), num_blocks=15)
    for n in range(60):
        scheduler.add(sequence([n % 50, 40], 2))  # outputs seem to be short
    run(scheduler, fake.answers)
    items = [sequence([n, 1, 2], 30) for n in range(12)]
    for item in items:
        scheduler.add(item)
    assert max(run(scheduler, fake.answers)) <= 5
    assert scheduler.num_preempted > 0
    assert all(item.num_generated == 30 for item in items)
