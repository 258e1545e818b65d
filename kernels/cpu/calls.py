"""Calls of native code: one at a time, on all threads, recorded if a step is, with memory for what they return."""

from __future__ import annotations

import threading
from collections.abc import Callable

from stemma.kernels.cpu.buffers import Buffers, Floats
from stemma.kernels.cpu.machine.threads import ThreadPool
from stemma.kernels.cpu.steps import NativeCall


class Calls:
    """Callers of several threads take turns."""

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool
        self.buffers = Buffers()
        self._turn = threading.Lock()

    def take(self, name: str, shape: tuple[int, ...]) -> tuple[Floats, int]:
        """An array for what an operation returns, and its address: the next one of the name is the same."""
        return self.buffers.take(name, shape)

    def run(self, operation: Callable[..., None], *arguments: int) -> None:
        """Call `operation(control, *arguments)`."""
        if self.buffers.calls is not None:
            self.buffers.calls.append(NativeCall(operation, arguments))
        self.pool.check()
        if self.pool.parked:
            self.pool.wake()
        with self._turn:
            operation(self.pool.control, *arguments)
