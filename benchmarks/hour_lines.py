"""What the stages of first_hour.py share: lines of JSON as soon as they are known, and clocks."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

BROKEN = 3
"""The exit status of a stage whose device no longer answers: it goes on in a new process."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Lines:
    """The lines of one stage in a file that they share. Whoever asks `todo` first leaves out what is there already."""

    def __init__(self, stage: str, path: Path) -> None:
        self._stage, self._path = stage, path
        self._known = {line["case"] for line in read_lines(path) if line["stage"] == stage and "case" in line}

    def todo(self, case: str) -> bool:
        return case not in self._known

    def _add(self, **line: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"stage": self._stage, **line}) + "\n")

    def fact(
        self, case: str, metric: str, ours: float, peer: float | None = None, peer_name: str = "", **more: Any
    ) -> None:
        """metric: us, GB/s, TFLOP/s, MB, tokens/s or a count."""
        ratio = ours / peer if peer else None
        self._add(
            case=case, metric=metric, ours=ours, peer=peer, peer_name=peer_name, ratio=ratio, timed=_is_timed(), **more
        )

    def judge(self, case: str, passed: bool, note: str = "") -> None:
        self._add(case=case, passed=bool(passed), note=note)

    def skip(self, case: str, why: str) -> None:
        self._add(case=case, skipped=why)

    def attempt(self, case: str, function: Callable[[], None]) -> None:
        """A case that writes its own lines; an error is one, and the next case comes: in a new process, where it is one
        of CUDA, after which a process has no use of the device any more."""
        if not self.todo(case):
            return
        try:
            function()
        except Exception as error:
            self.judge(case, False, f"{type(error).__name__}: {str(error)[:500]}")
            if "CUDA error" in str(error) or "HIP error" in str(error):
                sys.exit(BROKEN)


def _is_timed() -> bool:
    """Whether a time means something."""
    return torch.cuda.is_available()


def wall_us(function: Callable[[], object], repeats: int = 20) -> float:
    """Median microseconds of a call, with all that the host does and waits for."""
    if not torch.cuda.is_available():
        repeats = 1
    times = []
    for nth in range(repeats + (repeats > 1) * 3):
        _finish()
        started = time.perf_counter()
        function()
        _finish()
        if nth >= 3 or repeats == 1:
            times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times)


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def captured_us(calls: Sequence[Callable[[], object]], repeats: int = 10) -> float:
    """Microseconds of one of the calls on the device alone: captured one behind the other in one graph, so that neither
    the host nor a cache that is still warm shortens or lengthens them; each call has memory of its own."""
    if not torch.cuda.is_available():
        return wall_us(calls[0])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times = []
    for _ in range(repeats):
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        times.append(1e3 * first.elapsed_time(last) / len(calls))
    return statistics.median(times)


def device_us(function: Callable[[], object], repeats: int = 5) -> float:
    """Microseconds that kernels run for in a call, added up: what no gap between them is in."""
    if not torch.cuda.is_available():
        return wall_us(function)
    function()
    _finish()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(repeats):
            function()
        _finish()
    return sum(float(event.self_device_time_total) for event in profile.key_averages()) / repeats
