"""first_hour.py, sanitizer: small steps under compute-sanitizer, which sees what no result shows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from hour_lines import Lines

TOOLS = ("memcheck", "racecheck")
PLACES = ("/usr/local/cuda/bin/compute-sanitizer", "/usr/local/cuda/extras/compute-sanitizer/compute-sanitizer")


def run(lines: Lines, device: str) -> None:
    steps = [sys.executable, str(Path(__file__).with_name("hour_small_steps.py")), device]
    if lines.todo("small steps"):
        lines.judge("small steps", *judged(steps, lines.left() - 5))
    found = shutil.which("compute-sanitizer") or next((place for place in PLACES if Path(place).exists()), None)
    for tool in filter(lines.todo, TOOLS):
        if device == "cpu" or found is None:
            lines.skip(tool, "there is no GPU" if device == "cpu" else "compute-sanitizer is not installed")
        else:
            share = (lines.left() - 5) / (1 if tool == TOOLS[-1] else 2)
            lines.judge(tool, *judged([found, "--tool", tool, "--error-exitcode", "9", *steps], share))


def judged(command: list[str], seconds: float) -> tuple[bool, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, seconds), check=False)
    except subprocess.TimeoutExpired:
        return False, f"not done after {seconds:.0f} s"
    return done.returncode == 0, "" if done.returncode == 0 else (done.stdout + done.stderr)[-1500:]
