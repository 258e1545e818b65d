"""Fleets of replicas, simulated: what routers that know the caches are worth beside others, and what they cost.

    python benchmarks/fleet.py [--json FILE] [--replicas 2 8 64 512] [--routers 1 8] [--policies ours tree ...]
        [--requests N] [--rate R] [--seed S] [--trace FILE.jsonl [--speed X]] [--coarser N] [--workers N] [--micro]

Every replica is a real PrefixCache under a clock; `ours` is the real index and choice of stemma.scale.fleet. Without
--trace the traffic is made up from the seed (stemma.scale.simulation.synthetic); traces of Mooncake's and Bailian's
forms are files that you download. `failing`: at 64 replicas, one of sixteen dies each tenth of the time, for 30 s.
--micro also measures the choice alone, CPU microseconds of one thread, and the index's bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stemma.radix import BlocksRemoved, BlocksStored
from stemma.scale.fleet import Chooser, Index, Load, hashes_of
from stemma.scale.simulation.machine import SMALL_ON_CPU
from stemma.scale.simulation.policies import ApproximateTree, Ours, Policy, PowerOfTwo, RoundRobin, Thresholds
from stemma.scale.simulation.synthetic import synthetic
from stemma.scale.simulation.trace import Trace, make_trace, read_records
from stemma.scale.simulation.world import Failure, Setting, World

POLICIES = ("round robin", "power of two", "tree", "tree, tight", "ours")
KNOWING = ("tree", "tree, tight", "ours")
"""Those that remember something of caches, for which it matters how many routers there are and who fails."""
FAILING_FROM = 64


class Traffic(NamedTuple):
    """What the requests are: made up for a number of replicas, or a file."""

    num_requests: int
    rate: float
    seed: int
    path: Path | None
    speed: float
    coarser: int


class Case(NamedTuple):
    num_replicas: int
    num_routers: int
    policy: str
    failing: bool
    traffic: Traffic


@lru_cache(maxsize=1)
def trace_of(traffic: Traffic) -> Trace:
    if traffic.path is not None:
        records, block_len = read_records(traffic.path)
        records = records[: traffic.num_requests]
        coarser = traffic.coarser if block_len == 16 else 1
        return make_trace(traffic.path.stem, records, block_len, coarser=coarser, speed=traffic.speed)
    records = synthetic(traffic.seed, traffic.num_requests, traffic.rate)
    return make_trace("synthetic", records, 16, coarser=traffic.coarser)


def policy_of(name: str, block_len: int, num_routers: int, index: Index | None) -> Callable[[int], Policy]:
    if index is not None:
        return lambda number: Ours(number, index, block_len, num_routers)
    if name.startswith("tree"):
        thresholds = Thresholds(absolute=8 if name.endswith("tight") else 64)
        return lambda number: ApproximateTree(number, block_len, thresholds)
    return RoundRobin if name == "round robin" else PowerOfTwo


def run(case: Case) -> dict[str, Any]:
    """One row."""
    trace = trace_of(case.traffic)
    end = trace.requests[-1].at
    failures = [
        Failure(end * (1 + tenth) / 11, (16 * number + tenth) % case.num_replicas, 30.0)
        for tenth in range(10)
        for number in range(case.num_replicas // 16)
    ]
    setting = Setting(case.num_replicas, case.num_routers, SMALL_ON_CPU, failures=failures if case.failing else ())
    index = Index() if case.policy == "ours" else None
    started = time.perf_counter()
    outcome = World(setting, trace, policy_of(case.policy, trace.block_len, case.num_routers, index), index).run()
    row = {
        "trace": trace.name, "replicas": case.num_replicas, "routers": case.num_routers, "policy": case.policy,
        "failing": case.failing, "requests": len(trace.requests), "endless_hit": round(trace.endless_hit, 4),
        "hit": round(outcome.hit, 4), "of_endless": round(outcome.hit / trace.endless_hit, 4),
        "ttft_p50": round(float(np.percentile(outcome.ttft, 50)), 3),
        "ttft_p99": round(float(np.percentile(outcome.ttft, 99)), 2),
        "balance": round(outcome.balance, 2), "busy": round(outcome.utilisation, 3), "retried": outcome.retried,
        "seconds": round(outcome.seconds), "took": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    if index is not None:
        row["event_bytes_a_second"] = round(outcome.event_bytes / outcome.seconds)
        row["index_blocks"] = index.num_blocks
        row["index_bytes"] = index.num_bytes
    return row


def micro() -> list[dict[str, Any]]:
    """The choice alone, for prompts of 2,000 tokens; and the bytes of an index of a million blocks."""
    rows = [row for num_replicas in (64, 512) for row in choices(num_replicas)]
    index, chains = Index(), [chain(number) for number in range(10_000)]
    started = time.thread_time()
    for number, blocks in enumerate(chains):
        index.apply(f"replica {number % 64}", BlocksStored(b"", blocks, [], 16, ""))
    stored = time.thread_time() - started
    sizes = {"blocks": index.num_blocks, "bytes": index.num_bytes}
    started = time.thread_time()
    for number, blocks in enumerate(chains[:5000]):
        index.apply(f"replica {number % 64}", BlocksRemoved(blocks))
    removed = time.thread_time() - started
    rows.append({"measure": "index", **sizes, "store_us": round(stored, 2), "remove_us": round(2 * removed, 2)})
    return rows


def choices(num_replicas: int) -> list[dict[str, Any]]:
    """CPU microseconds of a choice and its parts; all prompts begin alike, and most of each is held somewhere."""
    index, names = Index(), [f"replica {number}" for number in range(num_replicas)]
    prompts = [[*range(512), *range(1000 * number, 1000 * number + 1488)] for number in range(1, 400)]
    hashes = [hashes_of(prompt, "", 16) for prompt in prompts]
    for number, blocks in enumerate(hashes):
        index.apply(names[number * 9 % num_replicas], BlocksStored(b"", blocks[:110], [], 16, ""))
    loads = {name: Load(100 * (number % 64), number % 8, 0.3, 64) for number, name in enumerate(names)}
    chooser = Chooser(index, 16)
    chooser.learn(names[0], 1000, 0.5)

    def choose(at: int) -> None:
        chooser.began(chooser.choose(hashes[at], 2000, loads, now=0.0))

    parts = {
        "hashes of 2,000 tokens": lambda at: hashes_of(prompts[at], "", 16),
        "match": lambda at: index.match(hashes[at]),
        "choice, match included": choose,
    }
    return [{"measure": name, "replicas": num_replicas, "us": cpu(part)} for name, part in parts.items()]


def chain(number: int) -> list[bytes]:
    """Hashes of 100 blocks, of no text."""
    return [hashes_of([100 * number + place], "", 1)[0] for place in range(100)]


def cpu(action: Callable[[int], object]) -> float:
    """CPU microseconds of one call, the median of several rounds."""
    taken = []
    for _ in range(5):
        started = time.thread_time()
        for at in range(399):
            action(at)
        taken.append((time.thread_time() - started) / 399 * 1e6)
    return round(statistics.median(taken), 1)


def cases(options: argparse.Namespace) -> list[Case]:
    found = []
    for replicas in options.replicas:
        # Each replica has the same traffic; the largest fleets have it for a shorter time.
        count = options.requests or max(400, min(200 * replicas, 20_000))
        traffic = Traffic(count, options.rate * replicas, options.seed, options.trace, options.speed, options.coarser)
        for policy in options.policies:
            knows = policy in KNOWING
            for routers in options.routers if knows else options.routers[:1]:
                found.append(Case(replicas, routers, policy, False, traffic))
            if knows and replicas == FAILING_FROM:
                found.append(Case(replicas, options.routers[0], policy, True, traffic))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--replicas", type=int, nargs="+", default=[2, 8, 64, 512])
    parser.add_argument("--routers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=POLICIES)
    parser.add_argument("--requests", type=int, help="of the trace; default: 200 a replica, at most 20,000")
    parser.add_argument("--rate", type=float, default=0.15, help="made-up requests a second and replica")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster a trace's requests come")
    parser.add_argument("--coarser", type=int, default=4, help="blocks of 16 tokens that are simulated as one")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--micro", action="store_true")
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.workers) as pool:
        for row in pool.map(run, cases(options)):
            rows.append(row)
            print(json.dumps(row), flush=True)
    for row in micro() if options.micro else ():
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
