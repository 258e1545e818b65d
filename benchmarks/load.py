"""How long a model takes to be ready, in a process of its own: wall time, CPU time of all threads, peak memory.

    python benchmarks/load.py [--model FILE.gguf] [--peers llama.cpp,llama-server,openvino] [--times 5] [--json FILE]

A contender of `peers.py` is ready when its worker says so. All are started in turn, `--times` times after a first time
that does not count, so files are in the page cache and kernels compiled; medians. CPU time tells where wall time is
that of a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from peer_contenders import PEERS, STEMMA, Contender, interpreter, weights

from stemma.runtime.model.pull import default_model


class Start(NamedTuple):
    """Seconds, seconds, megabytes."""

    wall: float
    cpu: float
    peak: float


def start(command: list[str]) -> Start:
    """One start of a worker, until it is ready; it is then ended."""
    began = time.perf_counter()
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert worker.stdin is not None
    assert worker.stdout is not None
    if b"ready" not in worker.stdout.readline():
        raise SystemExit(f"{command} ended before it was ready")
    wall = time.perf_counter() - began
    worker.stdin.close()
    worker.stdout.close()
    _, _, used = os.wait4(worker.pid, 0)
    return Start(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3))


def medians(contenders: list[Contender], model: Path, times: int) -> dict[str, Start]:
    """Of each contender's starts."""
    commands = {each.name: [*interpreter(each), str(weights(each, model)), *each.arguments] for each in contenders}
    rounds = [{name: start(command) for name, command in commands.items()} for _ in range(times + 1)][1:]
    return {
        name: Start(*map(statistics.median, zip(*(each[name] for each in rounds), strict=True))) for name in commands
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--peers", default="llama.cpp,llama-server,openvino")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = options.model or default_model()
    names = options.peers.split(",")
    found = medians([STEMMA, *(each for each in PEERS if each.name in names)], model, options.times)
    print(f"{model.name}, {model.stat().st_size / 1e6:,.0f} MB; in brackets stemma's over it")
    print(f"{'':14}{'wall s':>16}{'CPU s':>16}{'peak MB':>16}")
    rows = []
    ours = found["stemma"]
    for name, measured in found.items():
        pairs = list(zip(Start._fields, ours, measured, strict=True))
        print(f"{name:14}" + "".join(f"{f'{peer:.2f} ({own / peer:.2f})':>16}" for _, own, peer in pairs))
        if name != "stemma":
            rows += [
                {
                    "case": model.name,
                    "metric": metric,
                    "ours": own,
                    "peer": peer,
                    "peer_name": name,
                    "ratio": own / peer,
                }
                for metric, own, peer in pairs
            ]
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
