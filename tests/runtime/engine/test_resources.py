"""What an engine makes of its options: what this machine cannot is refused, the pool is as large as it should be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.core.config import POLICIES
from stemma.runtime.engine import Engine, EngineConfig
from stemma.runtime.engine.resources import context_of, make_ops, room_of
from stemma.runtime.errors import InvalidRequest
from tests.runtime.engine.marked import config_of


@pytest.mark.parametrize(
    "options",
    [
        {"device": "cuda:99"},
        {"device": "meta"},
        {"device": "abacus"},
        {"dtype": "int8"},
        {"dtype": "complex64"},
        {"dtype": "bool"},
        {"dtype": "float23"},
        {"kv_dtype": "float23"},
        {"kv_dtype": "int8", "backend": "reference"},
        {"dtype": "float64", "backend": "cpu"},
        {"quantization": "fp8", "device": "cpu"},
        {"quantization": "fp8", "backend": "reference"},
        {"device": "cpu", "backend": "triton"},
    ],
)
def test_what_this_machine_does_not_have_is_refused_by_the_option_to_change(options):
    with pytest.raises(InvalidRequest) as refused:
        make_ops(EngineConfig(**options))
    assert refused.value.param == ("backend" if options.get("backend") == "triton" else next(iter(options)))


@pytest.mark.parametrize("policy", ["reuse", "lru", "lfu", "slru", "priority"])
def test_the_policy_is_the_caches(policy, tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=64, policy=policy) as engine:
        texts = [engine.generate(f"{number} and more text", max_tokens=4).text for number in range(20)]
        assert texts[0] == engine.generate("0 and more text", max_tokens=4).text
        assert engine.stats().cache.evicted_blocks > 0
        queue = engine.with_cache(lambda cache: POLICIES[policy](cache.num_blocks))
        assert type(engine.with_cache(lambda cache: cache._store.queue)) is type(queue)


def test_the_priority_of_a_request_reaches_the_policy(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=128, policy="priority") as engine:
        kept = engine.generate("this text is to be kept", max_tokens=1, priority=7).usage.prompt_tokens
        for number in range(40):
            engine.generate(f"{number}: what else is there to say", max_tokens=1)
        assert engine.generate("this text is to be kept", max_tokens=1).usage.cached_tokens == kept - 1


def test_a_context_beyond_the_models_is_refused(tiny_loaded):
    with pytest.raises(InvalidRequest, match="2048"):
        context_of(EngineConfig(context_length=4096), tiny_loaded.config)


def test_a_pool_without_a_block_is_refused(tiny_loaded):
    with pytest.raises(InvalidRequest) as refused:
        room_of(EngineConfig(kv_tokens=15), tiny_loaded.config, tiny_loaded.model.ops)
    assert refused.value.param == "kv_tokens"


def test_the_pool_holds_the_running_sequences_and_no_more(tiny_loaded):
    shape = room_of(EngineConfig(max_running=2), tiny_loaded.config, tiny_loaded.model.ops).shape.full
    assert shape.num_blocks * shape.block_size == 2 * 2048


def test_where_no_layer_is_full_all_of_the_memory_is_for_marks():
    ops = ReferenceOps(torch.device("cpu"))
    config = config_of("scan")
    state = ops.states.allocate(config.memory_shape(1, 16, num_slots=1).states).num_bytes
    assert room_of(EngineConfig(memory=100 * state), config, ops).marks.num_slots == 100


def test_what_marks_do_not_need_is_for_blocks():
    """Small states: one for each block is enough, and less than their share."""
    ops = ReferenceOps(torch.device("cpu"))
    config = replace(config_of("conv"), context_length=1 << 20)
    room, one = (
        room_of(EngineConfig(memory=1 << 24, mark_share=0.9), config, ops),
        config.memory_shape(1, 16, num_slots=1),
    )
    state, block = ops.states.allocate(one.states).num_bytes, ops.kv(one.full).num_bytes
    assert room.marks.num_slots == room.shape.full.num_blocks + 4 * 64
    spare = (1 << 24) - room.marks.num_slots * state - room.shape.full.num_blocks * block
    assert 0 <= spare < 2 * (block + state)
