"""What is compiled before the first step: all that requests of many kinds launch. The GPU is the pretended one of
benchmarks/gpu_pretended.py, so the whole engine runs and no kernel does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

import triton
from gpu_model import Shape, ShapedOps, shaped_model
from gpu_pretended import DEVICE, PretendedGPU
from triton.backends.compiler import GPUTarget

from stemma.fsm.regex import Regex
from stemma.kernels.triton.embed import embed_kernel
from stemma.kernels.triton.graphs import CudaRecorder
from stemma.kernels.triton.packing import PackedLinear, zeros
from stemma.kernels.triton.targets import SM_90
from stemma.kernels.triton.warming import Rehearsed, Running, Stage, Variant, key_of, rehearsing
from stemma.kernels.weights import StoredWeight
from stemma.runtime.engine import Engine
from stemma.runtime.engine.loop import EngineLoop

SMALL = Shape("small", 2, 512, 1024, 4, 2, 128, 322)  # rows of logits that do not stand at multiples of 16 bytes
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
    """Whose weights have four bits."""

    def linear(  # type: ignore[override]
        self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False
    ) -> PackedLinear:
        return zeros(parts[0].shape[1], sum(part.shape[0] for part in parts), True, device=self.device)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGPU]:
    gpu, run = PretendedGPU(), EngineLoop._run

    def run_here(loop: EngineLoop) -> None:
        with gpu.here():
            run(loop)

    monkeypatch.setattr(EngineLoop, "_run", run_here)
    monkeypatch.setattr(CudaRecorder, "retire", lambda _: None)  # when there is no pretended GPU any more
    with gpu.instead_of_cuda(), gpu.here():
        yield gpu


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
        for length in (1, 2, 9, 17, 65, 700, 3000):
            for asked in ASKED:
                engine.generate([length % 200 + 1] * length, max_tokens=3, **asked)
        prompts = [[number + 2] * (40 * number + 1) for number in range(24)]
        for handle in engine.submit_all(prompts, max_tokens=4):
            handle.result()
        kinds = [[7] * 50 + [number] * number for number in range(1, len(ASKED) + 1)]
        for prompt, asked in zip(kinds, ASKED, strict=True):
            engine.generate(prompt, max_tokens=20, **asked)
    assert noting.compiled == compiled, "compiled once"
    assert len(compiled) >= 12
    assert noting.launched - compiled == set()


def test_what_one_thread_rehearses_is_not_launched() -> None:
    launched: list[str] = []
    stage = Stage(lambda kernel, *_: launched.append(kernel.__name__))

    def launch(features: int, table: torch.Tensor) -> None:
        ids = torch.zeros(1, dtype=torch.int32)
        arguments = {"table": table, "ids": ids, "sampled": ids, "out": table, "FEATURES": features, "TILE": 1024}
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
    arguments = {"table": numbers, "ids": ids[1:], "sampled": ids, "out": numbers[8:], "FEATURES": 8, "TILE": 1024}
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
        arguments = {"table": table, "ids": ids, "sampled": ids, "out": table, "FEATURES": 8, "TILE": 1024}
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
