"""The first hour on a GPU: is it right, is it sound, how fast is it. Stages, each in a process with a limit of its own.

    python benchmarks/first_hour.py [STAGE...] [--out FOLDER] [--device cuda] [--wheels FOLDER] [--again]

| stage | limit | what |
|---|---|---|
| facts | 30 s | versions, memory, copies, matrix products |
| checks | 200 s | tests/kernels/triton/check_*.py, eight at a time; attention again without pipelining if it fails |
| sanitizer | 90 s | compute-sanitizer over small steps of all kernels but cells |
| graphs | 60 s | replays beside launches one by one, many sizes, two engines of which one goes, memory |
| identity | 90 s | chosen tokens, judged by a CPU's log-probabilities in float32 |
| kernels | 180 s | attention, products, sampling, copies, in captured graphs over rotating pools; peers |
| steps | 180 s | Llama-3-8B with weights made on the device: replays, whole engine steps, prompts, waits |

FOLDER/lines.jsonl gets a line of JSON a case, as soon as it is known; a table comes last. Started again, it goes on
with the cases that are missing. What a machine lacks of Stemma's requirements is installed from the wheels of --wheels
into FOLDER, without a network. `--device cpu` runs every stage in Triton's interpreter on tiny shapes, where a time
means nothing: to know that the script works. A case that cannot be run says so in its line.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hour_lines import BROKEN, Lines, read_lines

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {
    "facts": 30, "checks": 200, "sanitizer": 90, "graphs": 60, "identity": 90, "kernels": 180, "steps": 180,
}  # fmt: skip
"""Seconds on a GPU."""

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


def run_stage(stage: str, out: Path, device: str) -> dict[str, Any]:
    """How a stage ended; its cases have written their lines by then."""
    command = [sys.executable, __file__, "--stage", stage, "--out", str(out), "--device", device]
    limit = LIMITS[stage] * (ON_CPU if device == "cpu" else 1)
    started = time.perf_counter()
    status, output = BROKEN, ""
    while status == BROKEN:
        left = limit - (time.perf_counter() - started)
        status, output = run_process(command, environment(out, device), left)
    ended = "finished" if status == 0 else "out of time" if status is None else "failed"
    seconds = round(time.perf_counter() - started, 1)
    return {"stage": stage, "ended": ended, "seconds": seconds, "tail": "" if status == 0 else output[-3000:]}


def run_process(command: list[str], variables: dict[str, str], limit: float) -> tuple[int | None, str]:
    """Exit status, None if it was not done in time, and what it said. Its own processes end with it."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True,
        env=variables,
    )  # fmt: skip
    try:
        output, _ = child.communicate(timeout=max(limit, 1))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        return None, output
    return child.returncode, output


def print_table(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        stage = line["stage"]
        if "ended" in line:
            print(f"{stage:10} {line['ended']} after {line['seconds']} s {line['tail'][-600:]}")
        elif "skipped" in line:
            print(f"{stage:10} {line['case']:52} not run: {line['skipped']}")
        elif "passed" in line:
            print(f"{stage:10} {line['case']:52} {'passed' if line['passed'] else 'FAILED'} {line.get('note', '')}")
        else:
            peer = f"{line['peer']:12,.1f} {line['peer_name']}" if line["peer"] is not None else ""
            print(f"{stage:10} {line['case']:52} {line['metric']:14}{line['ours']:14,.2f}{peer}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*LIMITS, []], help="all, if none is named")
    parser.add_argument("--out", type=Path, default=Path("first_hour"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--again", action="store_true", help="also what is finished")
    parser.add_argument("--stage", choices=LIMITS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    out = options.out.resolve()
    if options.stage:
        module = importlib.import_module(f"hour_{options.stage}")
        module.run(Lines(options.stage, out / "lines.jsonl"), options.device)
        return
    out.mkdir(parents=True, exist_ok=True)
    path = out / "lines.jsonl"
    install(out, options.wheels)
    stages = options.stages or list(LIMITS)
    if options.again and path.exists():
        kept = [line for line in read_lines(path) if line["stage"] not in stages]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    for stage in stages:
        if any(line["stage"] == stage and line.get("ended") == "finished" for line in read_lines(path)):
            continue
        ended = run_stage(stage, out, options.device)
        with path.open("a") as file:
            file.write(json.dumps(ended) + "\n")
        print(f"{stage}: {ended['ended']} after {ended['seconds']} s", flush=True)
    print_table(read_lines(path))


if __name__ == "__main__":
    main()
