"""When the automaton's kernels are compiled, and what happens if their thread is lost."""

from __future__ import annotations

import os
import threading

from stemma.fsm import kernels


def test_a_fork_starts_its_own_compiler(monkeypatch):
    """Whether the thread was at work when the process was forked, or the fork comes before anything was asked."""
    parent, never = os.getpid(), threading.Event()
    monkeypatch.setattr(kernels, "compile_kernels", lambda: never.wait() if os.getpid() == parent else "compiled")
    loader = kernels.KernelLoader()
    assert loader.compiled is None
    child = os.fork()
    if child == 0:
        os._exit(0 if loader.wait() == "compiled" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert loader.compiled is None
    never.set()
