"""A first token that cannot come in time is told so, as soon as that is certain, and never comes late in silence."""

from __future__ import annotations

import pytest

from stemma.radix import PrefixCache
from stemma.runtime.core.deadlines import Deadlines
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.step_cost import Load
from stemma.runtime.errors import DeadlineMissed
from tests.runtime.core.making import sequence


def timed(prompt, deadline, ttft=1.0, **options):
    item = sequence(prompt, ttft=ttft, **options)
    item.deadline = deadline
    return item


def taught(**limits) -> Scheduler:
    """A scheduler that knows: ten milliseconds a step, one a token of a prompt."""
    scheduler = Scheduler(PrefixCache(256, 4), Limits(**limits))
    for number in range(200):
        num_prompt = (0, 10, 100)[number % 3]
        scheduler.placing.pace.cost.learn(Load(num_prompt, 1, 10), 0.01 + 0.001 * num_prompt)
    return scheduler


def test_the_earliest_deadlines_go_first_and_who_is_left_without_time_has_missed_his():
    items = [timed([1], deadline) for deadline in (3.0, 1.0, 2.0, 0.5)]
    deadlines = Deadlines()
    for item in [*items, sequence([1])]:
        deadlines.add(item)
    assert deadlines.missed(0.0, lambda item: 0.5) == []
    assert deadlines.missed(0.0, lambda item: 1.0) == [items[3]]
    assert deadlines.missed(0.45, lambda item: 0.5) == [items[3]]
    assert deadlines.missed(1.5, lambda item: 0.5) == [items[3], items[1]]
    deadlines.discard(items[3])
    assert deadlines.missed(0.9, lambda item: 0.0) == []


def test_what_cannot_be_met_is_told_before_it_is_computed(fake):
    scheduler, model = taught(), fake.Model(256, 4)
    late, soon = timed(range(400), 0.2), timed(range(50, 90), 0.5)
    for item in (late, soon):
        scheduler.add(item)
    scheduler.commit(batch := scheduler.schedule(0.0), model.forward(batch), 0.05)
    assert scheduler.take_ended() == [late]
    assert isinstance(late.error, DeadlineMissed)
    assert "ttft_ms=1000" in str(late.error)
    assert late.num_computed_once == 0
    fake.run(scheduler, model)
    assert soon.error is None
    assert soon.generated == fake.expected(list(range(50, 90)), 8)


def test_one_that_waits_behind_others_hears_it_while_it_waits(fake):
    scheduler, model = taught(max_running=1), fake.Model(256, 4)
    scheduler.add(sequence([1, 2, 3], 150))
    scheduler.commit(batch := scheduler.schedule(0.0), model.forward(batch))
    scheduler.add(waits := timed(range(20), 1.0))
    now = 0.0
    while waits.error is None:
        scheduler.commit(batch := scheduler.schedule(now), model.forward(batch), now + 0.01)
        now += 0.01
        assert now < 1.05
    assert isinstance(waits.error, DeadlineMissed)
    assert now > 0.9


def test_a_token_that_came_late_is_an_error(fake):
    scheduler, model = Scheduler(PrefixCache(64, 4), Limits()), fake.Model(64, 4)
    scheduler.add(item := timed(range(9), 1.0))
    scheduler.commit(batch := scheduler.schedule(0.0), model.forward(batch), 1.5)
    assert isinstance(item.error, DeadlineMissed)
    assert scheduler.cache.stats().leased == 0


def test_a_deadline_that_was_met_does_not_matter_any_more(fake):
    scheduler, model = Scheduler(PrefixCache(64, 4), Limits()), fake.Model(64, 4)
    scheduler.add(item := timed(range(9), 1.0))
    for now in (0.0, 2.0, 4.0):
        scheduler.commit(batch := scheduler.schedule(now), model.forward(batch), now + 0.1)
    assert item.num_generated == 3
    assert item.error is None


@pytest.mark.parametrize("order", ["fair", "lpm", "fcfs", "dfs"])
def test_who_must_start_now_goes_before_longer_prefixes(fake, order):
    scheduler, model = taught(max_running=1, order=order), fake.Model(256, 4)
    scheduler.add(sequence(range(40), 1))
    fake.run(scheduler, model)
    hits = [sequence([*range(40), n], 1) for n in range(5)]
    urgent = timed([60, 61], 2.0, max_tokens=1)
    for item in [*hits, urgent]:
        scheduler.add(item)
    scheduler.commit(batch := scheduler.schedule(1.5), model.forward(batch), 1.6)
    assert scheduler.take_ended() == [urgent]
