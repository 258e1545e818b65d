"""How steps are recorded: on which streams, into which pool, what waits for what, and when graphs end. The GPU is the
pretended one of benchmarks/gpu_pretended.py."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

from gpu_pretended import DEVICE, PretendedGPU, _Stream

from stemma.kernels.triton.graphs import CudaRecorder
from stemma.kernels.triton.home import Home

STEPS = 3


class Recorded:
    """An executor's recorder with some recordings. ran_on: the stream of each run of a step."""

    def __init__(self, gpu: PretendedGPU) -> None:
        self.cycle = self  # left to the collector
        self.gpu, self.ran_on = gpu, list[Any]()
        self.home = gpu.current
        self.recorder = CudaRecorder(DEVICE)
        self.first = len(gpu.order)
        self.replays = [self.recorder(self.step) for _ in range(STEPS)]
        self.order = gpu.order[self.first :]

    def step(self) -> torch.Tensor:
        self.ran_on.append(self.gpu.current)
        return torch.empty(2, device=DEVICE).add_(1)

    @property
    def captures(self) -> list[Any]:
        return [SimpleNamespace(graph=e[1], stream=e[2], pool=e[3]) for e in self.order if e[0] == "capture"]


@pytest.fixture
def gpu() -> Iterator[PretendedGPU]:
    gpu = PretendedGPU()
    with gpu.instead_of_cuda(), gpu.here():
        yield gpu


def test_steps_run_where_replays_go_and_are_captured_on_one_stream(gpu: PretendedGPU) -> None:
    """However much is recorded: torch keeps a workspace for each stream that products ran on. What runs before a
    capture is in one order with all that the model computes: counters of its products are one step's at a time."""
    made = Recorded(gpu)
    before, captures = made.ran_on[::2], made.ran_on[1::2]
    assert (len(before), len(captures)) == (STEPS, STEPS)
    assert {id(stream) for stream in before} == {id(made.home)}
    assert {id(stream) for stream in captures}.isdisjoint({id(made.home)})
    assert len({id(stream) for stream in captures}) == 1
    assert [entry[0] for entry in made.order] == ["capture"] * STEPS
    assert {id(capture.stream) for capture in made.captures} == {id(captures[0])}
    assert len({capture.pool for capture in made.captures}) == gpu.num_pools == 1


def test_no_capture_is_on_a_stream_that_an_engine_may_have(gpu: PretendedGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has 32 streams of a priority, and hands them out in turn."""
    pools: dict[int, list[Any]] = {priority: [_Stream(gpu) for _ in range(32)] for priority in (0, -1)}
    handed = Counter[int]()

    def stream(_device: Any = None, priority: int = 0) -> Any:
        handed[priority] += 1
        return pools[priority][handed[priority] % 32]

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    homes = {id(Home(DEVICE)._stream) for _ in range(40)}
    captures = {id(capture.stream) for _ in range(40) for capture in Recorded(gpu).captures}
    assert len(homes) == len(captures) == 32
    assert homes.isdisjoint(captures)


def test_the_host_is_not_waited_for_and_a_replay_is_one_launch(gpu: PretendedGPU) -> None:
    made = Recorded(gpu)
    assert not gpu.tally.waits
    before = gpu.tally.copy()
    results = [replay() for replay in (*made.replays, *made.replays)]
    passed = gpu.tally.since(before)
    assert (passed.replays, dict(passed.launches), dict(passed.replayed)) == (2 * STEPS, {}, {"add_": 2 * STEPS})
    assert all(first is again for first, again in zip(results[:STEPS], results[STEPS:], strict=True))


def test_a_generation_ends_together_when_nothing_runs_any_more(gpu: PretendedGPU) -> None:
    made = Recorded(gpu)
    before = len(gpu.order)
    made.recorder.retire()
    ends = gpu.order[before:]
    assert [entry[0] for entry in ends] == ["synchronize"] + ["reset"] * STEPS
    assert ends[0][1] is made.home
    assert [entry[1] for entry in ends[1:]] == [capture.graph for capture in made.captures]
    made.recorder.retire()
    assert Counter(entry[0] for entry in gpu.order)["reset"] == STEPS, "once"


def test_two_executors_share_nothing(gpu: PretendedGPU) -> None:
    """One's end takes no stream, pool or graph of the other's: torch drops the workspace of the stream a graph was
    captured on when the graph goes."""
    one, other = Recorded(gpu), Recorded(gpu)
    assert not {id(capture.stream) for capture in one.captures} & {id(capture.stream) for capture in other.captures}
    assert not {capture.pool for capture in one.captures} & {capture.pool for capture in other.captures}
    before = len(gpu.order)
    one.recorder.retire()
    gone = {id(entry[1]) for entry in gpu.order[before:] if entry[0] == "reset"}
    assert gone == {id(capture.graph) for capture in one.captures}
    tally = gpu.tally.copy()
    other.replays[0]()
    assert dict(gpu.tally.since(tally).replayed) == {"add_": 1}


def test_while_one_captures_another_neither_captures_nor_ends(gpu: PretendedGPU) -> None:
    """Before a capture torch waits for the whole device, and for that another capture would break off."""
    old, order = Recorded(gpu), list[str]()
    recorder = CudaRecorder(DEVICE)

    def told(name: str, act: Any) -> threading.Thread:
        def run() -> None:
            with gpu.here():
                act()
            order.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    threads: list[threading.Thread] = []

    def step() -> torch.Tensor:
        if gpu._captured is not None and not threads:
            threads.extend((told("ended", old.recorder.retire), told("captured", lambda: Recorded(gpu))))
            for each in threads:
                each.join(0.2)
            order.append("first")
        return torch.empty(2, device=DEVICE).add_(1)

    recorder(step)
    for each in threads:
        each.join(20.0)
    assert (order[0], sorted(order)) == ("first", ["captured", "ended", "first"])


def test_what_the_collector_comes_upon_ends_behind_a_capture(gpu: PretendedGPU) -> None:
    """An executor in a cycle goes when garbage is collected, which may be in any thread and at any allocation."""
    old = Recorded(gpu)
    weakref.finalize(old, old.recorder.retire)
    recorder, before, thresholds = CudaRecorder(DEVICE), len(gpu.order), gc.get_threshold()

    def step() -> torch.Tensor:
        nonlocal old
        if gpu._captured is not None:
            del old
            gc.set_threshold(1, 1, 1)
            assert len([[] for _ in range(1000)]) == 1000
        return torch.empty(2, device=DEVICE).add_(1)

    try:
        recorder(step)
    finally:
        gc.set_threshold(*thresholds)
    assert gc.isenabled()
    gc.collect()
    came = [entry[0] for entry in gpu.order[before:] if entry[0] in ("capture", "reset")]
    assert came == ["capture"] + ["reset"] * STEPS
