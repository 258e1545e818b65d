"""first_hour.py, checks: every kernel against the reference on this device, each file in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from hour_lines import Lines

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "kernels" / "triton"
WORKERS = 8
SLOW = 150
"""Seconds that one file may take."""

QUICK = ("check_select", "check_windows")
"""What the interpreter runs in half a minute: the others are tests/kernels/triton/test_interpreted.py."""


def run(lines: Lines, device: str) -> None:
    names = sorted(path.stem for path in FOLDER.glob("check_*.py"))
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
        list(threads.map(lambda name: check(lines, name), filter(lines.todo, names)))


def check(lines: Lines, name: str) -> None:
    passed, note = run_pytest(name)
    lines.judge(name, passed, note)
    if not passed and name == "check_attention":
        lines.judge(f"{name}, one stage", *run_pytest(name, "-p", "hour_one_stage"))


def run_pytest(name: str, *options: str) -> tuple[bool, str]:
    """Whether it passed; what it says last."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *options]
    if find_spec("xdist") is None:
        command[3:5] = ["-o", "addopts=--import-mode=importlib"]
    environment_path = f"--rootdir={ROOT}"
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, environment_path, str(FOLDER / f"{name}.py")], capture_output=True, text=True, timeout=SLOW,
            check=False, cwd=ROOT, env=_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"not done after {SLOW} s"
    seconds = f"{time.perf_counter() - started:.0f} s"
    if done.returncode == 0:
        return True, seconds
    return False, f"{seconds}: {done.stdout[-1500:]}{done.stderr[-500:]}"


def _environment() -> dict[str, str]:
    """The checks import what stands beside them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(FOLDER), os.environ.get("PYTHONPATH", "")))}
