"""Who goes next: what each policy promises, fair turns of tenants, who is never starved, who never blocks others."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.radix import PrefixCache
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.order import ORDERS
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import FinishReason
from stemma.runtime.core.waiting import MAX_OVERTAKEN, Waiting
from tests.runtime.core.making import sequence

LEFT, RIGHT = list(range(12)), list(range(20, 32))


def make(order, num_blocks=64, **limits) -> Scheduler:
    return Scheduler(PrefixCache(num_blocks, 4), Limits(order=order, **limits))


def ended_in_order(fake, scheduler, items, num_blocks=64):
    for item in items:
        scheduler.add(item)
    return [items.index(item) for item in fake.run(scheduler, fake.Model(num_blocks, 4), check=False)]


def test_tenants_take_turns_by_what_they_were_given(fake):
    """One queues forty, the other five behind them: these do not wait for the forty, with `fair`."""
    items = [sequence([n, 1], 2, namespace="many/a") for n in range(40)]
    items += [sequence([n, 2], 2, namespace="few") for n in range(5)]
    place = {}
    for order in ("fair", "fcfs"):
        fresh = [sequence(item.request.prompt.tolist(), 2, namespace=item.request.namespace) for item in items]
        ended = ended_in_order(fake, make(order, max_running=1), fresh)
        place[order] = max(ended.index(at) for at in range(40, 45))
    assert place["fcfs"] == 44
    assert place["fair"] <= 11


def test_a_tenant_that_asks_for_long_outputs_gets_fewer_of_them(fake):
    items = [sequence([n, 1], 24, namespace="long") for n in range(12)]
    items += [sequence([n, 2], 4, namespace="short") for n in range(12)]
    ended = ended_in_order(fake, make("fair", max_running=1), items)
    first = ended[:12]
    assert sum(at >= 12 for at in first) >= 9


def test_a_tenant_that_was_away_has_no_claim_from_then():
    waiting = Waiting(ORDERS["fair"])
    busy, idle = sequence([1], namespace="busy"), sequence([2], namespace="idle")
    waiting.add(busy, b"", 0)
    waiting.started(busy, 1000)
    others = [sequence([3], namespace="busy") for _ in range(3)]
    for number, item in enumerate([*others, idle]):
        item.arrival = number + 2
        waiting.add(item, b"", 0)
    assert waiting.next(0.0) is idle
    waiting.started(idle, 10)
    again = sequence([4], namespace="idle")
    waiting.add(again, b"", 0)
    assert waiting.next(0.0) is again, "1,000 against 10"


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_nobody_is_overtaken_more_often_than_the_bound(fake, order):
    """A stream of cached, important requests never ends; the stranger of the lowest priority runs nevertheless."""
    scheduler, model = make(order, 256, max_running=1), fake.Model(256, 4)
    stranger = sequence([99, 98], 1, priority=-1)
    scheduler.add(stranger)
    num_ended = 0
    while stranger.finish_reason is None:
        while len(scheduler.waiting) < 20:
            scheduler.add(sequence([*LEFT, num_ended, len(scheduler.waiting)], 1))
        batch = scheduler.schedule()
        scheduler.commit(batch, model.forward(batch))
        num_ended += len(scheduler.take_ended())
        assert num_ended <= MAX_OVERTAKEN + 2


def test_one_that_does_not_fit_lets_those_pass_that_do_and_is_not_starved(fake):
    """Sixteen blocks, four of them held. The large one needs all the others; the small ones one each, and never end."""
    scheduler, model = make("lpm", 16, max_running=4), fake.Model(16, 4)
    scheduler.add(running := sequence([50, 51], 30))
    scheduler.commit(batch := scheduler.schedule(), model.forward(batch))
    large = sequence(list(range(100, 140)), 8)
    scheduler.add(large)
    passed, number = 0, 0
    while large.finish_reason is None:
        while len(scheduler.waiting) < 3:
            number += 1
            scheduler.add(sequence([60, number % 50], 2))
        batch = scheduler.schedule()
        scheduler.commit(batch, model.forward(batch))
        scheduler.cache.check()
        passed += sum(item is not running and item is not large for item in scheduler.take_ended())
        assert passed < 2 * MAX_OVERTAKEN
    assert passed >= 3
    assert large.generated == fake.expected(list(range(100, 140)), 8)


def test_those_who_wait_for_a_prefix_are_looked_at_as_one(fake, monkeypatch):
    """A hundred share a prefix that one computes in ten steps: one look a step, not a hundred."""
    scheduler, model = make("fair", 512, max_chunk=16), fake.Model(512, 4)
    prefix = [n % 50 for n in range(160)]
    for number in range(100):
        scheduler.add(sequence([*prefix, number % 50, number // 50], 1))
    looks, look = [], scheduler._look
    monkeypatch.setattr(scheduler, "_look", lambda batch, item: looks.append(item) or look(batch, item))
    for _ in range(9):
        looks.clear()
        scheduler.commit(batch := scheduler.schedule(), model.forward(batch))
        assert len(looks) <= 2


POLICY = st.sampled_from(sorted(ORDERS))


@settings(max_examples=150, deadline=None)
@given(
    order=POLICY,
    prompts=st.lists(
        st.tuples(
            st.lists(st.integers(0, 1), min_size=1, max_size=24),
            st.integers(1, 8),
            st.integers(0, 1),
            st.sampled_from(["", "a", "a/b", "c"]),
        ),
        min_size=1,
        max_size=14,
    ),
    num_blocks=st.integers(9, 40),
    max_running=st.integers(1, 5),
    max_chunk=st.sampled_from([1, 5, 64]),
    tpot=st.sampled_from([None, 0.01, 1.0]),
    is_read=st.booleans(),
    seed=st.integers(0, 99),
)
def test_whatever_the_order_and_the_pace_all_get_the_models_tokens(
    fake, order, prompts, num_blocks, max_running, max_chunk, tpot, is_read, seed
):
    numbers = random.Random(seed)
    limits = Limits(max_running, max(16, max_running), max_chunk, order=order, tpot=tpot)
    scheduler, model = Scheduler(PrefixCache(num_blocks, 4), limits), fake.Model(num_blocks, 4)
    items = [
        sequence(prompt, length, priority=priority, namespace=namespace)
        for prompt, length, priority, namespace in prompts
    ]
    waits = list(items)
    while waits or not scheduler.is_idle:
        while waits and numbers.random() < 0.6:
            waits[0].is_read = is_read
            scheduler.add(waits.pop(0))
        batch = scheduler.schedule()
        if batch is not None:
            scheduler.commit(batch, model.forward(batch))
            scheduler.drafter.took(batch, numbers.random())
        scheduler.cache.check()
    for item in items:
        assert item.finish_reason is FinishReason.LENGTH
        assert item.generated == fake.expected(item.request.prompt.tolist(), item.request.max_tokens)
    assert scheduler.cache.stats().leased == 0


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_ten_thousand_with_cancellations_on_a_small_pool_all_end_and_every_block_comes_back(fake, order):
    numbers = random.Random(7)
    scheduler = make(order, 64, max_running=16, max_batch_tokens=256)
    prefixes = [[numbers.randrange(50) for _ in range(numbers.randrange(4, 40))] for _ in range(40)]
    items, sampling = [], Sampling()
    num_items = 10_000
    for _ in range(num_items):
        prompt = [*numbers.choice(prefixes), *(numbers.randrange(50) for _ in range(numbers.randrange(1, 6)))]
        items.append(sequence(prompt, numbers.randrange(1, 4), sampling, priority=numbers.randrange(2),
                              namespace=numbers.choice(["a", "b", "c/d"])))  # fmt: skip
        scheduler.add(items[-1])
    gone = set(numbers.sample(range(num_items), num_items // 3))
    ended = {id(item) for item in items if item.is_finished}
    for at in [*gone][: num_items // 6]:
        scheduler.abort(items[at])
    rest = [*gone][num_items // 6 :]
    while not scheduler.is_idle:
        batch = scheduler.schedule()
        if batch is not None:
            scheduler.commit(batch, fake.answers(batch))
        for at in rest[:3]:
            scheduler.abort(items[at])
        del rest[:3]
        for item in scheduler.take_ended():
            assert id(item) not in ended
            ended.add(id(item))
    assert len(ended) == num_items
    assert all(item.finish_reason is FinishReason.LENGTH for at, item in enumerate(items) if at not in gone)
    stats = scheduler.cache.stats()
    assert (stats.leased, stats.free + stats.cached) == (0, 64)
    scheduler.cache.check()
