"""What is read off prompts is the same however they are cut, cached and mixed with other work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stemma.radix import PrefixCache
from stemma.runtime.core.computing import compute
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.pooling import Pooling
from stemma.runtime.core.runner import Runner
from stemma.runtime.core.sampler import Sampler
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.errors import InvalidRequest
from tests.kernels.memories import memory_of
from tests.runtime.core.making import row, sequence
from tests.runtime.model.running import all_hidden

PROMPT = [(37 * at) % 250 for at in range(29)]
SIZE = 4


@pytest.fixture
def whole(tiny_loaded):
    """Hidden states and logits of the prompt, all at once."""
    hidden = all_hidden(tiny_loaded.model, PROMPT)
    model = tiny_loaded.model
    everywhere = np.arange(len(PROMPT), dtype=np.int32)
    return model.hidden_states(hidden, everywhere).double().numpy(), model.logits(hidden, everywhere).double()


def expected(whole, pooling):
    states, logits = whole
    if pooling.kind == "tokens":
        return torch.log_softmax(logits[-1], -1)[list(pooling.tokens)].numpy()
    return states[-1] if pooling.kind == "last" else states.mean(0)


def run(tiny_loaded, sequences, num_blocks=40, **limits):
    """The scheduler's steps on the real thing, to the end."""
    runner = Runner(tiny_loaded.model, memory_of(tiny_loaded.model.ops, tiny_loaded.config, num_blocks, SIZE))
    sampler, scheduler = Sampler(tiny_loaded.model.ops), Scheduler(PrefixCache(num_blocks, SIZE), Limits(**limits))
    for each in sequences:
        scheduler.add(each)
    while not scheduler.is_idle:
        batch = scheduler.schedule()
        scheduler.commit(batch, compute(runner, sampler, batch))
        scheduler.cache.check()
    return scheduler


KINDS = [Pooling("last"), Pooling("mean"), Pooling("tokens", (3, 250, 7))]


@pytest.mark.parametrize("pooling", KINDS, ids=lambda pooling: pooling.kind)
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_nothing(tiny_loaded, whole, pooling, chunk):
    item = sequence(PROMPT, max_tokens=0, pooling=pooling)
    run(tiny_loaded, [item], max_chunk=chunk)
    np.testing.assert_allclose(item.pooled_value, expected(whole, pooling), rtol=1e-6)
    assert item.generated == []


@pytest.mark.parametrize("pooling", KINDS, ids=lambda pooling: pooling.kind)
def test_a_cached_prefix_is_used_but_for_the_mean(tiny_loaded, whole, pooling):
    first, again = (sequence(PROMPT, max_tokens=0, pooling=pooling) for _ in range(2))
    run(tiny_loaded, [first, again], max_running=1)
    assert again.usage.cached_tokens == (0 if pooling.kind == "mean" else len(PROMPT) - 1)
    for item in (first, again):
        np.testing.assert_allclose(item.pooled_value, expected(whole, pooling), rtol=1e-6)


def test_generations_and_readings_share_steps(tiny_loaded, whole):
    alone = sequence(PROMPT[:11], max_tokens=6)
    run(tiny_loaded, [alone])
    together = [sequence(PROMPT[:11], max_tokens=6), *(sequence(PROMPT, max_tokens=0, pooling=each) for each in KINDS)]
    run(tiny_loaded, together, max_chunk=5)
    assert together[0].generated == alone.generated
    assert together[0].pooled_value is None
    for item in together[1:]:
        np.testing.assert_allclose(item.pooled_value, expected(whole, item.request.pooling), rtol=1e-6)


def test_a_preempted_reading_is_read_again(tiny_loaded, whole):
    """A pool that holds the prompt and little more, and a request of a higher priority that comes in between."""
    item = sequence(PROMPT, max_tokens=0, pooling=Pooling("mean"))
    runner = Runner(tiny_loaded.model, memory_of(tiny_loaded.model.ops, tiny_loaded.config, 8, SIZE))
    sampler, scheduler = Sampler(tiny_loaded.model.ops), Scheduler(PrefixCache(8, SIZE), Limits(max_chunk=8))
    scheduler.add(item)
    for turn in range(100):
        batch = scheduler.schedule()
        scheduler.commit(batch, compute(runner, sampler, batch))
        if turn == 0:
            scheduler._preempt(item)
        if scheduler.is_idle:
            break
    assert item.is_finished
    assert len(item.pooled) == 4
    np.testing.assert_allclose(item.pooled_value, expected(whole, item.request.pooling), rtol=1e-6)


def test_which_positions_are_needed(tiny_loaded):
    cache = PrefixCache(40, SIZE)
    for pooling, counts in ((KINDS[0], (0, 1)), (KINDS[1], (20, 9)), (KINDS[2], (0, 1))):
        item = sequence(PROMPT, max_tokens=0, pooling=pooling)
        item.lease = cache.acquire(item.tokens, max_hit=0)
        rows = row(item, 0, PROMPT[:20], num_samples=0), row(item, 20, PROMPT[20:], num_samples=0)
        read, unread = ("num_logits", "num_hidden") if pooling is KINDS[2] else ("num_hidden", "num_logits")
        assert tuple(getattr(each, read) for each in rows) == counts
        assert [getattr(each, unread) for each in rows] == [0, 0]
        item.lease.release()


@pytest.mark.parametrize(("kind", "tokens"), [("first", ()), (1, ()), ("tokens", ("yes",)), ("last", (1.5,))])
def test_what_is_no_pooling_is_refused(kind, tokens):
    with pytest.raises(InvalidRequest):
        Pooling(kind, tokens)
