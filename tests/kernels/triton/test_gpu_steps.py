"""benchmarks/gpu_steps.py: what the pretended GPU counts, and what a step of the whole engine asks of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpu_pretended import DEVICE, TOKEN, PretendedGPU, Tally

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "benchmarks" / "gpu_steps.py"


@pytest.fixture
def gpu() -> PretendedGPU:
    return PretendedGPU()


def counted(gpu: PretendedGPU, operation: Callable[[torch.Tensor], object]) -> Tally:
    with gpu.instead_of_cuda(), gpu.here():
        x = torch.empty(4, 5, device=DEVICE)
        before = gpu.tally.copy()
        operation(x)
        return gpu.tally.since(before)


def test_what_waits_for_the_device(gpu: PretendedGPU) -> None:
    pageable = counted(gpu, lambda x: torch.from_numpy(np.zeros(3, np.float32)).to(x.device))
    assert (pageable.uploads, pageable.uploaded_bytes, dict(pageable.waits)) == (1, 12, {"pageable upload": 1})
    pinned = counted(gpu, lambda x: x[0].copy_(torch.zeros(5, pin_memory=True), non_blocking=True))
    assert (pinned.uploads, pinned.uploaded_bytes, dict(pinned.waits)) == (1, 20, {})
    rows = counted(gpu, lambda x: x[[0, 2]])
    assert (rows.uploaded_bytes, dict(rows.waits), dict(rows.launches)) == (16, {"pageable upload": 1}, {"index": 1})
    read = counted(gpu, lambda x: (x.cpu(), x[0].tolist(), float(x[0, 0]), bool(x[0, 0] > 1)))
    assert (read.downloads, dict(read.waits)) == (4, {"download": 4})
    late = counted(gpu, lambda x: torch.empty(4, 5, pin_memory=True).copy_(x, non_blocking=True))
    assert (late.downloaded_bytes, dict(late.waits)) == (80, {})
    ended = counted(gpu, lambda _: (torch.cuda.Event().synchronize(), torch.cuda.synchronize()))
    assert dict(ended.waits) == {"event": 1, "device": 1}


def test_what_is_launched(gpu: PretendedGPU) -> None:
    views = counted(gpu, lambda x: x.view(-1)[3:].view(torch.int32).t())
    assert not views.launches
    added = counted(gpu, lambda x: torch.addmm(x, x, x.new_empty(5, 5)))
    assert dict(added.launches) == {"addmm": 2}
    inside = counted(gpu, lambda x: x.addmm_(x, x.new_empty(5, 5)))
    assert dict(inside.launches) == {"addmm_": 1}


def test_a_replay_counts_what_was_captured(gpu: PretendedGPU) -> None:
    def replayed(x: torch.Tensor) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            x.add_(1).mul_(2)
        graph.replay()
        graph.replay()

    tally = counted(gpu, replayed)
    assert (tally.recordings, tally.replays) == (1, 2)
    assert (dict(tally.launches), dict(tally.replayed)) == ({}, {"add_": 2, "mul_": 2})


def test_an_upload_while_a_graph_is_captured_is_refused(gpu: PretendedGPU) -> None:
    def captured(x: torch.Tensor) -> None:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            x.copy_(torch.zeros(4, 5))

    with pytest.raises(AssertionError, match="an upload while a graph is captured"):
        counted(gpu, captured)


def test_what_is_fetched_is_the_token_that_all_sample(gpu: PretendedGPU) -> None:
    with gpu.here():
        assert torch.empty(2, device=DEVICE, dtype=torch.int32).tolist() == [TOKEN, TOKEN]


def counts_of(case: str) -> dict[str, Any]:
    done = subprocess.run(
        (sys.executable, str(SCRIPT), "--count", "--only", case), capture_output=True, text=True,
        check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [[_, counts]] = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(counts)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton has no build for this platform")
def test_a_decode_step_of_the_whole_engine() -> None:
    """One replay of Llama-3-8B's 32 layers, and little beside it."""
    numbers = counts_of("decode 1, greedy")["numbers"]
    assert numbers["replays"] == 1
    assert 10 * 32 <= numbers["in_graphs"] <= 324
    assert numbers["launches"] <= 2
    assert numbers["waits"] == 1  # for the tokens, when the next step is launched


@pytest.mark.skipif(find_spec("triton") is None, reason="triton has no build for this platform")
@pytest.mark.parametrize(
    ("asked", "launches", "waits"),
    [("penalties", {"adjust_kernel"}, 1), ("logprobs", {"weigh_kernel", "report_kernel"}, 1)],
)
def test_what_is_asked_of_logits_is_asked_for_all_rows_at_once(asked: str, launches: set[str], waits: int) -> None:
    """Sixteen rows: one upload more than sampling's own, one wait more where something is read."""
    counts = counts_of(f"decode 16, {asked}")
    assert counts["kernels"] == dict.fromkeys(launches | {"survey_kernel", "choose_kernel"}, 1)
    assert counts["numbers"]["waits"] <= waits
    assert counts["numbers"]["uploads"] <= 5
