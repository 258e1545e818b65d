"""What the stages of first_hour.py tell times with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def is_timed() -> bool:
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
