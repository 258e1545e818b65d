"""What is compiled before the first step: all that requests of many kinds launch. The GPU is the pretended one of
benchmarks/gpu_pretended.py, so the whole engine runs and no kernel does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

import triton
from gpu_loops import loops_on
from gpu_model import Shape, ShapedOps, shaped_model
from gpu_pretended import DEVICE, PretendedGPU
from triton.backends.compiler import GPUTarget

from stemma.fsm.regex import Regex
from stemma.kernels.limits import StepLimits
from stemma.kernels.memory import allocate
from stemma.kernels.triton.embed import embed_kernel
from stemma.kernels.triton.graphs import CudaRecorder
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import PackedLinear, TritonEmbedding, zeros
from stemma.kernels.triton.targets import GFX942, SM_80, SM_90, SM_100, KVType, Target
from stemma.kernels.triton.warming import Rehearsed, Running, Stage, Variant, key_of, rehearsing
from stemma.kernels.weights import StoredWeight
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.config import engine_config
from stemma.runtime.core.runner import Runner, Step, StepOutput
from stemma.runtime.engine import Engine
from stemma.runtime.engine.ranks import Ranks
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import LoadedModel, Part, assemble, assemble_part
from stemma.runtime.model.shards import Shard
from stemma.runtime.model.tiny import byte_tokenizer, tiny, tiny_config, tiny_tensors
from tests.runtime.model.lora_making import with_adapters

SMALL = Shape("small", 2, 512, 1024, 4, 2, 128, 322)  # rows of logits that do not stand at multiples of 16 bytes
LIMITS = StepLimits(16, 600, 2048)
ADA = SM_80._replace(name="sm_89", arch=89)
ASKED: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.8, "top_k": 5, "top_p": 0.9, "min_p": 0.01},
    {"grammar": Regex("[A-Z]{1,400}")},
    {"repetition_penalty": 1.1, "logit_bias": {65: 1.0}},
    {"logprobs": 0},
    {"logprobs": 5},
    {"prompt_logprobs": 3},
)


class Noting:
    """A launcher that compiles and launches nothing, and says what it was asked for."""

    def __init__(self) -> None:
        self.launched: set[object] = set()
        self.compiled: set[object] = set()

    def __call__(
        self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int
    ) -> None:
        self.launched.add(key_of(kernel, arguments, num_warps, num_stages))

    def compile(self, variants: list[Variant]) -> Iterator[None]:
        assert not self.launched, "something was launched before it was compiled"
        for each in variants:
            self.compiled.add(key_of(each.kernel, each.arguments, each.num_warps, each.num_stages))
            yield


class PackedOps(ShapedOps):
    """Whose weights have four bits, the table of embeddings too."""

    def linear(  # type: ignore[override]
        self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False
    ) -> PackedLinear:
        return zeros(parts[0].shape[1], sum(part.shape[0] for part in parts), True, device=self.device)

    def embedding(self, weight: StoredWeight, scale: float = 1.0) -> TritonEmbedding:
        return TritonEmbedding(self.linear([weight]), scale)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGPU]:
    gpu = PretendedGPU()
    monkeypatch.setattr(CudaRecorder, "retire", lambda _: None)  # when there is no pretended GPU any more
    with gpu.instead_of_cuda(), loops_on(gpu), gpu.here():
        yield gpu


def serve(engine: Engine, lengths: Sequence[int], **asked: Any) -> None:
    """Requests of all kinds: one by one, in company, behind cached text."""
    for length in lengths:
        for each in ASKED:
            engine.generate([length % 200 + 1] * length, max_tokens=3, **each, **asked)
    prompts = [[number + 2] * (40 * number + 1) for number in range(0, 24, 2)]
    for handle in engine.submit_all(prompts, max_tokens=4, **asked):
        handle.result()
    behind = [[7] * 50 + [number] * number for number in range(1, len(ASKED) + 1)]
    for prompt, each in zip(behind, ASKED, strict=True):
        engine.generate(prompt, max_tokens=20, **each, **asked)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("kind", [ShapedOps, PackedOps])
def test_all_that_requests_launch_was_compiled_at_the_start(
    gpu: PretendedGPU, kind: type[ShapedOps], graphs: bool
) -> None:
    noting = Noting()
    ops = kind(DEVICE, torch.bfloat16, "activation", SM_90, noting, graphs)
    loaded = shaped_model(SMALL, ops)
    with Engine.of(
        loaded, kv_tokens=1 << 16, max_running=32, max_batch_tokens=4096, max_chunk=4096, drafts_from=("none",)
    ) as engine:
        compiled = set(noting.compiled)
        serve(engine, (1, 2, 9, 17, 65, 700, 3000))
    assert noting.compiled == compiled, "compiled once"
    assert len(compiled) >= 12
    assert noting.launched - compiled == set()


def ops_of(
    noting: Noting, kv: KVType = "activation", target: Target = SM_90, quantization: str | None = None
) -> TritonOps:
    return TritonOps(DEVICE, torch.bfloat16, kv, target, noting, True, quantization)


def model_of(family: str, ops: TritonOps) -> LoadedModel:
    """Tiny; a delta rule's heads are as large as those that are computed in cells."""
    config = tiny_config(family, 322)
    if config.delta is not None:
        spec = replace(config.delta.spec, key_dim=16)
        config = replace(config, delta=replace(config.delta, spec=spec))
    return assemble(Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,))), ops)


KINDS: dict[str, tuple[str, KVType, Target, str | None, set[str]]] = {
    "int8 KV": ("llama", "int8", SM_80, None, {"attend_kernel"}),
    "fp8 KV": ("llama", "fp8", SM_90, None, {"attend_kernel"}),
    "fp8 weights": ("llama", "activation", SM_90, "fp8", {"quantize_kernel"}),
    "fp8 weights whose scales come last": ("llama", "activation", ADA, "fp8", {"quantize_kernel", "finish_kernel"}),
    "experts": ("mixtral", "activation", SM_90, None, {"grouped_linear_kernel", "sort_entries_kernel"}),
    "experts of 8 bits": ("qwen3_moe", "activation", SM_90, "fp8", {"grouped_linear_kernel", "quantize_kernel"}),
    "experts on AMD": ("qwen3_moe", "activation", GFX942, None, {"grouped_linear_kernel"}),
    "windows": ("gemma3_text", "int8", SM_90, None, {"attend_kernel"}),
    "windows and sinks": ("gpt_oss", "activation", SM_90, None, {"attend_kernel"}),
    "a delta rule": ("qwen3_next", "activation", SM_90, None, {"cells_kernel", "delta_kernel", "conv_kernel"}),
    "only states": ("mamba2", "activation", SM_100, None, {"scan_cells_kernel", "scan_kernel", "conv_kernel"}),
    "latent attention": ("deepseek_v2", "activation", SM_90, None, {"attend_kernel", "merge_kernel"}),
}
"""Family, KV, GPU, quantisation, and kernels without which a case would not be what it is called."""


@pytest.mark.parametrize("kind", KINDS)
def test_of_models_of_all_kinds_too(gpu: PretendedGPU, kind: str) -> None:
    family, kv, target, quantization, kernels = KINDS[kind]
    noting = Noting()
    loaded = model_of(family, ops_of(noting, kv, target, quantization))
    with Engine.of(loaded, kv_tokens=1 << 14, max_running=16, max_batch_tokens=1024, max_chunk=1024) as engine:
        compiled = set(noting.compiled)
        serve(engine, (1, 9, 130, 1500))
        engine.embed([3] * 77)
    assert noting.launched - compiled == set()
    assert kernels <= {name for name, *_ in noting.launched}


def test_of_a_draft_model_too(gpu: PretendedGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heads are other ones, and its steps are graphs like the model's own."""
    own, its = Noting(), Noting()
    loaded, draft = tiny(ops_of(own), vocab_size=322), tiny(ops_of(its), "qwen3", vocab_size=322)
    with Engine.of(loaded, draft=draft, kv_tokens=1 << 14, max_running=16, max_batch_tokens=600) as engine:
        compiled, recorded = own.compiled | its.compiled, gpu.tally.recordings
        draft_model, cost = engine._draft, engine._loop.scheduler.drafter.cost
        assert draft_model is not None
        draft_model._clock = lambda: 0.0  # a guess costs nothing
        monkeypatch.setattr(cost, "learn", lambda load, seconds: None)  # nor does it hang on this machine what pays
        sizes, forward = list[int](), draft_model._runner.forward

        def counted(batch: Batch) -> StepOutput:
            sizes.append(batch.num_tokens)
            return forward(batch)

        monkeypatch.setattr(draft_model._runner, "forward", counted)
        serve(engine, (1, 9, 130, 1500))
        steps: Any = draft_model._runner._step
    assert (own.launched | its.launched) - compiled == set()
    assert gpu.tally.recordings == recorded
    most = steps.keys[-1].tokens
    small = [size for size in sizes if size <= most]
    assert min(small) == 1 < max(small) == most, "guesses, and prompts that it catches up with"
    assert steps.counts.replayed.total() == len(small)
    assert steps.counts.eager["too large"] == steps.counts.eager.total() == len(sizes) - len(small)


@pytest.mark.parametrize("family", ["llama", "starcoder2", "olmo2"])
def test_of_adapters_too(gpu: PretendedGPU, family: str) -> None:
    """Gated, not gated, and with norms behind products."""
    noting = Noting()
    loaded = with_adapters(family, ops_of(noting))
    with Engine.of(loaded, kv_tokens=1 << 14, max_running=16, max_batch_tokens=600, max_chunk=600) as engine:
        compiled = set(noting.compiled)
        serve(engine, (1, 130), lora="one")
        several = [engine.submit([5] * 70, lora=lora, max_tokens=5) for lora in ("one", "two", None, "two")]
        assert [len(each.result().tokens) for each in several] == [5] * 4
    assert noting.launched - compiled == set()


class Apart:
    """One of two ranks: what the other one would say is made up. vocabulary: columns of both's logits together."""

    def __init__(self, rank: int, vocabulary: int) -> None:
        self.rank, self.is_alone, self.num_spoken = rank, False, 0
        self._vocabulary = vocabulary

    @contextmanager
    def alone(self) -> Iterator[None]:
        self.is_alone = True
        yield
        self.is_alone = False

    def sum(self, rows: torch.Tensor) -> torch.Tensor:
        self.num_spoken += not self.is_alone
        return rows.clone()

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        self.num_spoken += not self.is_alone
        return rows if self.rank else torch.nn.functional.pad(rows, (0, self._vocabulary - rows.shape[1]))


class Told:
    """A team whose other rank is the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.steps: list[Step] = []
        self.allocate: Any = lambda shape, limits: self.asked.append("allocate")
        self.prepare: Any = lambda: self.asked.append("prepare")
        self.tell: Any = self.steps.append
        self.close: Any = lambda: None


def test_of_ranks_too(gpu: PretendedGPU) -> None:
    """Each compiles what it launches, and speaks to nobody meanwhile; the second one samples nothing."""
    config = tiny_config("llama")
    groups, notings, team = [Apart(rank, config.vocab_size) for rank in range(2)], [Noting(), Noting()], Told()
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))
    first, second = (
        assemble_part(checkpoint, ops_of(noting), Part(Shard(group.rank, 2), lambda _, group=group: group))
        for noting, group in zip(notings, groups, strict=True)
    )
    options = {"kv_tokens": 1 << 14, "max_running": 16, "max_batch_tokens": 600, "max_chunk": 600}
    engine = Engine.__new__(Engine)
    with (ranks := Ranks(first, team)).together():  # type: ignore[arg-type]  # what it asks of a team
        engine._start(ranks, engine_config(options), None)
    with engine:
        compiled = set(notings[0].compiled)
        assert (team.asked, compiled != set()) == (["allocate", "prepare"], True)
        serve(engine, (1, 130))
    assert notings[0].launched - compiled == set()
    runner = Runner(second.model, allocate(second.model.ops, second.config.memory_shape(1 << 10, 16)), limits=LIMITS)
    runner.record(lambda done, of: None)
    assert groups[1].num_spoken == 0
    for step in team.steps:
        runner.compute(step)
    assert notings[1].launched - notings[1].compiled == set()
    assert not {"choose_kernel", "report_kernel"} & {name for name, *_ in notings[1].compiled}  # type: ignore[misc]


def rows_read(table: torch.Tensor, ids: torch.Tensor, out: torch.Tensor, features: int = 8) -> dict[str, Any]:
    """What `embed_kernel` is given."""
    tensors = {"table": table, "ids": ids, "sampled": ids, "out": out}
    return {**tensors, "factor": 1.0, "FEATURES": features, "SCALED": False, "TILE": 1024}


def test_what_one_thread_rehearses_is_not_launched() -> None:
    launched: list[str] = []
    stage = Stage(lambda kernel, *_: launched.append(kernel.__name__))

    def launch(features: int, table: torch.Tensor) -> None:
        ids = torch.zeros(1, dtype=torch.int32)
        arguments = rows_read(table, ids, table, features)
        stage(embed_kernel, (1,), arguments, 4, 1)

    table = torch.zeros(64)
    with rehearsing() as noted:
        launch(8, table)
        launch(8, torch.zeros(16))  # the same variant
        launch(16, table)  # another constant
        launch(8, table.half())  # another type
        launch(8, table[1:])  # another alignment
    assert (len(noted.variants), launched) == (4, [])
    launch(8, table)
    assert launched == ["embed_kernel"]


def test_what_is_kept_of_a_rehearsal_is_the_same_variant_and_small() -> None:
    noted, numbers = Rehearsed(), torch.zeros(1 << 16, dtype=torch.bfloat16)
    ids = torch.zeros(4, dtype=torch.int32)
    arguments = {**rows_read(numbers, ids, numbers[8:]), "ids": ids[1:]}
    noted(embed_kernel, (1,), arguments, 4, 1)
    [(key, kept)] = noted.variants.items()
    assert key == key_of(embed_kernel, kept.arguments, 4, 1)
    assert sum(each.nbytes for each in kept.arguments.values() if isinstance(each, torch.Tensor)) < 1024


class Driver:
    """Triton's driver of an H100 that is not there: compiling asks it for no more than this."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def test_triton_finds_compiled_what_was_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two variants of one kernel, compiled in threads, as launches of other sizes look them up."""
    monkeypatch.setattr(embed_kernel, "device_caches", defaultdict(embed_kernel.create_binder))
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver())

    def launch(dtype: torch.dtype, rows: int) -> None:
        table, ids = torch.zeros(rows, 8, dtype=dtype), torch.zeros(rows, dtype=torch.int32)
        arguments = rows_read(table, ids, table)
        stage(embed_kernel, (rows, 1), arguments, 4, 1)

    running = Running()
    stage = Stage(lambda kernel, grid, arguments, *_: kernel.warmup(grid=grid, **arguments, num_warps=4, num_stages=1))
    with rehearsing() as noted:
        launch(torch.bfloat16, 2)
        launch(torch.float16, 2)
    assert len(list(running.compile([*noted.variants.values()]))) == 2
    compiled = dict(embed_kernel.device_caches[0][0])
    assert len(compiled) == 2
    launch(torch.bfloat16, 300)
    launch(torch.float16, 300)
    assert dict(embed_kernel.device_caches[0][0]) == compiled
    assert len(list(running.compile([*noted.variants.values()]))) == 2, "said once each, compiled or not"
