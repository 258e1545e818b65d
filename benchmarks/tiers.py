"""A restart with a disk tier: the first repeated prompt, beside a cold engine, in processes of their own.

    python benchmarks/tiers.py [--tokens 2000] [--times 3] [--model M] [--shared URL [--local-s3]] [--json F]

    cold       an engine without tiers computes the prompt
    fill       an engine with the tier computes it, and what was written is waited for
    restart    a new process finds it in the tier, after one short request of another text

ttft s     submission to first token                      cached     tokens of the prompt that were found
open s     from the options to an engine that answers, less that of the cold one: what the tier adds to a start
busy       submission to first token with the tier over that without it, for prompts that nobody has seen: in one
           process, in turn, medians. What a write behind costs.

Cold and restart are started in turn, `--times` times; medians. With `--shared` (redis://, file:///folder, s3://) the
restart is a second server beside the one that filled the tier, and `busy`, which is of a disk, is left out.
`--local-s3` starts a store for `--shared s3://BUCKET/PREFIX` on this machine (pip install 'moto[s3]' flask flask-cors).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from local_s3 import local_s3

from stemma.runtime.engine import Engine

SEED = 7
NUM_COMPARED = 4


def prompt(length: int, seed: int, vocab_size: int) -> list[int]:
    """Token ids that repeat nothing."""
    return np.random.default_rng(seed).integers(100, min(vocab_size, 30_000), length).tolist()


def options(found: dict[str, Any]) -> dict[str, Any]:
    """Of an engine with the tier."""
    return {name: found[name] for name in ("kv_disk", "kv_shared") if found.get(name)}


def one(model: str | None, length: int, given: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own measures."""
    began = time.perf_counter()
    with Engine(model, kv_tokens=4 * length, **options(given)) as engine:
        opened = time.perf_counter() - began
        engine.generate(prompt(64, SEED + 1, engine.loaded.config.vocab_size), max_tokens=2)
        found = engine.generate(prompt(length, SEED, engine.loaded.config.vocab_size), max_tokens=4)
        tiers = [tier._asdict() for tier in engine.stats().tiers]
    return {
        "ttft": found.timing.ttft, "cached": found.usage.cached_tokens, "open": opened, "tokens": list(found.tokens),
        "tiers": tiers,
    }  # fmt: skip


def busy(model: str | None, length: int, folder: Path) -> dict[str, float]:
    """Seconds of a prompt with and without a tier that it is written to, in turn."""
    with Engine(model, kv_tokens=4 * length) as plain, Engine(model, kv_tokens=4 * length, kv_disk=folder) as tiered:
        vocab_size = plain.loaded.config.vocab_size
        seconds: dict[str, list[float]] = {"plain": [], "tiered": []}
        for number in range(NUM_COMPARED):
            for name, engine in (("plain", plain), ("tiered", tiered)):
                found = engine.generate(prompt(length, 100 + number, vocab_size), max_tokens=1)
                if number:
                    seconds[name].append(found.timing.ttft)
        return {name: statistics.median(values) for name, values in seconds.items()}


def start(work: str, arguments: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    """The same in a new process."""
    command = [
        sys.executable,
        __file__,
        "--work",
        work,
        "--tokens",
        str(arguments.tokens),
        "--given",
        json.dumps(given),
    ]
    command += ["--model", arguments.model] if arguments.model else []
    environment = {**os.environ, **arguments.variables}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(arguments: argparse.Namespace, folder: str) -> dict[str, Any]:
    """All that is told."""
    given = {"kv_shared": arguments.shared} if arguments.shared else {"kv_disk": folder}
    start("one", arguments, given)
    runs: dict[str, list[dict[str, Any]]] = {"cold": [], "restart": []}
    for _ in range(arguments.times):
        runs["cold"].append(start("one", arguments, {}))
        runs["restart"].append(start("one", arguments, given))
    assert len({tuple(run["tokens"]) for found in runs.values() for run in found}) == 1, "the tokens differ"
    rows = {
        name: {what: statistics.median(run[what] for run in found) for what in ("ttft", "cached", "open")}
        for name, found in runs.items()
    }
    tier = runs["restart"][-1]["tiers"][0]
    return {
        "tokens": arguments.tokens, "rows": rows, "ratio": rows["restart"]["ttft"] / rows["cold"]["ttft"],
        "read_bytes_per_second": tier["read_bytes"] / max(tier["read_seconds"], 1e-9), "tier": tier["name"],
    }  # fmt: skip


def row(case: str, metric: str, ours: float, peer: float, peer_name: str) -> dict[str, Any]:
    return {"case": case, "metric": metric, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ours / peer}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--model")
    parser.add_argument("--shared", help="a shared tier in place of the disk")
    parser.add_argument("--local-s3", action="store_true", help="start a store for an s3:// URL on this machine")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", choices=("one", "busy"), help=argparse.SUPPRESS)
    parser.add_argument("--given", type=json.loads, default={}, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work == "one":
        print(json.dumps(one(arguments.model, arguments.tokens, arguments.given)))
        return
    if arguments.work == "busy":
        print(json.dumps(busy(arguments.model, arguments.tokens, Path(arguments.given["kv_disk"]))))
        return
    with ExitStack() as ending:
        bucket = urlsplit(arguments.shared or "").netloc
        arguments.variables = ending.enter_context(local_s3(bucket)) if arguments.local_s3 else {}
        found = compare(arguments, ending.enter_context(tempfile.TemporaryDirectory()))
    seconds: dict[str, float] = {}
    if not arguments.shared:
        with tempfile.TemporaryDirectory() as folder:
            seconds = start("busy", arguments, {"kv_disk": folder})
        found["busy"] = seconds["tiered"] / seconds["plain"]
    print(f"{'':10}{'ttft s':>10}{'cached':>10}{'open s':>10}")
    for name, run in found["rows"].items():
        print(f"{name:10}{run['ttft']:10.3f}{run['cached']:10.0f}{run['open']:10.3f}")
    rate = found["read_bytes_per_second"] / 1e9
    print(f"restart / cold {found['ratio']:.3f}; {found['tier']} reads {rate:.2f} GB/s")
    if seconds:
        print(f"prompts written behind / not {found['busy']:.3f}")
    if arguments.json:
        cold, warm = found["rows"]["cold"], found["rows"]["restart"]
        case = f"second server, {arguments.shared.partition(':')[0]}" if arguments.shared else "restart"
        rows = [
            row(f"{case}, {arguments.tokens} tokens", "ttft_s", warm["ttft"], cold["ttft"], "a cold engine"),
            row(f"{case}, start", "open_s", warm["open"], cold["open"], "a cold engine"),
        ]
        if seconds:
            rows.append(row("prompts written behind", "ttft_s", seconds["tiered"], seconds["plain"], "no tier"))
        arguments.json.write_text(json.dumps({"rows": rows, "found": found}, indent=1))


if __name__ == "__main__":
    main()
