"""Engines whose steps are graphs, on the pretended GPU of benchmarks/gpu_pretended.py: without room to record in, and
two of them in one process."""

from __future__ import annotations

import gc
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

from gpu_loops import loops_on
from gpu_pretended import DEVICE, TOKEN, PretendedGPU

from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.targets import SM_90
from stemma.runtime.core.config import engine_config
from stemma.runtime.engine import Engine
from stemma.runtime.engine.ranks import Ranks
from stemma.runtime.errors import NoRoomForGraphs
from stemma.runtime.model.tiny import tiny

OPTIONS: Any = {"kv_tokens": 1 << 12, "max_running": 8, "max_batch_tokens": 64, "drafts_from": ("none",)}
PATIENCE = 60.0


@pytest.fixture
def gpu() -> Iterator[PretendedGPU]:
    gpu = PretendedGPU()
    with gpu.instead_of_cuda(), loops_on(gpu), gpu.here():
        yield gpu
        gc.collect()  # while there still is what graphs are ended on


def engine_on(gpu: PretendedGPU, graphs: bool = True, draft: Any = None) -> Engine:
    return Engine.of(tiny(ops_on(gpu, graphs), vocab_size=322), draft=draft, **OPTIONS)


def ops_on(gpu: PretendedGPU, graphs: bool = True) -> TritonOps:
    return TritonOps(DEVICE, torch.bfloat16, "activation", SM_90, gpu.launch, graphs)


def whole(engine: Engine) -> None:
    """All blocks have come back."""
    stats = engine.stats()
    assert stats.num_running == stats.num_waiting == stats.cache.leased == 0
    assert stats.cache.free + stats.cache.cached == stats.cache.total
    engine.with_cache(lambda cache: cache.check())


def kinds(gpu: PretendedGPU, first: int) -> Counter[str]:
    """What was asked of graphs since."""
    return Counter(entry[0] for entry in gpu.order[first:])


def run_out_at(gpu: PretendedGPU, number: int, where: str) -> Iterator[None]:
    """A capture of this number, from 0, has no memory: while it captures, or where it ends."""
    captures, real = 0, gpu.capturing

    @contextmanager
    def capturing(*asked: Any) -> Iterator[None]:
        nonlocal captures
        with real(*asked):
            captures += 1
            if captures == number + 1 and where == "inside":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            yield
        if captures == number + 1:
            raise RuntimeError("CUDA error: out of memory")

    gpu.capturing = capturing  # type: ignore[method-assign]
    yield


@pytest.mark.parametrize(("number", "where"), [(0, "inside"), (5, "inside"), (5, "behind")])
def test_an_engine_without_room_to_record_in_computes_the_same_one_by_one(
    gpu: PretendedGPU, number: int, where: str
) -> None:
    """Nothing stays recorded, the blocks of its pool are those of an engine that was told not to record, and it is said
    once."""
    prompts = [[3] * 20, [5] * 40, [7]]
    asked: Any = {"max_tokens": 6, "ignore_eos": True}
    with engine_on(gpu, graphs=False) as plain:
        expected = [each.tokens for each in plain.generate(prompts, **asked)]
        total = plain.stats().cache.total
    first, home = len(gpu.order), gpu.current
    for _ in run_out_at(gpu, number, where):
        with pytest.warns(NoRoomForGraphs, match="Lower memory_share") as told:
            engine = engine_on(gpu)
    assert (len(told), gpu.current is home) == (1, True)
    assert kinds(gpu, first)["reset"] == number
    with engine, warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert [each.tokens for each in engine.generate(prompts, **asked)] == expected
        counts: Any = engine._loop.runner._step.counts  # type: ignore[attr-defined]
        assert set(counts.eager) == {"not recorded"}
        assert engine.stats().cache.total == total
        whole(engine)
    assert kinds(gpu, first)["replay"] == 0


def test_a_draft_model_without_room_takes_nothing_from_the_model_s_graphs(gpu: PretendedGPU) -> None:
    """Each has a recorder of its own, and a pool."""
    draft = tiny(ops_on(gpu), "qwen3", vocab_size=322)
    with engine_on(gpu) as alone:
        num_graphs: int = alone._loop.runner._step.num_graphs  # type: ignore[attr-defined]
    for _ in run_out_at(gpu, num_graphs + 3, "inside"):
        with pytest.warns(NoRoomForGraphs) as told:
            engine = engine_on(gpu, draft=draft)
    assert len(told) == 1
    with engine:
        assert engine._draft is not None
        own, its = (each._step for each in (engine._loop.runner, engine._draft._runner))
        assert own.num_graphs == len(own.keys)  # type: ignore[attr-defined]
        assert its.num_graphs == 0  # type: ignore[attr-defined]
        assert engine.generate([3] * 9, max_tokens=5, ignore_eos=True).tokens == (TOKEN,) * 5
        whole(engine)


def test_a_model_is_prepared_before_what_guesses_for_it_and_both_are_told_of_from_none_to_all(
    gpu: PretendedGPU,
) -> None:
    told: list[tuple[str, float]] = []
    ranks, draft = Ranks(tiny(ops_on(gpu), vocab_size=322)), tiny(ops_on(gpu), "qwen3", vocab_size=322)
    engine = Engine.__new__(Engine)
    with ranks.together():
        engine._start(ranks, engine_config(OPTIONS), draft, lambda what, share: told.append((what, share)))
    with engine:
        assert engine._draft is not None
        runners = engine._loop.runner, engine._draft._runner
        counts = [each._step.num_graphs for each in runners]  # type: ignore[attr-defined]
    names = ["preparing steps"] * counts[0] + ["preparing steps of the draft model"] * counts[1]
    assert [what for what, _ in told] == names
    for name in set(names):
        shares = [share for what, share in told if what == name]
        assert shares == sorted(set(shares))
        assert shares[-1] == 1.0


def test_engines_of_one_model_leave_each_its_own_tokens(gpu: PretendedGPU) -> None:
    """Where an engine's graphs read the tokens of its last step, no other one writes, though both have one back end."""
    noted: list[tuple[str, torch.Tensor]] = []

    def launch(kernel: Any, grid: Any, arguments: dict[str, Any], *sizes: int) -> None:
        name = {"embed_kernel": "sampled", "choose_kernel": "tokens"}.get(kernel.__name__)
        if name is not None:
            noted.append((kernel.__name__, arguments[name]))
        gpu.launch(kernel, grid, arguments, *sizes)

    loaded = tiny(TritonOps(DEVICE, torch.bfloat16, "activation", SM_90, launch), vocab_size=322)
    engines, own = list[Engine](), list[torch.Tensor]()
    for _ in range(2):
        noted.clear()
        engines.append(Engine.of(loaded, **OPTIONS))
        own.append(engines[-1]._loop.runner._step._last.tokens)  # type: ignore[attr-defined]
        assert {id(tokens) for kernel, tokens in noted if kernel == "embed_kernel"} == {id(own[-1])}
    assert own[0] is not own[1]
    for engine, tokens in zip(engines, own, strict=True):
        noted.clear()
        engine.generate([3] * 9, max_tokens=5, ignore_eos=True)
        written = [each for kernel, each in noted if kernel == "choose_kernel"]
        assert len(written) >= 5
        assert all(each._base is tokens for each in written)
        engine.close()


def test_an_engine_that_closes_ends_no_graph_of_one_that_replays(gpu: PretendedGPU) -> None:
    """Nor waits for its stream, nor for the whole device."""
    engines = [engine_on(gpu), engine_on(gpu)]
    stayed, left = engines
    stays_on = stayed.loaded.model.ops._home._stream  # type: ignore[attr-defined]
    under_way, first = threading.Event(), len(gpu.order)
    handle = stayed.submit([3] * 9, max_tokens=200, ignore_eos=True)

    def follow() -> None:
        for _ in handle:
            under_way.set()

    reader = threading.Thread(target=follow)
    reader.start()
    assert under_way.wait(PATIENCE)
    left.generate([5] * 9, max_tokens=4)
    left.close()
    engines.clear()
    del left
    gc.collect()
    reader.join(PATIENCE)
    assert handle.result(PATIENCE).tokens == (TOKEN,) * 200
    ended = {id(entry[1]) for entry in gpu.order[first:] if entry[0] == "reset"}
    waited = [entry[1:] for entry in gpu.order[first:] if entry[0] == "synchronize"]
    graphs = stayed._loop.runner._step._recorder._graphs  # type: ignore[attr-defined]
    assert ended, "it was the last to hold them"
    assert not ended & {id(graph) for graph in graphs}
    assert waited
    assert () not in waited
    assert (stays_on,) not in waited
    before = len(gpu.order)
    stayed.generate([4] * 3, max_tokens=4, ignore_eos=True)
    assert kinds(gpu, before) == {"replay": 4}
    whole(stayed)
    stayed.close()


def decoded(gpu: PretendedGPU, quantization: str | None) -> Counter[str]:
    """What a decode step of a tiny Mixtral launches."""
    ops = TritonOps(DEVICE, torch.bfloat16, "activation", SM_90, gpu.launch, True, quantization)
    with Engine.of(tiny(ops, "mixtral", vocab_size=322), **OPTIONS) as engine:
        before = gpu.tally.copy()
        engine.generate([5], max_tokens=8, ignore_eos=True)
        passed = gpu.tally.since(before)
        assert passed.replays == 8
        assert engine.loaded.config.num_layers == 2
    return Counter({name: count // 8 for name, count in passed.replayed.items()})


def test_experts_of_8_bits_are_two_launches_more_a_layer(gpu: PretendedGPU) -> None:
    """Those that round their rows. Attention has two more: its output's rows, and the residual; its norm rounds."""
    floats, bytes_ = decoded(gpu, None), decoded(gpu, "fp8")
    assert bytes_ - floats == {"quantize_kernel": 8, "add_": 2, "_scaled_mm": 4}
    assert floats - bytes_ == {"norm_kernel": 2, "addmm_": 2, "mm": 2}
