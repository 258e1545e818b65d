"""Learning what steps cost, and how much of prompts they may have."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stemma.radix import PrefixCache
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.pace import AIM, LEAST_CHUNK, MOST, STRETCH, Load, Pace, StepCost
from stemma.runtime.core.scheduler import Scheduler
from tests.runtime.core.making import sequence


def machine(load: Load) -> float:
    """Seconds on a machine of the tests."""
    return 4e-3 + 5e-4 * load.num_prompt + 2e-4 * load.num_decoded + 1e-8 * load.num_read + 2e-9 * load.num_pairs


def taught(num_steps=400, noise=0.0, hiccups=0.0, seed=0) -> StepCost:
    cost, numbers = StepCost(), random.Random(seed)
    for _ in range(num_steps):
        prompt = numbers.choice([0, 0, 16, 64, 256])
        decoded = numbers.randrange(0, 16) if prompt else numbers.randrange(1, 16)
        load = Load(prompt, decoded, decoded * numbers.randrange(2000), prompt * numbers.randrange(2000))
        seconds = machine(load) * (1 + noise * numbers.uniform(-1, 1))
        cost.learn(load, seconds * (50 if numbers.random() < hiccups else 1))
    return cost


LOADS = [Load(0, 8, 8000), Load(64, 8, 8000, 64 * 500), Load(256, 1, 100, 256 * 1000), Load(16, 0, 0, 0)]


@pytest.mark.parametrize(("noise", "hiccups", "within"), [(0, 0, 0.02), (0.2, 0, 0.15), (0.1, 0.03, 0.35)])
def test_what_steps_cost_is_learnt_whatever_the_machine_does_between(noise, hiccups, within):
    cost = taught(noise=noise, hiccups=hiccups)
    for load in LOADS:
        assert cost.seconds(load) == pytest.approx(machine(load), rel=within)


def test_a_machine_that_becomes_slower_is_learnt_anew():
    cost = taught()
    numbers = random.Random(1)
    for _ in range(600):
        load = Load(numbers.choice([0, 64]), numbers.randrange(1, 16), 4000, 0)
        cost.learn(load, 2 * machine(load))
    assert cost.seconds(Load(64, 8, 4000)) == pytest.approx(2 * machine(Load(64, 8, 4000)), rel=0.1)


def test_a_step_with_a_chunk_takes_what_was_asked_for():
    pace = Pace(0.03, 512, 1024)
    pace.cost = taught()
    decodes = Load(0, 8, 8000)
    for context in (0, 1000, 4000):
        chunk = pace.budget(decodes, context, is_read=False)
        assert chunk % LEAST_CHUNK == 0
        most = machine(decodes._replace(num_prompt=chunk, num_pairs=chunk * context))
        assert most <= 1.04 * AIM * 0.03
        more = chunk + LEAST_CHUNK
        assert machine(decodes._replace(num_prompt=more, num_pairs=more * context)) > 0.97 * AIM * 0.03


def test_without_a_target_only_streams_that_are_read_bound_a_step():
    pace = Pace(None, 512, 1024)
    decodes = Load(0, 8, 8000)
    assert pace.budget(decodes, 0, is_read=True) == LEAST_CHUNK  # nothing is known yet
    pace.cost = taught()
    assert pace.budget(decodes, 0, is_read=False) == MOST
    assert pace.budget(Load(), 0, is_read=True) == MOST
    chunk = pace.budget(decodes, 0, is_read=True)
    assert machine(decodes._replace(num_prompt=chunk)) <= 1.05 * STRETCH * machine(decodes)


def test_a_target_that_decodes_alone_miss_still_lets_prompts_go_on():
    pace = Pace(1e-4, 512, 1024)
    pace.cost = taught()
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
        scheduler.placing.pace.cost.learn(batch.load, seconds)
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


def test_long_decodes_that_are_all_alike_leave_what_is_known_of_prompts():
    """Steps that never vary say nothing of one factor apart from the others; none may drift away for that."""
    cost, chance = StepCost(), random.Random(1)
    for turn in range(4):
        for step in range(3000):
            load = Load(0, 8, 8 * (300 + step % 5))
            cost.learn(load, machine(load) * chance.uniform(0.9, 1.4))
        for step in range(6 + turn):
            load = Load(16, 8, 2400, 16.0 * 16 * step)
            cost.learn(load, machine(load) * chance.uniform(0.9, 1.4))
        for num_prompt in (8, 64, 512):
            load = Load(num_prompt, 8, 2400)
            assert cost.seconds(load) == pytest.approx(machine(load), rel=0.6)
        assert cost.seconds(Load(0, 8, 2400)) >= 0


def test_a_target_bounds_what_is_decoded_too():
    assert Pace(None, 512, 1024).most_decoded() == MOST
    pace = Pace(0.010, 512, 1024)
    assert pace.most_decoded() == MOST  # nothing is known yet
    pace.cost = taught()
    most = pace.most_decoded()
    assert pace.cost.seconds(Load(0, most)) <= AIM * 0.010 < pace.cost.seconds(Load(0, most + 1))
