"""What a step asks of a GPU, counted without one: launches, waits of the host, uploads, fetches, recorded graphs.

    python benchmarks/gpu_steps.py [--before REVISION] [--json FILE] [--table] [--only TEXT]

The whole engine runs Llama-3-8B on the GPU of gpu_pretended.py: scheduler, plans, graphs, sampler and commit are the
real ones, kernels compute nothing, every sampled token is the same. `decode N ...` are medians over steps in which N
sequences of some 1,000 tokens decode; the others are whole requests of one new token, from submission to completion.
With `--before` an earlier build of this repository is counted in a process of its own, as the peer.

`host_us` is CPU time of the step's thread without what counting took: only ratios mean anything, since what a real
launch costs the host is not in it. Launches of torch's operations are counted as the fewest that each can be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fsm_before import ROOT, folder_of
from gpu_pretended import PretendedGPU

CONTEXT = 1000
NEW_TOKENS = 80
MEASURED = slice(45, 70)
"""Of the steps: behind all prompts, before the first output ends."""
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "top-k, top-p": {"temperature": 0.8, "top_k": 50, "top_p": 0.9},
    "guided": {"temperature": 0.8},
    "penalties": {"temperature": 0.8, "repetition_penalty": 1.1, "presence_penalty": 0.5},
    "logprobs": {"temperature": 0.8, "logprobs": 5},
}
RUNNING = (1, 16, 64, 256)
METRICS = (
    "launches", "in_graphs", "replays", "recordings", "waits", "uploads", "upload_bytes", "downloads",
    "download_bytes", "host_us",
)  # fmt: skip
COLUMNS = {
    "launches": "launches", "in_graphs": "in the graph", "recordings": "recorded", "waits": "waits",
    "uploads": "uploads", "upload_bytes": "bytes sent", "downloads": "fetches",
}  # fmt: skip
"""Of the table: metrics, and what they are called there."""


class Counts(NamedTuple):
    """Of one case. kernels: launches outside graphs, by name. waited: by what for."""

    numbers: dict[str, float]
    kernels: dict[str, int]
    waited: dict[str, int]


class Counted:
    """An engine on a pretended GPU, and what each of its steps asked of it."""

    def __init__(self, gpu: PretendedGPU, max_running: int) -> None:
        import torch
        from gpu_loops import loops_on
        from gpu_model import LLAMA_8B, ShapedOps, shaped_model
        from gpu_pretended import DEVICE

        from stemma.kernels.triton.targets import SM_90
        from stemma.runtime.engine import Engine

        with loops_on(gpu), gpu.here():
            loaded = shaped_model(LLAMA_8B, ShapedOps(DEVICE, torch.bfloat16, "activation", SM_90, gpu.launch))
            self.engine = Engine.of(
                loaded, kv_tokens=1 << 19, max_running=max_running, max_batch_tokens=8192, max_chunk=8192,
                drafts_from=("none",),
            )  # fmt: skip
        self.steps: list[dict[str, Any]] = []
        loop = self.engine._loop
        step = loop.step

        def counted() -> None:
            before, started = gpu.tally.copy(), time.thread_time()
            step()
            passed = time.thread_time() - started
            tally = gpu.tally.since(before)
            if tally.launches or tally.replays or tally.downloads or tally.waits:
                self.steps.append(numbers_of(tally, passed))

        loop.step = counted  # type: ignore[method-assign]

    def decode(self, count: int, options: dict[str, Any]) -> Counts:
        """Medians of its steps; recordings are those of all of them."""
        self.steps.clear()
        numbers = random.Random(count)
        prompts = [[numbers.randrange(250) for _ in range(CONTEXT)] for _ in range(count)]
        generations = self.engine.submit_all(prompts, max_tokens=NEW_TOKENS, ignore_eos=True, **options)
        for generation in generations:
            generation.result()
        steps = self.steps[MEASURED]
        medians = {name: statistics.median(step[name] for step in steps) for name in METRICS}
        medians["recordings"] = sum(step["recordings"] for step in self.steps)
        return Counts(medians, steps[-1]["kernels"], steps[-1]["waited"])

    def request(self, prompt: list[int]) -> Counts:
        """All that one new token takes."""
        self.engine.stats()  # whatever came before is over
        self.steps.clear()
        self.engine.generate(prompt, max_tokens=1, temperature=0.0)
        self.engine.stats()
        sums = {name: sum(step[name] for step in self.steps) for name in METRICS}
        parts = [(step["kernels"], step["waited"]) for step in self.steps]
        return Counts(sums, *({name: sum(part[i].get(name, 0) for part in parts) for part in parts for name in part[i]}
                              for i in (0, 1)))  # fmt: skip


def numbers_of(tally: Any, seconds: float) -> dict[str, Any]:
    return {
        "launches": sum(tally.launches.values()),
        "in_graphs": sum(tally.replayed.values()),
        "replays": tally.replays,
        "recordings": tally.recordings,
        "waits": sum(tally.waits.values()),
        "uploads": tally.uploads,
        "upload_bytes": tally.uploaded_bytes,
        "downloads": tally.downloads,
        "download_bytes": tally.downloaded_bytes,
        "host_us": 1e6 * (seconds - tally.counting),
        "kernels": dict(tally.launches),
        "waited": dict(tally.waits),
    }


def cases(gpu: PretendedGPU, only: str) -> Iterator[tuple[str, Counts]]:
    """Every case, whose name contains the text."""
    from stemma.fsm.regex import Regex

    counted = Counted(gpu, max(RUNNING))
    for count in RUNNING:
        for name, options in ASKED.items():
            case = f"decode {count}, {name}"
            if only in case:
                grammar = {"grammar": Regex("[A-Z]{1,400}")} if name == "guided" else {}
                yield case, counted.decode(count, options | grammar)
    numbers = random.Random(0)
    shared = [numbers.randrange(250) for _ in range(CONTEXT)]
    for case, first, more in (("a chunk of 512", [], 512), ("40 behind 1,000 cached", shared, 40)):
        if only in case:
            for _ in range(2):  # what is recorded or compiled once is not counted
                counts = counted.request([*first, *(numbers.randrange(250) for _ in range(more))])
            yield case, counts
    counted.engine.close()


def count(only: str) -> None:
    """One line of JSON a case."""
    gpu, out = PretendedGPU(), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with gpu.instead_of_cuda():
        for case, counts in cases(gpu, only):
            print(json.dumps([case, counts._asdict()]), file=out, flush=True)


def counted_by(folder: Path, only: str) -> dict[str, dict[str, Any]]:
    """What the build of a folder asks for, by case."""
    done = subprocess.run(
        (sys.executable, __file__, "--count", "--only", only), stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder,
    )  # fmt: skip
    return dict(json.loads(line) for line in done.stdout.splitlines())


def rows_of(ours: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    rows = []
    for case, counts in ours.items():
        for metric, value in counts["numbers"].items():
            peer = before[case]["numbers"][metric]
            ratio = value / peer if peer else None
            rows.append(
                {"case": case, "metric": metric, "ours": value, "peer": peer, "peer_name": name, "ratio": ratio}
            )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Markdown: before -> now."""
    print("| a step of | " + " | ".join(COLUMNS.values()) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for case in dict.fromkeys(row["case"] for row in rows):
        found = {row["metric"]: row for row in rows if row["case"] == case}
        cells = (f"{found[name]['peer']:,.0f} → {found[name]['ours']:,.0f}" for name in COLUMNS)
        print(f"| {case} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a revision of this repository")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", action="store_true", help="Markdown, as in docs/kernels-gpu.md")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        count(options.only)
        return
    ours = counted_by(ROOT, options.only)
    before = counted_by(folder_of(options.before), options.only) if options.before else ours
    rows = rows_of(ours, before, options.before or "this build")
    if options.table:
        print_table(rows)
    else:
        for row in rows:
            print(f"{row['case']:28}{row['metric']:16}{row['ours']:12,.1f}{row['peer']:12,.1f}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "ours": ours, "before": before}, indent=1))


if __name__ == "__main__":
    main()
