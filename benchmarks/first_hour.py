"""The first hour on a GPU: is it right, is it sound, how fast is it. Stages, in processes with limits of their own.

    python benchmarks/first_hour.py [STAGE...] [--out FOLDER] [--device cuda] [--seconds 840] [--wheels FOLDER]
                                    [--again]

| stage | limit | what |
|---|---|---|
| facts | 30 s | versions, memory, copies, matrix products |
| identity | 110 s | chosen tokens, judged by a CPU's log-probabilities in float32 |
| graphs | 60 s | replays beside launches one by one, many sizes, two engines of which one goes, or records, memory |
| steps | 190 s | Llama-3-8B with weights made on the device: replays, whole engine steps, prompts, waits |
| checks | 200 s | tests/kernels/triton/check_*.py, eight at a time; attention again without pipelining if it fails |
| kernels | 160 s | attention, products, sampling, copies, in captured graphs over rotating pools; peers |
| sanitizer | 90 s | compute-sanitizer over small steps of all kernels but cells |

They come in the order of what they are worth, and so do the cases of each, because a card may be lent for minutes:
`--seconds` is what all of them have together, and a stage has what is left of it, if that is less than its limit. A
case has 60 seconds. One that hangs, or of which its process dies, is a line that says so, and the stage goes on behind
it in a new process. FOLDER/lines.jsonl gets a line of JSON a case as soon as it is known, FOLDER/table.txt is written
anew behind each stage, and printed last, also if the script is ended (SIGTERM). Started again, it goes on with the
cases that are missing. What a machine lacks of Stemma's requirements is installed from the wheels of --wheels into
FOLDER, without a network. `--device cpu` runs every stage in Triton's interpreter on tiny shapes, where a time means
nothing: to know that the script works. A case that cannot be run says so in its line.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hour_lines import BROKEN, UNDER_WAY, UNFINISHED, Lines, add_line, read_lines
from hour_table import table_of

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {
    "facts": 30, "identity": 110, "graphs": 60, "steps": 190, "checks": 200, "kernels": 160, "sanitizer": 90,
}  # fmt: skip
"""Seconds on a GPU, what is worth most first."""

SECONDS = 840
"""Of all stages on a GPU: what their limits come to."""

OF_A_CASE = 60
LEAST = 10
"""Seconds that a stage must have to be begun."""

ON_CPU = 4
"""Limits are so many times longer in the interpreter."""

REQUIRED = (
    "numpy", "llvmlite", "tokenizers", "jinja2", "gguf", "msgspec", "pydantic", "platformdirs", "pytest", "hypothesis",
)  # fmt: skip
"""What the stages import beside torch and triton. pytest, hypothesis: of the checks."""


def environment(out: Path, device: str) -> dict[str, str]:
    """Of a stage: this checkout, then what was installed from wheels."""
    paths = (str(ROOT), str(ROOT / "benchmarks"), str(out / "installed"))
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    found.pop("TRITON_INTERPRET", None)
    return found | ({"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"} if device == "cpu" else {})


def install(out: Path, wheels: Path | None) -> None:
    """What is missing, from a folder of wheels. Says what it does."""
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if not missing or (out / "installed").exists():
        return
    if wheels is None:
        print(f"missing: {', '.join(missing)}; give a folder of their wheels with --wheels")
        return
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels)]
    done = subprocess.run([*command, "--target", str(out / "installed"), *missing], capture_output=True, text=True)
    print(f"installed {', '.join(missing)}" if done.returncode == 0 else done.stderr[-2000:])


class Folder(NamedTuple):
    """Where lines and the table are."""

    path: Path

    @property
    def lines_path(self) -> Path:
        return self.path / "lines.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        return read_lines(self.lines_path)

    def add(self, **line: Any) -> None:
        add_line(self.lines_path, line)

    def under_way(self) -> tuple[str, float] | None:
        """The case that is attempted, and for how many seconds."""
        path = self.path / UNDER_WAY
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(), time.time() - path.stat().st_mtime
        return None

    def write_table(self) -> str:
        """Returns it."""
        table = table_of(self.lines(), list(LIMITS))
        (self.path / "table.txt").write_text(table)
        return table


class Ended(NamedTuple):
    """How a process did. status: None where it was ended. why: for that."""

    status: int | None
    output: str
    why: str = ""


def command_of(stage: str, folder: Folder, device: str, seconds: float) -> list[str]:
    """A stage's process."""
    out = str(folder.path)
    return [sys.executable, __file__, "--stage", stage, "--out", out, "--device", device, "--seconds", f"{seconds:.1f}"]


def run_stage(stage: str, folder: Folder, device: str, seconds: float) -> None:
    """Adds the line that says how it ended; its cases have written theirs by then. A case of which its process ended is
    a line too, and is not run again: what comes behind it is, in a new process."""
    slower = ON_CPU if device == "cpu" else 1
    started = time.monotonic()
    limit = min(LIMITS[stage] * slower, seconds)
    while True:
        (folder.path / UNDER_WAY).unlink(missing_ok=True)
        left = limit - (time.monotonic() - started)
        command = command_of(stage, folder, device, left)
        hangs = partial(_hangs, folder, OF_A_CASE * slower)
        ended = run_process(command, environment(folder.path, device), left, hangs)
        case = folder.under_way()
        died = case is not None and (ended.status is not None or ended.why == HANGS)
        if case is not None and died:
            why = f"not done after {case[1]:.0f} s" if ended.why == HANGS else f"its process ended with {ended.status}"
            folder.add(stage=stage, case=case[0], passed=False, note=f"{why}: {ended.output[-800:]}")
        if not (died or ended.status == BROKEN) or limit - (time.monotonic() - started) < LEAST:
            break
    said = {0: "finished", None: "out of time", UNFINISHED: "out of time", BROKEN: "out of time"}
    how = "out of time" if died else said.get(ended.status, "failed")
    tail = ended.output[-3000:] if how == "failed" else ""
    folder.add(stage=stage, ended=how, seconds=round(time.monotonic() - started, 1), tail=tail)


HANGS = "a case hangs"


def _hangs(folder: Folder, seconds: float) -> bool:
    """Whether a case is under way for longer."""
    case = folder.under_way()
    return case is not None and case[1] > seconds


def run_process(
    command: list[str], variables: dict[str, str], limit: float, hangs: Callable[[], bool] = lambda: False
) -> Ended:
    """Its own processes end with it, in time or when it hangs; and when this one is ended."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True,
        env=variables,
    )  # fmt: skip
    ends = time.monotonic() + max(limit, 1)
    why = ""
    try:
        while not why:
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, _ = child.communicate(timeout=max(0.0, min(1.0, ends - time.monotonic())))
                return Ended(child.returncode, output)
            why = "out of time" if time.monotonic() >= ends else HANGS if hangs() else ""
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    output, _ = child.communicate()
    return Ended(None, output, why)


def run_stages(stages: list[str], folder: Folder, device: str, seconds: float) -> None:
    """Those that are not finished, as long as there is time."""
    ends = time.monotonic() + seconds
    for stage in stages:
        if any(line["stage"] == stage and line.get("ended") == "finished" for line in folder.lines()):
            continue
        left = ends - time.monotonic()
        if left < LEAST:
            folder.add(stage=stage, ended="not begun", seconds=0.0, tail="")
        else:
            run_stage(stage, folder, device, left)
        last = folder.lines()[-1]
        print(f"{stage}: {last['ended']} after {last['seconds']} s", flush=True)
        folder.write_table()


def forget(folder: Folder, stages: list[str]) -> None:
    """What these stages wrote."""
    kept = [line for line in folder.lines() if line["stage"] not in stages]
    folder.lines_path.write_text("".join(json.dumps(line) + "\n" for line in kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*LIMITS, []], help="all, if none is named")
    parser.add_argument("--out", type=Path, default=Path("first_hour"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"of all stages together; {SECONDS}, and {ON_CPU} times as many in the interpreter",
    )
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--again", action="store_true", help="also what is finished")
    parser.add_argument("--stage", choices=LIMITS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = Folder(options.out.resolve())
    seconds = options.seconds or SECONDS * (ON_CPU if options.device == "cpu" else 1)
    if options.stage:
        module = importlib.import_module(f"hour_{options.stage}")
        lines = Lines(options.stage, folder.lines_path, seconds, is_timed=options.device == "cuda")
        module.run(lines, options.device)
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    install(folder.path, options.wheels)
    stages = options.stages or list(LIMITS)
    if options.again:
        forget(folder, stages)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    try:
        run_stages(stages, folder, options.device, seconds)
    finally:
        print(f"\n{folder.write_table()}", flush=True)


if __name__ == "__main__":
    main()
