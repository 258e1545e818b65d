"""What `stemma plan` reckons of a draft model, against what an engine with it takes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from rich.console import Console

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine import Engine
from stemma.runtime.engine.drafting import most_for_draft
from stemma.runtime.engine.resources import room_of, settled
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from stemma.runtime.model.work import work_of
from stemma.runtime.planning import DraftPlan, Plan, Rates, make_plan
from stemma.terminal.plan import show
from tests.runtime.engine.test_reserve import OnGPU

MIB = 1 << 20


def checkpoint_of(family: str, specials: tuple[str, ...] = ()) -> Checkpoint:
    config = tiny_config(family, 260 + len(specials))
    return Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(*specials), GenerationDefaults((256,)))


def plan_of(
    family: str = "llama", draft: Checkpoint | None = None, context: int = 256, concurrency: int = 4,
    machine: int | None = 1 << 30, ops: Any = None, **options: Any,
) -> Plan:  # fmt: skip
    ops = ops or ReferenceOps(torch.device("cpu"))
    return make_plan(
        checkpoint_of(family), ops, EngineConfig(**options), Rates(1e9, 1e11), context=context,
        concurrency=concurrency, memory=machine, draft=draft or checkpoint_of("qwen2"),
    )  # fmt: skip


def of_draft(plan: Plan) -> DraftPlan:
    assert plan.draft is not None
    return plan.draft


@pytest.mark.parametrize("options", [{}, {"kv_tokens": 4096}, {"memory": MIB}, {"kv_tokens": 40_000}])
@pytest.mark.parametrize("draft", ["llama", "qwen2", "deepseek_v2"])
def test_its_pool_is_the_one_that_an_engine_makes(
    monkeypatch: pytest.MonkeyPatch, draft: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("stemma.runtime.engine.resources.machine_memory", lambda ops: 64 * MIB)
    plan = of_draft(plan_of(draft=checkpoint_of(draft), machine=None, **options))
    ops = ReferenceOps(torch.device("cpu"))
    loaded, small = (assemble(checkpoint_of(family), ops) for family in ("llama", draft))
    with Engine.of(loaded, small, **options) as engine:
        assert engine._draft is not None
        assert plan.pool == engine._draft._runner.memory.full.num_bytes
        assert plan.pool_tokens == 16 * engine._draft.cache.stats().total
    assert plan.pool <= plan.most <= 2 * MIB


def test_on_a_gpu_both_pools_are_those_of_an_engine_for_which_as_much_is_free() -> None:
    for options in ({}, {"kv_tokens": 4096}):
        ops = OnGPU(80 * 10**9, 10**9)
        plan = plan_of(machine=None, ops=ops, **options)
        loaded, small = (assemble(checkpoint_of(family), ops) for family in ("llama", "qwen2"))
        room = room_of(settled(EngineConfig(**options), ops), loaded.config, ops, small.config)
        assert plan.pool_tokens == room.shape.full.num_blocks * 16
        ops.free -= plan.pool
        most = most_for_draft(settled(EngineConfig(**options), ops), loaded.config, small.config, ops)
        assert of_draft(plan).most == pytest.approx(most, abs=of_draft(plan).block_bytes)


def test_its_weights_and_kv_are_told_as_the_models() -> None:
    plan = of_draft(plan_of(draft=checkpoint_of("qwen2")))
    itself = make_plan(
        checkpoint_of("qwen2"), ReferenceOps(torch.device("cpu")), EngineConfig(), Rates(1e9, 1e11), context=256,
        concurrency=4,
    )  # fmt: skip
    names = ("model", "parameters", "weight_bytes", "stored_bytes", "kv_bytes", "formula", "needed")
    assert [getattr(plan, name) for name in names] == [getattr(itself, name) for name in names]
    assert plan.weight_bytes == work_of(checkpoint_of("qwen2")).weight_bytes


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "mamba2"])
@pytest.mark.parametrize("memory", [3 * MIB, 64 * MIB])
def test_as_many_fit_as_it_says_and_no_more(family: str, memory: int) -> None:
    """With the smaller memory the draft model's pool has room for few of them, with the larger one too."""
    plan = plan_of(family, machine=memory, context=64, concurrency=2)
    assert plan.takes == plan.weight_bytes + plan.needed + of_draft(plan).weight_bytes + of_draft(plan).needed
    assert plan.most_sequences > 0
    assert plan_of(family, machine=memory, context=64, concurrency=plan.most_sequences).fits
    assert not plan_of(family, machine=memory, context=64, concurrency=plan.most_sequences + 1).fits
    assert plan_of(family, machine=memory, context=plan.longest, concurrency=2).fits
    if plan.longest < 2048:
        assert not plan_of(family, machine=memory, context=plan.longest + 1, concurrency=2).fits


def test_a_pool_that_holds_alone_and_not_with_the_draft_models() -> None:
    ops, rates = ReferenceOps(torch.device("cpu")), Rates(1e9, 1e11)
    alone = make_plan(checkpoint_of("llama"), ops, EngineConfig(), rates, context=16, concurrency=1, memory=4 * MIB)
    kv_tokens = int((alone.usable - alone.weight_bytes) // alone.kv_bytes)
    config = EngineConfig(kv_tokens=kv_tokens)
    assert make_plan(checkpoint_of("llama"), ops, config, rates, context=16, concurrency=1, memory=4 * MIB).holds_pool
    both = plan_of(context=16, concurrency=1, machine=4 * MIB, kv_tokens=kv_tokens)
    assert both.fits
    assert not both.holds_pool
    console = Console(width=200)
    with console.capture() as shown:
        console.print(show(both))
    assert "and the draft model's" in shown.get()


def test_a_draft_model_that_an_engine_refuses_is_refused() -> None:
    for wrong, said in (
        (checkpoint_of("mamba2"), "the draft model tiny-mamba2 has layers with windows or states"),
        (checkpoint_of("llama", ("<|tool|>",)), "token 260 is the special '<|tool|>' there and none here"),
    ):
        with pytest.raises(InvalidRequest, match=re.escape(said)) as refused:
            plan_of(draft=wrong)
        assert refused.value.param == "draft"
