"""When the automaton's kernels are compiled, and what happens if their thread is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from stemma.fsm import kernels


def test_a_fork_starts_its_own_compiler(monkeypatch):
    """Whether the thread was at work when the process was forked, or the fork comes before anything was asked."""
    parent, may_end = os.getpid(), threading.Event()
    monkeypatch.setattr(kernels, "compile_kernels", lambda: may_end.wait() if os.getpid() == parent else "compiled")
    loader = kernels.KernelLoader()
    assert loader.compiled is None
    child = os.fork()
    if child == 0:
        os._exit(0 if loader.wait() == "compiled" else 1)
    assert loader.compiled is None
    may_end.set()
    assert os.waitpid(child, 0)[1] == 0


COMPILES = """
import sys, time
from pathlib import Path
from stemma.fsm import kernels

folder, log = Path(sys.argv[1]), Path(sys.argv[2])

def compile_kernels():
    if not (kept := folder / "kernel.nbc").exists():
        kept.write_text("half")
        time.sleep(0.3)
        kept.write_text("whole")
        log.open("a").write("compiled ")
    return kept.read_text()

with kernels.kept(folder):
    assert compile_kernels() == "whole"
"""


def test_processes_that_start_together_compile_once(tmp_path):
    """Whoever comes meanwhile waits: it must neither compile the same nor take what is half written for damaged."""
    folder, log = tmp_path / "kernels", tmp_path / "log"
    folder.mkdir()
    started = [subprocess.Popen([sys.executable, "-c", COMPILES, str(folder), str(log)]) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    assert log.read_text() == "compiled "


def test_where_nothing_can_be_written_all_compile_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with kernels.kept(tmp_path / "file" / "kernels"):
        pass
