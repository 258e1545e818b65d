"""The pool of threads: every piece once, whatever the workers do."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.machine.threads import _Sleep
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.weights import StoredWeight
from tests.kernels.on_tensors import tensor_ops


def stored(shape: tuple[int, ...]) -> StoredWeight:
    return StoredWeight("F32", shape, np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_workers_sleep_and_wake(ops: CpuOps) -> None:
    weight, norm = ops.linear([stored((200, 64))]), ops.norm(stored((64,)), 1e-5)
    x = torch.randn(3, 64)
    want = ops.norm_linear(x, norm, weight).clone()
    for pause in (0.0, 0.001, 0.05, 0.2):
        time.sleep(pause)
        assert torch.equal(ops.norm_linear(x, norm, weight), want)


def test_the_lock_of_python_is_free_meanwhile(ops: CpuOps) -> None:
    """Another thread counts while each of three long products runs."""
    weight, norm = ops.linear([stored((4096, 1536))]), ops.norm(stored((1536,)), 1e-5)
    x = torch.randn(512, 1536)
    over, counter = threading.Event(), [0]

    def count() -> None:
        while not over.is_set():
            counter[0] += 1

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    counted = []
    for _ in range(3):
        before = counter[0]
        ops.norm_linear(x, norm, weight)
        counted.append(counter[0] - before)
    over.set()
    thread.join()
    assert min(counted) > 0


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_a_dropped_back_end_ends_its_threads(ops: CpuOps, num_threads: int) -> None:
    before = {*threading.enumerate()}
    other = tensor_ops(ops.target, num_threads, cache_dir=ops.cache_dir)
    own = {*threading.enumerate()} - before
    assert len(own) == num_threads - 1
    del other
    gc.collect()
    assert not own & {*threading.enumerate()}


def test_many_small_jobs_in_a_row(ops: CpuOps) -> None:
    weight = ops.linear([stored((48, 32))])
    total = torch.zeros(1, 48)
    x = torch.ones(1, 32)
    once = ops.linear_add(x, weight, torch.zeros(1, 48)).double().numpy()
    for _ in range(3000):
        ops.linear_add(x, weight, total)
    assert np.allclose(total.double().numpy(), 3000 * once, rtol=1e-4)


def test_callers_of_two_threads_take_turns(ops: CpuOps) -> None:
    weight, norm = ops.linear([stored((96, 64))]), ops.norm(stored((64,)), 1e-5)
    inputs = [torch.randn(rows, 64) for rows in (3, 40)]
    wants = [ops.norm_linear(x, norm, weight).clone() for x in inputs]
    wrong = []

    def work(x: torch.Tensor, want: torch.Tensor) -> None:
        wrong.extend(not torch.equal(ops.norm_linear(x, norm, weight), want) for _ in range(500))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, wants, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(wrong)


def test_who_was_about_to_sleep_sees_the_step_that_began() -> None:
    """A step that begins between a worker's last look and its sleep keeps it awake; later it sleeps, and is woken."""
    sleep = _Sleep()
    seen = sleep.steps
    sleep.wake()
    sleep.wait(seen)  # returns: a step has begun
    thread = threading.Thread(target=sleep.wait, args=(sleep.steps,))
    thread.start()
    while not sleep.parked:
        time.sleep(0.001)
    sleep.wake()
    thread.join()
    assert sleep.parked == 0
