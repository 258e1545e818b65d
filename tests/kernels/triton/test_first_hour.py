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
from hour_table import table_of

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
    first.attempt("two", lambda: 1 / 0)  # type: ignore[arg-type]
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
    ended = first_hour.run_process(command, dict(os.environ), 3)
    assert ended == (None, "begun\n", "out of time")


CASES = """
import os, sys, time
from pathlib import Path
from hour_lines import Lines

lines = Lines("facts", Path(sys.argv[1]))
lines.attempt("before", lambda: lines.judge("before", True))
lines.attempt("in question", lambda: BAD)
lines.attempt("behind", lambda: lines.judge("behind", True))
"""
"""A stage of three cases; the second one does not end well."""


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        ("os.abort()", "its process ended with -6"),
        ("sys.exit(1)", "its process ended with 1"),
        ("time.sleep(600)", "not done after"),
        ("[][0]", "IndexError"),
        ("exec('raise RuntimeError(\"CUDA error: misaligned address\")')", "misaligned"),
    ],
)
def test_a_case_that_ends_its_process_or_hangs_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str, note: str
) -> None:
    folder = first_hour.Folder(tmp_path)
    command = [sys.executable, "-c", CASES.replace("BAD", bad), str(folder.lines_path)]
    monkeypatch.setattr(first_hour, "command_of", lambda *_: command)
    monkeypatch.setattr(first_hour, "OF_A_CASE", 2)
    first_hour.run_stage("facts", folder, "cuda", 300)
    before, question, behind, ended = folder.lines()
    assert (before["case"], before["passed"]) == ("before", True)
    assert (question["case"], question["passed"]) == ("in question", False)
    assert note in question["note"]
    assert (behind["case"], behind["passed"], ended["ended"]) == ("behind", True, "finished")


def test_a_stage_that_fails_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = first_hour.Folder(tmp_path)
    failing = [sys.executable, "-c", "raise ImportError('no such thing')"]
    passing = [sys.executable, "-c", "pass"]
    monkeypatch.setattr(first_hour, "command_of", lambda stage, *_: failing if stage == "identity" else passing)
    first_hour.run_stages(["facts", "identity", "graphs"], folder, "cuda", 300)
    assert [(line["stage"], line["ended"]) for line in folder.lines()] == [
        ("facts", "finished"), ("identity", "failed"), ("graphs", "finished"),
    ]  # fmt: skip
    table = (tmp_path / "table.txt").read_text()
    assert "FAILED     identity: " in table
    assert "no such thing" in table


def test_without_time_stages_are_not_begun_and_come_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = first_hour.Folder(tmp_path)
    monkeypatch.setattr(first_hour, "command_of", lambda *_: [sys.executable, "-c", "pass"])
    first_hour.run_stages(["facts", "steps"], folder, "cuda", first_hour.LEAST - 1)
    assert [line["ended"] for line in folder.lines()] == ["not begun", "not begun"]
    first_hour.run_stages(["facts", "steps"], folder, "cuda", 300)
    assert [line["ended"] for line in folder.lines()[2:]] == ["finished", "finished"]


def test_all_stages_fit_the_time_that_a_card_is_lent_for() -> None:
    """And each is the one that its limit names."""
    assert sum(first_hour.LIMITS.values()) <= first_hour.SECONDS <= 14 * 60
    assert all((ROOT / "benchmarks" / f"hour_{stage}.py").exists() for stage in first_hour.LIMITS)


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    lines = Lines("facts", path)
    lines.judge("one", True)
    with path.open("a") as file:
        file.write('{"stage": "facts", "ca')
    lines.judge("two", True)
    assert [line["case"] for line in read_lines(path)] == ["one", "two"]


HANGING = """
import sys
import first_hour

folder, *files = sys.argv[1:]
stage = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); os.rename(*sys.argv[1:]); time.sleep(99)"
first_hour.command_of = lambda *_: [sys.executable, "-c", stage, *files]
sys.argv = ["first_hour.py", "facts", "--out", folder]
first_hour.main()
"""


def test_who_ends_the_script_is_told_what_is_known(tmp_path: Path) -> None:
    """And nothing of it stays behind."""
    folder, number = first_hour.Folder(tmp_path), tmp_path / "number"
    Lines("facts", folder.lines_path).judge("one", True)
    command = [sys.executable, "-c", HANGING, str(tmp_path), str(tmp_path / "unfinished"), str(number)]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    while not number.exists():
        assert child.poll() is None
    child.terminate()
    output, _ = child.communicate()
    assert "facts      not begun           0.0       1" in output
    assert (tmp_path / "table.txt").read_text().strip() in output
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_the_table_says_what_failed_what_was_not_run_and_figures(tmp_path: Path) -> None:
    lines = Lines("steps", tmp_path / "lines.jsonl")
    lines.fact("decode 16 x 8192, replay", "us", 9000.0, 7500.0, "bytes over bandwidth")
    lines.judge("40 behind 1000", False, "RuntimeError: no")
    for case in ("a", "b"):
        lines.skip(case, "its KV does not fit")
    found = [*read_lines(tmp_path / "lines.jsonl"), {"stage": "steps", "ended": "finished", "seconds": 4.0, "tail": ""}]
    table = table_of(found, ["facts", "steps"])
    assert [row.split() for row in table.splitlines()[1:3]] == [
        ["facts", "not", "begun", "0.0", "0", "0", "0", "0"], ["steps", "finished", "4.0", "0", "1", "2", "1"],
    ]  # fmt: skip
    assert "FAILED     steps, 40 behind 1000: RuntimeError: no" in table
    assert "NOT RUN    its KV does not fit: 2 of steps" in table
    assert "9,000.00 us           1.20 x 7,500.0 bytes over bandwidth" in table
