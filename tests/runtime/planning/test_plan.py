"""What `stemma plan` counts, against what networks really multiply, lay out and read."""

from __future__ import annotations

import math

import pytest
import torch
from rich.console import Console

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.select import select_ops
from stemma.kernels.weights import is_finite
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine.resources import room_of, sizes_of
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from stemma.runtime.model.work import work_of
from stemma.runtime.planning import Rates, given_rates, make_plan
from stemma.runtime.planning.rates import made_up
from stemma.terminal.plan import show

RATES = Rates(read=1e9, operations=1e11)


class CountingOps(ReferenceOps):
    """Adds up the numbers of all matrices that are packed for products."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.num_multiplied = 0

    def linear(self, parts, biases=(), exact=False):
        self.num_multiplied += sum(math.prod(part.shape) for part in parts)
        return super().linear(parts, biases, exact)


def checkpoint_of(family: str) -> Checkpoint:
    config = tiny_config(family)
    return Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))


def plan_of(family: str, context: int = 256, concurrency: int = 4, rates: Rates = RATES, **options):
    memory = options.pop("machine_memory", 1 << 30)
    ops = ReferenceOps(torch.device("cpu"))
    config = EngineConfig(**{"kv_tokens": 4096, **options})
    return make_plan(
        checkpoint_of(family), ops, config, rates, context=context, concurrency=concurrency, memory=memory
    )  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "phi3", "olmo2"])
def test_a_row_multiplies_every_weight_that_was_packed_for_products(family):
    checkpoint, ops = checkpoint_of(family), CountingOps()
    assemble(checkpoint, ops)
    assert work_of(checkpoint).row_operations == 2 * ops.num_multiplied


def test_of_experts_a_row_multiplies_those_it_has_and_many_rows_read_nearly_all():
    checkpoint, ops = checkpoint_of("mixtral"), CountingOps()
    assemble(checkpoint, ops)
    work, experts = work_of(checkpoint), checkpoint.config.experts
    num_experts = sum(math.prod(t.shape) for name, t in checkpoint.tensors.items() if ".experts." in name)
    shared = ops.num_multiplied - num_experts
    assert work.row_operations == 2 * (shared + num_experts * experts.spec.top_k // experts.count)
    assert work.bytes_of_rows(1) == work.row_bytes + work.expert_bytes * experts.spec.top_k / experts.count
    assert work.bytes_of_rows(1) < work.bytes_of_rows(2) < work.bytes_of_rows(1000) <= work.weight_bytes


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "deepseek_v2", "qwen3_next"])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 40), (7, 90)])
def test_attention_counts_each_position_that_a_row_sees(family, first, last):
    checkpoint = checkpoint_of(family)
    config, work = checkpoint.config, work_of(checkpoint)
    expected = (last - first) * work.row_operations
    for index in range(config.num_layers):
        if config.layer(index).attends:
            heads, window = config.heads_of(index), config.window(index)
            width = heads.head_dim + (config.latent.rank if config.latent else heads.head_dim)
            seen = sum(min(at + 1, window or at + 1) for at in range(first, last))
            expected += 2 * heads.num_heads * width * seen
    assert work.operations(first, last) == expected


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "deepseek_v2", "qwen3_next"])
def test_memory_is_what_the_pools_take(family):
    plan, ops = plan_of(family, context=250, concurrency=3), ReferenceOps(torch.device("cpu"))
    config, model = EngineConfig(kv_tokens=4096), tiny_config(family)
    sizes, room = sizes_of(config, model, ops), room_of(config, model, ops)
    assert plan.kv_bytes * config.block_size == ops.kv(model.memory_shape(1, 16).full).num_bytes
    assert plan.needed == 3 * (16 * sizes.block_bytes + 4 * sizes.mark_bytes)
    assert plan.pool == sizes.pool_bytes(room)
    assert plan.pool_tokens == 4096
    assert plan.steps._asdict() == {"max_running": 64, "max_batch_tokens": 1024, "max_chunk": 512}
    assert plan.as_json()["steps"]["max_chunk"] == 512
    assert (plan.mark_bytes > 0) == (model.marks is not None)


def test_a_pool_that_is_asked_for_and_that_the_machine_does_not_hold_is_told():
    asked = plan_of("llama", kv_tokens=1 << 20, machine_memory=64 << 20)
    assert asked.fits
    assert not asked.holds_pool
    assert plan_of("llama", machine_memory=64 << 20).holds_pool
    assert not plan_of(
        "llama", kv_tokens=None, memory=64 << 20, context_length=2048, machine_memory=64 << 20
    ).holds_pool
    console = Console(width=200)
    with console.capture() as shown:
        console.print(show(asked))
    assert "does not fit" in shown.get()
    assert "Fits" not in shown.get()


def test_a_pool_that_nobody_asked_for_is_that_of_the_machine_that_is_planned_for():
    for memory in (32 << 20, 256 << 20):
        plan = plan_of("llama", kv_tokens=None, machine_memory=memory, max_running=10_000, max_batch_tokens=10_000)
        assert plan.pool <= memory // 8 < plan.pool + 16 * plan.kv_bytes


def test_ranks_have_a_pool_of_what_the_first_of_them_has_room_for():
    options = {"kv_tokens": None, "max_running": 10_000, "max_batch_tokens": 10_000, "device": "cpu"}
    whole, divided = plan_of("llama", **options), plan_of("llama", tensor_parallel=2, **options)
    assert divided.pool_tokens == pytest.approx(whole.pool_tokens, abs=16)  # half of the heads, with half of the memory
    assert divided.kv_bytes == whole.kv_bytes
    options |= {"memory": 1 << 22}
    assert plan_of("llama", tensor_parallel=2, **options).pool <= 1 << 22  # of all ranks
    lacks = plan_of("llama", 256, 100, tensor_parallel=2, **options).lacks
    assert lacks["memory"] == plan_of("llama", 256, 100, **options).lacks["memory"]
    assert plan_of("llama", 256, 100, tensor_parallel=2, **{**options, **lacks}).fits_pool
    with pytest.raises(InvalidRequest, match="not divided among ranks"):
        plan_of("mixtral", tensor_parallel=2, **options)


def test_the_formula_comes_to_the_bytes_of_a_token():
    plan = plan_of("llama")
    numbers = plan.formula.replace("bytes", "").replace("layers", "").replace("KV heads", "").replace("dimensions", "")
    assert math.prod(map(float, numbers.split("x"))) == plan.kv_bytes == 2 * 2 * 2 * 16 * 4


def test_as_many_sequences_fit_as_it_says_and_no_more():
    plan = plan_of("llama", machine_memory=64 << 20)
    assert plan_of("llama", concurrency=plan.most_sequences, machine_memory=64 << 20).fits
    assert not plan_of("llama", concurrency=plan.most_sequences + 1, machine_memory=64 << 20).fits
    assert plan_of("llama", context=plan.longest, machine_memory=64 << 20).fits


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3_next", "mamba2"])
@pytest.mark.parametrize(("context", "concurrency"), [(2048, 1), (33, 3), (250, 64), (17, 1100)])
def test_the_options_that_it_says_are_lacking_are_enough(family, context, concurrency):
    ops, options = ReferenceOps(torch.device("cpu")), {"kv_tokens": None, "memory": 1 << 22, "max_chunk": 16}
    lacks = plan_of(family, context, concurrency, **options).lacks
    assert lacks.get("max_running", 64) >= concurrency
    assert not plan_of(family, context, concurrency, **{**options, **lacks}).lacks
    room = room_of(EngineConfig(**{**options, **lacks}), tiny_config(family), ops)
    assert room.shape.full.num_blocks >= concurrency * -(-context // 16)
    assert room.marks is None or room.marks.num_slots >= 4 * concurrency or not room.marks.num_slots


def test_more_sequences_than_may_run_do_not_fit():
    assert plan_of("llama", 16, 65).lacks == {"max_running": 65}
    assert plan_of("llama", 16, 65, max_running=65).fits_pool
    assert plan_of("llama", 1000, 64, context_length=1000, kv_tokens=None, memory=1 << 30).fits_pool


def test_decode_is_bound_by_bandwidth_alone_and_by_compute_beyond_the_balance():
    plan = plan_of("llama")
    assert plan.decode_one.by == "bandwidth"
    assert plan.decode_one.read_seconds * RATES.read == pytest.approx(
        work_of(checkpoint_of("llama")).row_bytes + 256 * plan.kv_bytes
    )
    slow = plan_of("llama", rates=Rates(read=1e9, operations=1e9))
    assert slow.balance < 4
    assert slow.decode.by == slow.prefill.by == "compute"
    assert plan_of("llama", context=1, concurrency=2).decode.by == "bandwidth"
    assert plan_of("llama", context=1, concurrency=8, rates=Rates(read=1e9, operations=1e9)).decode.by == "compute"


def test_a_prompt_in_more_chunks_reads_the_weights_more_often():
    whole, cut = plan_of("llama", context=512).prefill, plan_of("llama", context=512, max_chunk=64).prefill
    assert cut.read_seconds == pytest.approx(8 * whole.read_seconds)
    assert cut.operation_seconds == whole.operation_seconds


@pytest.mark.parametrize("storage", ["F32", "BF16", "Q4_1", "Q4_K", "Q8_0", "MXFP4"])
def test_rates_that_are_not_given_are_measured_with_finite_numbers(storage):
    assert is_finite(made_up(storage, 1 << 16))
    given = given_rates(select_ops("cpu", "auto"), storage, 5.0, None)
    assert given.read == 5.0
    assert 0 < given.operations < math.inf


def test_a_given_rate_is_not_measured(monkeypatch):
    monkeypatch.setattr("stemma.runtime.planning.rates.measure_rates", lambda *_: pytest.fail("measured"))
    assert given_rates(ReferenceOps(torch.device("cpu")), "Q4_1", 5.0, 6.0) == Rates(5.0, 6.0)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [({"context": 0}, "context"), ({"context": 1 << 30}, "context"), ({"concurrency": 0}, "concurrency")],
)
def test_what_no_sequence_can_have_is_refused(wrong, param):
    with pytest.raises(InvalidRequest) as refused:
        plan_of("llama", **wrong)
    assert refused.value.param == param


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_is_a_positive_number(rate):
    with pytest.raises(InvalidRequest, match="more than 0"):
        given_rates(ReferenceOps(torch.device("cpu")), "Q4_1", rate, None)
