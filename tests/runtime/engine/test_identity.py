"""Greedy tokens are the same whatever the cache, the chunks and the batch do (invariant 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.engine import Engine
from stemma.runtime.handover import DecodeEntrance
from tests.runtime.engine.schedules import SIZES, TEXTS
from tests.runtime.handover.sides import enter, listening

PROMPTS = ["the same beginning, then one end", "the same beginning, then another", "something else", "x"]
LONG = "so that it is worth to have another engine compute it, all of them begin with this: "
FORM = JSONSchema({"type": "object", "properties": {"name": {"enum": ["abc", "abd"]}, "is_right": {"type": "boolean"}}})


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


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(TEXTS, min_size=1, max_size=6),
    sizes=SIZES,
    policy=st.sampled_from(["fair", "lpm", "dfs", "fcfs"]),
    tpot_ms=st.sampled_from([None, 0.01, 20.0]),
    drafts=st.sampled_from([("none",), ("tree",), ("prompt",), ("grammar",), ("tree", "prompt", "grammar"), "model"]),
    asked=st.fixed_dictionaries(
        {}, optional={"grammar": st.just(FORM), "temperature": st.just(1.0), "frequency_penalty": st.just(0.5)}
    ),
    is_handed=st.booleans(),
)
def test_any_schedule(loaded, prompts, sizes, policy, tpot_ms, drafts, asked, is_handed):
    """Order, pace, chunks, preemption (not all of them have room at once), drafts, and prompts that are computed
    elsewhere, for which they must be as long as `LONG`."""
    options = {"max_tokens": 16, "seed": 11, **asked}
    if is_handed:
        prompts = [LONG + prompt for prompt in prompts]
    sizes = {**sizes, "kv_tokens": sizes["kv_tokens"] + 16 + is_handed * 2 * len(LONG)}
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False, drafts_from=("none",)) as engine:
        expected = [engine.generate(prompt, **options).tokens for prompt in prompts]
    by_model = drafts == "model"
    sources = ("none",) if by_model else drafts
    with ExitStack() as stack:
        engine = stack.enter_context(
            Engine.of(
                loaded,
                loaded if by_model else None,
                **sizes,
                schedule_policy=policy,
                tpot_ms=tpot_ms,
                drafts_from=sources,
            )
        )
        if is_handed:
            entrance = stack.enter_context(handed_to(engine, loaded, sizes["block_size"]))
        for _ in range(2):
            assert tokens(engine.generate(prompts, **options)) == expected
        if is_handed:
            assert entrance.num_handed > 0
            assert entrance.num_failed == 0
        assert engine.stats().cache.leased == 0
        engine.with_cache(lambda cache: cache.check())


@contextmanager
def handed_to(engine: Engine, loaded, block_size: int) -> Iterator[DecodeEntrance]:
    """The engine has its prompts computed by another one."""
    with (
        TemporaryDirectory() as folder,
        Engine.of(loaded, kv_tokens=2048, block_size=block_size) as giving,
        listening(Path(folder) / "s", giving),
    ):
        entrance = enter(engine, Path(folder) / "s")
        yield entrance
        entrance.close()


def test_usage_adds_up_over_a_shared_prefix(make):
    engine = make(kv_tokens=8192)
    prefix = list(np.random.default_rng(0).integers(0, 256, 1500))
    prompts = [[*map(int, prefix), 65 + index, 66] for index in range(32)]
    usages = [item.usage for item in engine.generate(prompts, max_tokens=4)]
    assert sum(usage.prompt_tokens for usage in usages) == 32 * 1502
    assert sum(usage.prefilled_tokens for usage in usages) == 1502 + 31 * 2
    assert sum(usage.cached_tokens for usage in usages) == 31 * 1500
