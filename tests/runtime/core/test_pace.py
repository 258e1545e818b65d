"""Learning what steps cost, and how much of prompts they may have."""

from __future__ import annotations

import numpy as np

from stemma.radix import PrefixCache
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.pace import AIM, LEAST_CHUNK, STRETCH, Pace
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
