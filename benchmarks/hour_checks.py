"""first_hour.py, checks: every kernel against the reference on this device, each file in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from hour_lines import UNFINISHED, Lines

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "kernels" / "triton"
WORKERS = 8
SLOW = 150
"""Seconds that one file may take, if the stage has as many left."""

FIRST = ("attention", "ahead", "sampling", "logits", "kv", "rows", "graphs", "engine", "weights", "fp8", "experts")
"""What every model needs, then what many do: the others come behind these."""

QUICK = ("check_select", "check_windows")
"""What the interpreter runs in half a minute: the others are tests/kernels/triton/test_interpreted.py."""


def run(lines: Lines, device: str) -> None:
    names = sorted((path.stem for path in FOLDER.glob("check_*.py")), key=place)
    if find_spec("pytest") is None or find_spec("hypothesis") is None:
        for name in filter(lines.todo, names):
            lines.skip(name, "pytest or hypothesis is not installed: carry their wheels (--wheels)")
        return
    if device == "cpu":
        for name in names:
            if name not in QUICK and lines.todo(name):
                lines.skip(name, "in the interpreter tests/kernels/triton/test_interpreted.py runs it")
        names = list(QUICK)
    with ThreadPoolExecutor(max_workers=WORKERS if device == "cuda" else 2) as threads:
        judged = list(threads.map(lambda name: check(lines, name), filter(lines.todo, names)))
    if not all(judged):
        sys.exit(UNFINISHED)


def place(name: str) -> tuple[int, str]:
    """In the order of what they are worth."""
    subject = name.removeprefix("check_")
    return FIRST.index(subject) if subject in FIRST else len(FIRST), name


def check(lines: Lines, name: str) -> bool:
    """Whether it was judged: one that would not even have a third of its time waits until the stage goes on."""
    if lines.left() < SLOW / 3:
        return False
    passed, note = run_pytest(name, lines.left())
    lines.judge(name, passed, note)
    if not passed and name == "check_attention":
        lines.judge(f"{name}, one stage", *run_pytest(name, lines.left(), "-p", "hour_one_stage"))
    return True


def run_pytest(name: str, left: float, *options: str) -> tuple[bool, str]:
    """Whether it passed; what it says last. left: seconds of the stage."""
    limit = max(1.0, min(SLOW, left - 5))
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *options]
    if find_spec("xdist") is None:
        command[3:5] = ["-o", "addopts=--import-mode=importlib"]
    environment_path = f"--rootdir={ROOT}"
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, environment_path, str(FOLDER / f"{name}.py")], capture_output=True, text=True, timeout=limit,
            check=False, cwd=ROOT, env=_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"not done after {limit:.0f} s"
    seconds = f"{time.perf_counter() - started:.0f} s"
    if done.returncode == 0:
        return True, seconds
    return False, f"{seconds}: {done.stdout[-1500:]}{done.stderr[-500:]}"


def _environment() -> dict[str, str]:
    """The checks import what stands beside them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(FOLDER), os.environ.get("PYTHONPATH", "")))}
