"""benchmarks/first_hour.py where there is no GPU: a stage's lines, going on where it was, stages that fail or hang."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import first_hour
import pytest
from hour_lines import BROKEN, Lines, read_lines

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton has no build for this platform")


def run(out: Path, *arguments: str) -> list[dict[str, Any]]:
    command = (sys.executable, str(ROOT / "benchmarks" / "first_hour.py"), *arguments, "--out", str(out))
    done = subprocess.run(
        (*command, "--device", "cpu"), capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "facts" in done.stdout
    return read_lines(out / "lines.jsonl")


def test_a_stage_writes_lines_and_is_not_run_again(tmp_path: Path) -> None:
    lines = run(tmp_path, "facts")
    assert [line["ended"] for line in lines if "ended" in line] == ["finished"]
    assert {line["case"] for line in lines if "skipped" in line} >= {"memory", "copy from pinned memory"}
    assert [line["case"] for line in lines if line.get("passed") is False] == []
    assert run(tmp_path, "facts") == lines
    again = run(tmp_path, "facts", "--again")
    assert [line["case"] for line in again if "case" in line] == [line["case"] for line in lines if "case" in line]


def test_a_stage_goes_on_with_the_cases_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    first = Lines("steps", path)
    first.fact("one", "us", 3.0, 2.0, "floor")
    first.attempt("two", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    later = Lines("steps", path)
    assert [later.todo(case) for case in ("one", "two", "three")] == [False, False, True]
    later.attempt("one", lambda: later.judge("one", False))
    one, two = read_lines(path)
    assert (one["ratio"], one["timed"]) == (1.5, False)
    assert two["passed"] is False
    assert "ZeroDivisionError" in two["note"]


def test_an_error_of_the_device_ends_the_process(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(SystemExit) as ended:
        Lines("steps", tmp_path / "lines.jsonl").attempt("one", fail)
    assert ended.value.code == BROKEN
    assert read_lines(tmp_path / "lines.jsonl")[0]["passed"] is False


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
    assert first_hour.run_process(command, dict(os.environ), 3) == (None, "begun\n")


def test_a_stage_that_breaks_is_run_again_until_it_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    statuses = [BROKEN, BROKEN, 1]
    monkeypatch.setattr(first_hour, "run_process", lambda *_: (statuses.pop(0), "said"))
    ended = first_hour.run_stage("facts", tmp_path, "cpu")
    assert (ended["ended"], ended["tail"], statuses) == ("failed", "said", [])
