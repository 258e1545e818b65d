"""How long a model takes to be ready, in processes of its own: wall time, CPU time of all threads, peak memory.

    python benchmarks/load.py MODEL.gguf [--worker "NAME=/python/of/its/environment WORKER.py ARGUMENTS"] ...

Stemma's row comes first, the others are workers of `peer_workers/` in environments that have the peer. A worker is
ready when it says so; each is started `--times` times and its fastest start counts, so files are in the page cache and
kernels compiled. CPU time tells where wall time is that of a busy machine.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

WORKERS = Path(__file__).parent / "peer_workers"


class Start(NamedTuple):
    """Seconds, seconds, bytes."""

    wall: float
    cpu: float
    peak: int


def start(command: list[str]) -> Start:
    """One start of a worker, until it is ready; it is then ended."""
    began = time.perf_counter()
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert worker.stdin is not None
    assert worker.stdout is not None
    if b"ready" not in worker.stdout.readline():
        raise SystemExit(f"{shlex.join(command)} ended before it was ready")
    wall = time.perf_counter() - began
    worker.stdin.close()
    worker.stdout.close()
    _, _, used = os.wait4(worker.pid, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return Start(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--worker", action="append", default=[])
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    rows = {"stemma": [sys.executable, str(WORKERS / "stemma_worker.py"), str(options.model), "4096"]}
    for worker in options.worker:
        name, _, command = worker.partition("=")
        rows[name] = shlex.split(command)
    print(f"{options.model.name}, {options.model.stat().st_size / 1e6:,.0f} MB")
    print(f"{'':12}{'wall s':>10}{'CPU s':>10}{'peak MB':>10}")
    for name, command in rows.items():
        starts = [start(command) for _ in range(options.times)]
        best = min(starts)
        print(f"{name:12}{best.wall:10.2f}{min(each.cpu for each in starts):10.2f}{best.peak / 1e6:10.0f}")


if __name__ == "__main__":
    main()
