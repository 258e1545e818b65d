"""Greedy tokens are the same whatever the cache, the chunks and the batch do (invariant 1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.runtime.engine import Engine
from tests.runtime.engine.schedules import SIZES, TEXTS

PROMPTS = ["the same beginning, then one end", "the same beginning, then another", "something else", "x"]


@pytest.fixture(scope="module")
def alone(loaded):
    """Each prompt computed alone, without a cache."""
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False) as engine:
        return [engine.generate(prompt, max_tokens=24).tokens for prompt in PROMPTS]


def tokens(completions):
    return [completion.tokens for completion in completions]


def test_batched_with_others(make, alone):
    assert tokens(make(prefix_cache=False).generate(PROMPTS, max_tokens=24)) == alone


def test_cold_then_warm(make, alone):
    engine = make()
    assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone
    warm = engine.generate(PROMPTS, max_tokens=24)
    assert tokens(warm) == alone
    assert all(item.usage.prefilled_tokens == 1 for item in warm)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunked_prefill(make, alone, chunk):
    assert tokens(make(max_chunk=chunk).generate(PROMPTS, max_tokens=24)) == alone


@pytest.mark.parametrize("block_size", [1, 5, 32])
def test_block_sizes(make, alone, block_size):
    engine = make(block_size=block_size)
    assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone
    assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone


def test_partially_evicted(make, alone):
    engine = make(kv_tokens=128, block_size=4)
    for _ in range(3):
        for prompt, expected in zip(PROMPTS, alone, strict=True):
            assert engine.generate(prompt, max_tokens=24).tokens == expected
    assert engine.stats().cache.cached > 0


def test_preempted_and_resumed(make, alone):
    engine = make(kv_tokens=96, block_size=4)
    assert tokens(engine.generate(PROMPTS * 3, max_tokens=24)) == alone * 3


def test_sampling_with_a_seed_is_the_same_in_any_batch(make):
    engine = make()
    options = {"max_tokens": 24, "temperature": 1.0, "top_p": 0.9, "seed": 11}
    single = [engine.generate(prompt, **options).tokens for prompt in PROMPTS]
    assert tokens(engine.generate(PROMPTS, **options)) == single
    assert tokens(make(prefix_cache=False).generate(PROMPTS, **options)) == single


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(TEXTS, min_size=1, max_size=6),
    sizes=SIZES,
    policy=st.sampled_from(["fair", "lpm", "dfs", "fcfs"]),
    tpot_ms=st.sampled_from([None, 0.01, 20.0]),
    drafts=st.sampled_from([("none",), ("tree",), ("prompt",), ("tree", "prompt", "grammar")]),
)
def test_any_schedule(loaded, prompts, sizes, policy, tpot_ms, drafts):
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False) as engine:
        expected = [engine.generate(prompt, max_tokens=12).tokens for prompt in prompts]
    with Engine.of(loaded, **sizes, schedule_policy=policy, tpot_ms=tpot_ms, drafts_from=drafts) as engine:
        for _ in range(2):
            assert tokens(engine.generate(prompts, max_tokens=12)) == expected
        assert engine.stats().cache.leased == 0


def test_usage_adds_up_over_a_shared_prefix(make):
    engine = make(kv_tokens=8192)
    prefix = list(np.random.default_rng(0).integers(0, 256, 1500))
    prompts = [[*map(int, prefix), 65 + index, 66] for index in range(32)]
    usages = [item.usage for item in engine.generate(prompts, max_tokens=4)]
    assert sum(usage.prompt_tokens for usage in usages) == 32 * 1502
    assert sum(usage.prefilled_tokens for usage in usages) == 1502 + 31 * 2
    assert sum(usage.cached_tokens for usage in usages) == 31 * 1500
