"""Every policy of the scheduler, without a model: outputs never depend on batches, caching, chunks or preemption."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.radix import PrefixCache
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import FinishReason, Request, Sequence
from stemma.runtime.errors import PromptTooLong


def sequence(prompt: list[int], max_tokens: int, **options) -> Sequence:
    return Sequence(Request(np.array(prompt, dtype=np.int32), max_tokens, Sampling(), seed=0, **options))


def make(num_blocks=64, block_size=4, **limits) -> Scheduler:
    return Scheduler(PrefixCache(num_blocks, block_size), Limits(**limits))


def test_one_request_gives_the_models_tokens(fake):
    scheduler = make()
    item = sequence([1, 2, 3, 4, 5], 7)
    scheduler.add(item)
    assert fake.run(scheduler, fake.Model(64, 4)) == [item]
    assert item.generated == fake.expected([1, 2, 3, 4, 5], 7)
    assert item.finish_reason is FinishReason.LENGTH
    assert scheduler.cache.stats().leased == 0


def test_a_prefix_of_waiting_requests_is_computed_once(fake):
    scheduler, model = make(num_blocks=256, max_chunk=16), fake.Model(256, 4)
    prefix = list(range(40)) * 2
    items = [sequence([*prefix, 100 + index, 7], 3) for index in range(10)]
    for item in items:
        scheduler.add(item)
    fake.run(scheduler, model)
    assert [item.usage.cached_tokens for item in items] == [0] + [80] * 9
    assert [item.usage.prefilled_tokens for item in items] == [82] + [2] * 9
    assert model.num_computed == 82 + 9 * 2 + 10 * 2
    for item in items:
        assert item.generated == fake.expected(item.request.prompt.tolist(), 3)


def test_samples_of_one_prompt_share_all_of_it_but_the_last_token(fake):
    """Each needs logits of its own to sample from, and these come with the last token's KV."""
    scheduler, model = make(), fake.Model(64, 4)
    items = [sequence(list(range(10)), 6) for _ in range(4)]
    for item in items:
        scheduler.add(item)
    fake.run(scheduler, model)
    assert [item.usage.cached_tokens for item in items] == [0, 9, 9, 9]
    assert len({tuple(item.generated) for item in items}) == 1


def test_a_generated_answer_is_cached_for_the_next_turn(fake):
    """All but its last token: that was sampled, and never computed."""
    scheduler, model = make(), fake.Model(64, 4)
    first = sequence([1, 2, 3], 8)
    scheduler.add(first)
    fake.run(scheduler, model)
    second = sequence([*first.tokens, 9, 9], 2)
    scheduler.add(second)
    fake.run(scheduler, model)
    assert second.usage.cached_tokens == len(first.tokens) - 1


def test_without_reuse_nothing_is_found_and_nothing_is_kept(fake):
    scheduler, model = make(reuse=False), fake.Model(64, 4)
    items = [sequence(list(range(20)), 4) for _ in range(3)]
    for item in items:
        scheduler.add(item)
    fake.run(scheduler, model)
    assert [item.usage.cached_tokens for item in items] == [0, 0, 0]
    assert scheduler.cache.stats().free == 64


def test_namespaces_share_nothing(fake):
    """The same text under another name is computed again: hits would tell one tenant what another asked."""
    scheduler, model = make(), fake.Model(64, 4)
    for tenant in ("a", "b"):
        item = sequence(list(range(20)), 1, namespace=tenant)
        scheduler.add(item)
        fake.run(scheduler, model)
        assert item.usage.cached_tokens == 0


def test_more_requests_than_blocks_preempts_and_resumes_with_the_same_output(fake):
    scheduler, model = make(num_blocks=8), fake.Model(8, 4)
    items = [sequence([index, 1, 2], 20) for index in range(6)]
    for item in items:
        scheduler.add(item)
    fake.run(scheduler, model)
    for item in items:
        assert item.generated == fake.expected(item.request.prompt.tolist(), 20)
    assert scheduler.cache.stats().leased == 0


def test_a_request_larger_than_the_pool_is_refused():
    with pytest.raises(PromptTooLong) as refused:
        make(num_blocks=2).add(sequence([1] * 8, 1))
    assert refused.value.param == "max_tokens"


def test_a_request_as_large_as_the_pool_runs(fake):
    scheduler, model = make(num_blocks=4), fake.Model(4, 4)
    for _ in range(3):
        item = sequence(list(range(10)), 6)
        scheduler.add(item)
        fake.run(scheduler, model)
        assert item.generated == fake.expected(list(range(10)), 6)


def test_a_pool_held_by_others_fails_the_request_and_nothing_else(fake):
    scheduler, model = make(num_blocks=4), fake.Model(4, 4)
    lease = scheduler.cache.acquire([50] * 12)
    lease.reserve(12)
    item = sequence(list(range(10)), 2)
    scheduler.add(item)
    assert fake.run(scheduler, model) == [item]
    assert item.finish_reason is FinishReason.ERROR
    assert item.error is not None
    lease.release()
    assert scheduler.cache.stats().leased == 0


def test_priority_goes_first(fake):
    scheduler, model = make(max_running=1), fake.Model(64, 4)
    low, high = sequence([1, 2], 2), sequence([3, 4], 2, priority=1)
    scheduler.add(low)
    scheduler.add(high)
    assert fake.run(scheduler, model) == [high, low]


def test_a_long_prefix_does_not_starve_the_others(fake):
    """Two hundred that hit forty tokens may pass one that hits nothing, but only MAX_OVERTAKEN (64) times."""
    scheduler, model = make(num_blocks=256, max_running=1), fake.Model(256, 4)
    scheduler.add(sequence(list(range(40)), 1))
    fake.run(scheduler, model)
    stranger = sequence([99, 98], 1)
    scheduler.add(stranger)
    for index in range(200):
        scheduler.add(sequence([*range(40), 60 + index], 1))
    ended = fake.run(scheduler, model, check=False)
    assert ended.index(stranger) < 80


@pytest.mark.parametrize("num_others", [10, 200])
def test_a_high_priority_does_not_starve_the_others(fake, num_others):
    """Two of a higher priority come for each one that ends: somebody always waits before the one of the lowest."""
    scheduler, model = make(num_blocks=256, max_running=1), fake.Model(256, 4)
    low = sequence([99, 98], 1)
    scheduler.add(low)
    for index in range(num_others):
        scheduler.add(sequence([60, index], 1, priority=1))
    ended: list[Sequence] = []
    while low not in ended and len(ended) < 300:
        scheduler.add(sequence([61, len(ended)], 1, priority=2))
        scheduler.add(sequence([62, len(ended)], 1, priority=2))
        batch = scheduler.schedule()
        assert batch is not None
        scheduler.commit(batch, model.forward(batch))
        ended += scheduler.take_ended()
    assert 60 < ended.index(low) < 80


def test_the_lowest_priority_that_came_last_gives_way_to_the_others(fake):
    """Of two priorities, two each: of the low ones the later first, then the other, then the later of the high ones."""
    scheduler, model = make(num_blocks=64), fake.Model(64, 4)
    items = [sequence([index * 10 + at for at in range(5 + index)], 40, priority=index % 2) for index in range(4)]
    for item in items:
        scheduler.add(item)
    while len(scheduler.running) < 4 or any(item.is_in_prompt for item in items):
        scheduler.commit(batch := scheduler.schedule(), model.forward(batch))
    lease = scheduler.cache.acquire([77])
    lease.reserve(scheduler.cache.available * 4)  # now nothing is left to grow into
    gave_way = []
    while len(gave_way) < 3:
        scheduler.commit(batch := scheduler.schedule(), model.forward(batch))
        gave_way += [item for item in items if item in scheduler.waiting and item not in gave_way]
    lease.release()
    assert [items.index(item) for item in gave_way] == [2, 0, 3]
    fake.run(scheduler, model)
    for item in items:
        assert item.generated == fake.expected(item.request.prompt.tolist(), item.request.max_tokens)


@pytest.mark.parametrize("step", range(12))
def test_cancellation_at_every_step_returns_every_block(fake, step):
    scheduler, model = make(max_chunk=3), fake.Model(64, 4)
    item, other = sequence(list(range(11)), 5), sequence(list(range(7)), 5)
    scheduler.add(item)
    scheduler.add(other)
    for _ in range(step):
        batch = scheduler.schedule()
        if batch is not None:
            scheduler.commit(batch, model.forward(batch))
    scheduler.abort(item)
    fake.run(scheduler, model)
    assert other.generated == fake.expected(list(range(7)), 5)
    assert scheduler.cache.stats().leased == 0


requests = st.lists(
    st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=24), st.integers(1, 12), st.integers(0, 1)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(
    requests=requests,
    block_size=st.sampled_from([1, 2, 4, 16]),
    extra_blocks=st.integers(0, 40),
    max_running=st.integers(1, 6),
    max_chunk=st.sampled_from([1, 7, 64]),
    reuse=st.booleans(),
    data=st.data(),
)
def test_any_schedule_gives_the_models_tokens(
    fake, requests, block_size, extra_blocks, max_running, max_chunk, reuse, data
):
    num_blocks = -(-36 // block_size) + extra_blocks
    limits = Limits(max_running=max_running, max_batch_tokens=max(max_running, 32), max_chunk=max_chunk, reuse=reuse)
    scheduler = Scheduler(PrefixCache(num_blocks, block_size), limits)
    model = fake.Model(num_blocks, block_size)
    items = [sequence(prompt, length, priority=priority) for prompt, length, priority in requests]
    aborted = data.draw(st.sets(st.sampled_from(range(len(items)))))
    arrivals = data.draw(st.lists(st.integers(0, 5), min_size=len(items), max_size=len(items)))
    ended = []
    for index, (item, wait) in enumerate(zip(items, arrivals, strict=True)):
        scheduler.add(item)
        for _ in range(wait):
            batch = scheduler.schedule()
            if batch is not None:
                scheduler.commit(batch, model.forward(batch))
            scheduler.cache.check()
        if index in aborted:
            scheduler.abort(item)
    ended = fake.run(scheduler, model)
    assert {id(item) for item in ended} == {id(item) for item in items}
    for item in items:
        wanted = fake.expected(item.request.prompt.tolist(), item.request.max_tokens)
        assert item.generated == wanted[: item.num_generated]
        assert item.finish_reason is (FinishReason.LENGTH if item.num_generated == len(wanted) else FinishReason.ABORT)
        usage = item.usage
        if item.finish_reason is FinishReason.LENGTH:
            assert usage.prompt_tokens == usage.cached_tokens + usage.prefilled_tokens
            assert usage.completion_tokens == usage.decoded_tokens == len(wanted)
    stats = scheduler.cache.stats()
    assert stats.leased == 0
    assert stats.free + stats.cached == stats.total


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    block_size=st.sampled_from([1, 2, 4]),
    num_blocks=st.integers(2, 8),
    max_chunk=st.sampled_from([1, 7]),
)
def test_whatever_is_cached_what_fits_the_pool_runs(fake, data, block_size, num_blocks, max_chunk):
    """Prompts that begin alike and end inside blocks, each with as many tokens to come as the pool holds."""
    scheduler = Scheduler(PrefixCache(num_blocks, block_size), Limits(max_chunk=max_chunk))
    model = fake.Model(num_blocks, block_size)
    prompts = st.lists(st.integers(0, 1), min_size=1, max_size=scheduler.capacity - 1)
    items = [sequence(prompt, scheduler.capacity - len(prompt)) for prompt in data.draw(st.lists(prompts, max_size=5))]
    for item in items:
        scheduler.add(item)
        if data.draw(st.booleans()):
            fake.run(scheduler, model)
    fake.run(scheduler, model)
    for item in items:
        assert item.generated == fake.expected(item.request.prompt.tolist(), item.request.max_tokens)
