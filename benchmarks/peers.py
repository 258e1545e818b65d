"""Stemma beside other runtimes on the same model and machine: seven workloads, interleaved, medians of several rounds.

    python benchmarks/peers.py --json peers.json [--rounds 3] [--only W1,W3] [--peers llama.cpp,openvino]

Each peer is installed from the package index into an environment of its own under ~/.cache/stemma-bench and runs as a
process; one that cannot be installed or started is left out, and the table says so. Prompts are token ids, new ones in
each round (caches are cold), outputs greedy and of equal length, but for W6, which is 16 JSON records from text.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stemma.runtime.model.pull import default_model

HERE = Path(__file__).parent
ENVIRONMENTS = Path.home() / ".cache" / "stemma-bench"
Wave = list[dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    name: str
    script: str
    requirement: str | None  # None: this environment
    arguments: tuple[str, ...] = ()


STEMMA = Contender("stemma", "stemma_worker.py", None)
PEERS = [
    Contender("llama.cpp", "llama_cpp_worker.py", "xllamacpp"),
    Contender("openvino-bf16", "openvino_worker.py", "openvino-genai", ("bf16",)),
    Contender("openvino-f32", "openvino_worker.py", "openvino-genai", ("f32",)),
]

RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"type": "string", "maxLength": 30},
        "role": {"enum": ["engineer", "teacher", "doctor", "artist", "farmer"]},
        "languages": {"type": "array", "items": {"type": "string", "maxLength": 15}, "minItems": 1, "maxItems": 3},
        "remote": {"type": "boolean"},
    },
    "required": ["name", "age", "city", "role", "languages", "remote"],
    "additionalProperties": False,
}


class Workloads:
    """The waves of each workload. `label` keeps the ids of rounds apart."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.label = str(seed)

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(1000, 40_000) for _ in range(count)]

    def request(self, name: str, append: list[int], new: int, parent: str | None = None) -> dict[str, Any]:
        parent = None if parent is None else f"{self.label}/{parent}"
        return {"id": f"{self.label}/{name}", "parent": parent, "append": append, "max": new}

    def w1(self) -> list[Wave]:
        return [[self.request("first", self.ids(128), 1)], [self.request("all", self.ids(128), 128)]]

    def w2(self) -> list[Wave]:
        return [[self.request(f"{i}", self.ids(128), 64) for i in range(16)]]

    def w3(self) -> list[Wave]:
        prefix = self.ids(1500)
        return [[self.request(f"{i}", prefix + self.ids(self.random.randrange(35, 45)), 16) for i in range(32)]]

    def w4(self) -> list[Wave]:
        system = self.ids(400)
        first = [self.request(f"{chat}.0", system + self.ids(30), 32) for chat in range(4)]
        later = [
            [self.request(f"{chat}.{turn}", self.ids(30), 32, f"{chat}.{turn - 1}") for chat in range(4)]
            for turn in range(1, 5)
        ]
        return [first, *later]

    def w5(self) -> list[Wave]:
        context = self.ids(1000)
        waves = [[self.request(f"{i}", context + self.ids(8), 32) for i in range(3)]]
        names = ["0", "1", "2"]
        for _ in range(2):
            waves.append([self.request(f"{name}{i}", self.ids(8), 32, name) for name in names for i in range(3)])
            names = [f"{name}{i}" for name in names for i in range(3)]
        return waves

    def w6(self) -> list[Wave]:
        rule = "You keep the register of a village. " + "Write each record as JSON with all fields. " * 28
        people = [f"{rule}\nRound {self.label}, person {i}: write the record.\n" for i in range(16)]
        return [
            [{"id": f"{self.label}/{i}", "text": text, "schema": RECORD, "max": 160} for i, text in enumerate(people)]
        ]

    def w7(self) -> list[Wave]:
        prompt = self.ids(2000)
        return [[self.request("cold", prompt, 1)], [self.request("hit", prompt, 1)]]


class Worker:
    """A contender's process."""

    def __init__(self, contender: Contender, model: Path) -> None:
        self.name = contender.name
        python = environment(contender)
        log = (ENVIRONMENTS / f"{contender.name}.log").open("w")
        command = [str(python), str(HERE / "peer_workers" / contender.script), str(model), *contender.arguments]
        variables = {**os.environ, "OMP_NUM_THREADS": "2"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=variables
        )
        self._answer()

    def run(self, wave: Wave) -> dict[str, Any]:
        stream: IO[str] = self.process.stdin  # type: ignore[assignment]
        print(json.dumps(wave), file=stream, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"{self.name} ended; see {ENVIRONMENTS / self.name}.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def peak_megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.terminate()
        self.process.wait()


def environment(contender: Contender) -> Path:
    """The interpreter of a contender, installed if need be. Raises subprocess.CalledProcessError."""
    if contender.requirement is None:
        return Path(sys.executable)
    folder = ENVIRONMENTS / contender.requirement
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", contender.requirement], check=True)
        (folder / "installed").touch()
    return python


def measure(worker: Worker, name: str, seed: int) -> dict[str, float]:
    """Seconds (W1: of a decoded token) of one workload, by case."""
    waves = getattr(Workloads(seed), name.lower())()
    answers = [worker.run(wave) for wave in waves]
    for wave, answer in zip(waves, answers, strict=True):
        for request in wave:
            check(name, request, answer["outputs"][request["id"]])
    seconds = [answer["seconds"] for answer in answers]
    if name == "W1":
        return {"W1": (seconds[1] - seconds[0]) / 127}
    if name == "W7":
        return {"W7 cold": seconds[0], "W7 hit": seconds[1]}
    return {name: sum(seconds)}


def check(workload: str, request: dict[str, Any], output: Any) -> None:
    if "schema" in request:
        record = json.loads(output)
        assert set(record) == set(RECORD["required"]), record  # type: ignore[call-overload]
    else:
        assert len(output) == request["max"], f"{workload}: {len(output)} tokens instead of {request['max']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="W1,W2,W3,W4,W5,W6,W7")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS))
    options = parser.parse_args()
    model = default_model()
    workers, missing = start([STEMMA, *(peer for peer in PEERS if peer.name in options.peers.split(","))], model)
    results: dict[str, dict[str, list[float]]] = {}
    for round_ in range(options.rounds + 1):  # the first one warms up
        for workload in options.only.split(","):
            for worker in workers[round_ % len(workers) :] + workers[: round_ % len(workers)]:
                try:
                    seconds = measure(worker, workload, 1000 * round_ + int(workload[1]))
                except (AssertionError, ValueError, RuntimeError) as error:
                    missing[f"{worker.name} {workload}"] = str(error)
                    continue
                for case, value in seconds.items():
                    if round_:
                        results.setdefault(case, {}).setdefault(worker.name, []).append(value)
    rows = table(results)
    for worker in workers:
        print(f"{worker.name}: peak memory {worker.peak_megabytes():,.0f} MB")
        worker.close()
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "left_out": missing}, indent=1))


def start(contenders: list[Contender], model: Path) -> tuple[list[Worker], dict[str, str]]:
    workers, missing = [], {}
    for contender in contenders:
        try:
            workers.append(Worker(contender, model))
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            missing[contender.name] = str(error)
    return workers, missing


def table(results: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Print medians; the row of each case compares with its best peer, as a speed-up."""
    rows = []
    for case, by_name in results.items():
        medians = {name: statistics.median(values) for name, values in by_name.items()}
        print(case.ljust(8), "  ".join(f"{name} {value:.4f} s" for name, value in medians.items()), end="")
        ours = medians.pop("stemma", None)
        if ours is None or not medians:
            print()
            continue
        peer = min(medians, key=medians.__getitem__)
        ratio = medians[peer] / ours
        print(f"  -> {ratio:.2f}x {peer}")
        rows.append(
            {"case": case, "metric": "speedup", "ours": 1 / ours, "peer": 1 / medians[peer], "peer_name": peer,
             "ratio": ratio}
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
