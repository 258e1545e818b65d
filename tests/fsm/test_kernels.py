"""When the automaton's kernels are compiled, and what happens if their thread is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from stemma.fsm.automaton import automaton
from stemma.fsm.errors import KernelsFailed
from stemma.fsm.kernels import loader as kernels
from stemma.fsm.regex import Regex


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


def test_who_waits_for_what_cannot_be_compiled_is_told_why(monkeypatch, tmp_path, caplog):
    """Grammars go on in plain Python, and a later wait is told the same."""

    def broken(keeps=True):
        raise ImportError("no compiler here")

    monkeypatch.setattr(kernels, "compile_kernels", broken)
    monkeypatch.setattr(kernels, "cache_folder", lambda: tmp_path)
    loader = kernels.KernelLoader()
    for _ in range(2):
        with pytest.raises(KernelsFailed, match="no compiler here") as told:
            loader.wait()
        assert isinstance(told.value.__cause__, ImportError)
        assert loader.compiled is None
    assert sum("cannot be compiled" in record.message for record in caplog.records) == 1
    monkeypatch.setattr(kernels, "loader", lambda: loader)
    monkeypatch.setattr(automaton, "loader", lambda: loader)
    machine = automaton.Automaton(Regex("a+b").grammar())
    assert machine.is_accepting(machine.step_bytes(machine.start, b"aab"))


COMPILES = """
import sys, time
from pathlib import Path
from stemma.fsm.kernels import loader as kernels

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
