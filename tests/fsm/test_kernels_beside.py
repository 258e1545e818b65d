"""Kernels of grammars that another process compiles at the first start of all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemma.fsm.kernels import beside
from stemma.fsm.kernels.jit import MARKED
from stemma.fsm.kernels.loader import Kernels, signatures
from stemma.fsm.machine import build


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, for this process and those that it starts."""
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(beside, "_started", [])
    yield tmp_path
    beside.wait()


def test_what_the_other_process_keeps_is_what_this_one_loads(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside.begin()
    beside.begin()
    assert len(beside._started) == 1
    beside.wait()
    kept = list((cache / "fsm").glob("kernels-*.o"))
    assert len(kept) == 1

    monkeypatch.setattr(build, "compile_kernels", lambda *_: pytest.fail("compiled once more"))
    found = build.load(signatures(), frozenset(MARKED), cache / "fsm")
    assert set(found) == set(Kernels._fields)


def test_nothing_is_started_where_kernels_are_kept(cache: Path) -> None:
    (cache / "fsm").mkdir()
    (cache / "fsm" / "kernels-of-an-earlier-start.o").write_bytes(b"")
    beside.begin()
    assert not beside._started


def test_nothing_is_started_on_one_core(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    beside.begin()
    assert not beside._started


def test_a_program_that_is_no_python_is_not_started(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    beside.begin()
    assert not beside._started


def test_a_process_that_fails_is_only_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    beside.begin()
    beside.wait()
    assert [child.returncode for child in beside._started] == [3]
    assert not (cache / "fsm").exists()
