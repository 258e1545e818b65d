"""Stemma beside other runtimes on the same model and machine: seven workloads, interleaved, medians of several rounds.

    python benchmarks/peers.py --json peers.json [--rounds 3] [--only W1,W3] [--peers llama.cpp,openvino] [--limit 60]
                               [--target avx512-vnni|avx2|...]

Each peer is installed from a package index into an environment of its own and runs as a process (`peer_contenders.py`);
one that cannot be had, is wrong, or is slower than --limit seconds in a workload is left out, and the table says so.
--target caps everybody's instruction set (`peer_targets.py`); every row names the one it was measured on.
W6 is run without and with jump-forward; "W1 bf16" compares those with bfloat16 weights. Besides the speed-ups:
`peak_rss_mb` of W1 alone (the peer is llama.cpp plus what importing torch costs).
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from peer_contenders import LLAMA, LLAMA_SERVER, PEERS, STEMMA, STEMMA_BF16, Contender, TooSlow, Worker
from peer_targets import limit_to
from peer_workloads import Wave, Workloads, check

from stemma.runtime.model.pull import default_model

ALL = "W1,W2,W3,W4,W5,W6,W7"
BFLOAT16 = ("BF16", "F16", "folder")
FAILURES = (TooSlow, RuntimeError, ValueError, OSError, subprocess.CalledProcessError)
Results = dict[str, dict[str, list[float]]]  # seconds by case and contender
Rows = list[dict[str, Any]]


class Race:
    """Starts workers when they are first needed, and remembers who is out of what."""

    def __init__(self, contenders: list[Contender], model: Path) -> None:
        self.contenders = contenders
        self.model = model
        self.left_out: dict[str, str] = {}
        self._workers: dict[str, Worker] = {}

    def measure(self, contender: Contender, workload: str, seed: int, limit: float) -> dict[str, float]:
        """Seconds (W1: of a decoded token) by case; nothing of one that is out."""
        label = f"{contender.name} {workload}"
        if {contender.name, label} & set(self.left_out) or workload not in contender.workloads:
            return {}
        try:
            worker = self._worker(contender)
        except FAILURES as error:
            self.left_out[contender.name] = f"does not start: {error}"
            return {}
        try:
            return _cases(contender, workload, lambda waves: _seconds(worker, workload, waves, limit), seed)
        except FAILURES as error:
            self.left_out[label] = str(error)
            worker.close()
            del self._workers[contender.name]
            return {}

    def _worker(self, contender: Contender) -> Worker:
        if contender.name not in self._workers:
            self._workers[contender.name] = Worker(contender, self.model)
        return self._workers[contender.name]

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


def _seconds(worker: Worker, workload: str, waves: list[Wave], limit: float) -> list[float]:
    seconds: list[float] = []
    for wave in waves:
        try:
            answer = worker.run(wave, max(limit - sum(seconds), 1.0))
        except TooSlow:
            raise TooSlow(f"over {limit:.0f} s") from None
        check(workload, wave, answer["outputs"])
        seconds.append(answer["seconds"])
    return seconds


def _cases(contender: Contender, workload: str, seconds: Any, seed: int) -> dict[str, float]:
    waves = getattr(Workloads(seed), workload.lower())()
    if workload == "W6" and contender is STEMMA:
        jumping = [[{**request, "jump": True} for request in wave] for wave in Workloads(seed + 500).w6()]
        return {"W6": sum(seconds(waves)), "W6 jump": sum(seconds(jumping))}
    measured = seconds(waves)
    if workload == "W1":
        token = (measured[1] - measured[0]) / 127
        cases = {} if contender is STEMMA_BF16 else {"W1": token}
        return cases | ({"W1 bf16": token} if contender.weights in BFLOAT16 else {})
    if workload == "W6":
        return {"W6": measured[0], "W6 jump": measured[0]}
    if workload == "W7":
        return {"W7 cold": measured[0], "W7 hit": measured[1]}
    return {workload: sum(measured)}


def table(results: Results) -> Rows:
    """Print medians and, for a look at the noise, the best; the row of a case compares medians with its best peer."""
    rows = []
    for case, by_name in results.items():
        medians = {name: statistics.median(values) for name, values in by_name.items()}
        best = {name: min(values) for name, values in by_name.items()}
        shown = (f"{name} {value:.4f} s (best {best[name]:.4f})" for name, value in medians.items())
        print(f"\n{case}: " + ", ".join(shown), end="")
        ours = medians.pop("stemma-bf16" if case == "W1 bf16" else "stemma", None)
        if ours is None or not medians:
            continue
        peer = min(medians, key=medians.__getitem__)
        ratio = medians[peer] / ours
        print(f"  -> {ratio:.2f}x {peer}", end="")
        rows.append(
            {"case": case, "metric": "speedup", "ours": 1 / ours, "peer": 1 / medians[peer], "peer_name": peer,
             "ratio": ratio, "seconds": by_name}
        )  # fmt: skip
    print()
    return rows


def memory(model: Path, limit: float) -> Rows:
    """Peak memory of W1 alone; llama.cpp with one slot, the leaner of its two builds, plus an import of torch."""
    peaks: dict[str, float] = {}
    for contender in (STEMMA, LLAMA, LLAMA_SERVER):
        alone = Contender(
            contender.name, contender.script, contender.environment, contender.packages,
            arguments=("1", *contender.arguments[1:]) if contender.arguments else ("4096",),
        )  # fmt: skip
        try:
            worker = Worker(alone, model)
            for wave in Workloads(1).w1():
                worker.run(wave, limit)
        except FAILURES as error:
            print(f"memory of {contender.name}: {error}")
            continue
        peaks[contender.name] = worker.peak_megabytes()
        worker.close()
    look = "import torch, re; print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    torch = int(subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout) / 1024
    ours = peaks.pop("stemma", None)
    print(f"peak memory of W1 in MB: stemma {ours}, {peaks}; a process that imports torch {torch:.0f}")
    if ours is None or not peaks:
        return []
    name = min(peaks, key=peaks.__getitem__)
    peer = peaks[name] + torch
    return [
        {"case": "W1", "metric": "peak_rss_mb", "ours": ours, "peer": peer, "peer_name": f"{name} + import torch",
         "ratio": ours / peer}
    ]  # fmt: skip


def run(race: Race, workloads: list[str], rounds: int, limit: float) -> Results:
    """All contenders in turn, each round beginning with another one."""
    results: Results = {}
    for round_ in range(rounds + 1):  # the first one warms up: two workloads, which may take longer
        for workload in workloads if round_ else workloads[:2]:
            shift = round_ % len(race.contenders)
            for contender in race.contenders[shift:] + race.contenders[:shift]:
                seed = 1000 * round_ + int(workload[1])
                for case, value in race.measure(contender, workload, seed, limit if round_ else 3 * limit).items():
                    print(f"round {round_} {case} {contender.name} {value:.4f} s", flush=True)
                    if round_:
                        results.setdefault(case, {}).setdefault(contender.name, []).append(value)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=ALL)
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS))
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a workload after which a peer is out")
    parser.add_argument("--target", help="the instruction set that all are held to")
    options = parser.parse_args()
    target = limit_to(options.target)
    print(f"target {target}{', all held to it' if options.target else ''}")
    model = default_model()
    chosen = [peer for peer in PEERS if peer.name in options.peers.split(",")]
    race = Race([STEMMA, STEMMA_BF16, *chosen], model)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    try:
        results = run(race, options.only.split(","), options.rounds, options.limit)
    finally:
        race.close()  # stopped processes would stay for ever
    rows = table(results) + (memory(model, options.limit) if "W1" in options.only else [])
    for name, reason in race.left_out.items():
        print(f"left out: {name}: {reason}")
    if options.json:
        held = {"target": target, "capped": bool(options.target)}
        named = {"rows": [row | held for row in rows], "left_out": race.left_out}
        options.json.write_text(json.dumps(named, indent=1))


if __name__ == "__main__":
    main()
