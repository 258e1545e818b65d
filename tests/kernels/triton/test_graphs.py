"""How steps are recorded: on which streams, into which pool, what waits for what, and when graphs end. The GPU is the
pretended one of benchmarks/gpu_pretended.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

from gpu_pretended import DEVICE, PretendedGPU

from stemma.kernels.triton.graphs import CudaRecorder

STEPS = 3


class Recorded:
    """An executor's recorder with some recordings. ran_on: the stream of each run of a step."""

    def __init__(self, gpu: PretendedGPU) -> None:
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


def test_one_stream_to_warm_up_on_and_one_to_capture_on(gpu: PretendedGPU) -> None:
    """However much is recorded: torch keeps a workspace for each stream that products ran on."""
    made = Recorded(gpu)
    sides, captures = made.ran_on[::2], made.ran_on[1::2]
    assert (len(sides), len(captures)) == (STEPS, STEPS)
    assert len({id(stream) for stream in sides}) == len({id(stream) for stream in captures}) == 1
    assert len({id(stream) for stream in (made.home, sides[0], captures[0])}) == 3
    assert {id(capture.stream) for capture in made.captures} == {id(captures[0])}
    assert len({capture.pool for capture in made.captures}) == gpu.num_pools == 1


def test_what_ran_before_is_waited_for_on_both_sides_of_warming_up(gpu: PretendedGPU) -> None:
    made = Recorded(gpu)
    side = made.ran_on[0]
    wanted = [("wait", side, made.home), ("wait", made.home, side), "capture"] * STEPS
    assert [entry if entry[0] == "wait" else entry[0] for entry in made.order] == wanted


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
    assert [entry[1] for entry in ends[1:]] == [capture.graph for capture in made.captures]
    made.recorder.retire()
    assert Counter(entry[0] for entry in gpu.order)["reset"] == STEPS, "once"


def test_two_executors_share_nothing(gpu: PretendedGPU) -> None:
    """One's end takes no stream, pool or graph of the other's: torch drops the workspace of the stream a graph was
    captured on when the graph goes."""
    one, other = Recorded(gpu), Recorded(gpu)
    assert not {id(stream) for stream in one.ran_on} & {id(stream) for stream in other.ran_on}
    assert not {capture.pool for capture in one.captures} & {capture.pool for capture in other.captures}
    before = len(gpu.order)
    one.recorder.retire()
    gone = {id(entry[1]) for entry in gpu.order[before:] if entry[0] == "reset"}
    assert gone == {id(capture.graph) for capture in one.captures}
    tally = gpu.tally.copy()
    other.replays[0]()
    assert dict(gpu.tally.since(tally).replayed) == {"add_": 1}
