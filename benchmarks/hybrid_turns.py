"""Turns, users and branches end to end beside llama.cpp: `hybrid.py --part turns` (its docstring tells the options).

Workloads, of token ids that no round has in common with another, all greedy and of fixed length:

    prefill   a first turn of 2,000 tokens, nothing cached: tokens a second until the first token
    decode    its 64 tokens behind the first
    chat      the second turn: 32 more tokens, 64 new
    users     16 at once behind one system prompt of 1,000 tokens, 40 of their own, 32 new: `cold`, where nobody came
              before; then 16 others at once, who find the system prompt
    tree      a context of 1,000 tokens, 3 branches of it at once, then 3 of each: 8 tokens more, 32 new
    unshared  8 prompts of 500 tokens with nothing in common, 32 new: ours with the cache on beside ours with it off

A row compares medians over rounds: `ours` and `peer` in the metric's unit, ratio = ours / peer, `goal` what it is to
reach. Of a wave with many requests TTFT is the median request's. Contenders run in turn, two threads each, the others
stopped; the peer of a row is the best build of llama.cpp in that row.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid_models import SHAPES, write
from hybrid_peers import PEERS, STEMMA, STEMMA_COLD
from peer_contenders import Contender, TooSlow, Worker

LIMIT = 900.0
PREFIX, TURN, NEW = 2000, 32, 64
SYSTEM, OWN, ANSWER, USERS = 1000, 40, 32, 16
BRANCH = 8
CACHED_SHARE = 1 / 30
"""The most that a cached turn's TTFT may be of the cold one's."""
Rows = list[dict[str, Any]]
Wave = list[dict[str, Any]]
CACHED = "cached turn", "share of cold TTFT"
Values = dict[tuple[str, str], float]  # by workload and metric


class Asker:
    """Makes one round's requests and runs them on a worker."""

    def __init__(self, worker: Worker, label: str) -> None:
        self.worker = worker
        self.random = random.Random(label)
        self.label = label

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(1000, 40_000) for _ in range(count)]

    def request(self, name: str, append: list[int], new: int, parent: str | None = None) -> dict[str, Any]:
        parent = None if parent is None else f"{self.label}/{parent}"
        return {"id": f"{self.label}/{name}", "parent": parent, "append": append, "max": new}

    def run(self, wave: Wave) -> tuple[float, float]:
        """Seconds until the median request's first token, and until all have ended."""
        answer = self.worker.run(wave, LIMIT)
        for request in wave:
            count = len(answer["outputs"][request["id"]])
            assert count == request["max"], f"{self.worker.name}: {count} tokens instead of {request['max']}"
        return statistics.median(answer["first"].values()), answer["seconds"]


def chat(ask: Asker) -> Values:
    first, whole = ask.run([ask.request("turn1", ask.ids(PREFIX), NEW)])
    second, all_of_it = ask.run([ask.request("turn2", ask.ids(TURN), NEW, "turn1")])
    return {
        ("prefill", "tokens/s"): PREFIX / first, ("decode", "tokens/s"): (NEW - 1) / (whole - first),
        ("chat", "TTFT, s"): second, ("chat", "whole, s"): all_of_it, CACHED: second / first,
    }  # fmt: skip


def users(ask: Asker) -> Values:
    system = ask.ids(SYSTEM)
    found: Values = {}
    for name in ("users cold", "users"):
        wave = [ask.request(f"{name}{user}", system + ask.ids(OWN), ANSWER) for user in range(USERS)]
        found[name, "TTFT, s"], found[name, "whole, s"] = ask.run(wave)
    return found


def tree(ask: Asker) -> Values:
    context = ask.ids(SYSTEM)
    _, trunk = ask.run([ask.request(f"{one}", context + ask.ids(BRANCH), ANSWER) for one in range(3)])
    wave = [ask.request(f"{one}.{two}", ask.ids(BRANCH), ANSWER, f"{one}") for one in range(3) for two in range(3)]
    first, leaves = ask.run(wave)
    return {("tree", "TTFT, s"): first, ("tree", "whole, s"): trunk + leaves}


def unshared(ask: Asker) -> Values:
    _, whole = ask.run([ask.request(f"{one}", ask.ids(500), ANSWER) for one in range(8)])
    return {("unshared", "whole, s"): whole}


WORKLOADS: dict[str, Callable[[Asker], Values]] = {"chat": chat, "users": users, "tree": tree}


class Race:
    """All contenders of one model, in turn; one that fails is out, with the reason."""

    def __init__(self, model: Path, contenders: list[Contender], threads: int) -> None:
        self.left_out: dict[str, str] = {}
        self.workers: dict[str, Worker] = {}
        self.contenders = {contender.name: contender for contender in contenders}
        for contender in contenders:
            try:
                self.workers[contender.name] = Worker(contender, model, threads)
            except (TooSlow, RuntimeError, OSError) as error:
                self.left_out[contender.name] = f"does not start: {error}"

    def measure(self, workloads: list[Callable[[Asker], Values]], rounds: int, names: list[str]) -> dict[str, Values]:
        """Medians by contender; a round before them warms up. Each round begins with another contender."""
        seen: dict[str, dict[tuple[str, str], list[float]]] = {name: {} for name in names if name in self.workers}
        for round_ in range(rounds + 1):
            for workload in workloads if round_ else workloads[:1]:
                order = list(seen)
                for name in order[round_ % len(order) :] + order[: round_ % len(order)]:
                    for key, value in self._one(name, workload, f"{workload.__name__}{round_}").items():
                        if round_:
                            seen[name].setdefault(key, []).append(value)
        return {name: {key: statistics.median(v) for key, v in values.items()} for name, values in seen.items()}

    def _one(self, name: str, workload: Callable[[Asker], Values], label: str) -> Values:
        if name in self.left_out or workload.__name__ not in self.contenders[name].workloads:
            return {}
        try:
            values = workload(Asker(self.workers[name], label))
        except (TooSlow, RuntimeError, OSError, AssertionError) as error:
            self.left_out[name] = f"{workload.__name__}: {error}"
            return {}
        shown = ", ".join(f"{case} {metric} {value:.4g}" for (case, metric), value in values.items())
        print(f"  {name}: {shown}", flush=True)
        return values

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def goal(case: str, metric: str) -> str:
    if metric == "tokens/s":
        return ">= 1"
    return {"cached turn": "<= 1", "unshared": "<= 1.03"}.get(case, "<= 0.333")


def rows_of(shape: str, medians: dict[str, Values]) -> Rows:
    """A row for each metric of ours: beside the best of llama.cpp's builds, and beside transformers."""
    ours, rows = dict(medians.get("stemma", {})), []
    share = ours.pop(CACHED, None)
    if share is not None:
        rows.append(row(shape, CACHED, share, CACHED_SHARE, "what it may be"))
    for group in (("llama.cpp", "llama-server"), ("transformers",)):
        for key, value in ours.items():
            better = max if key[1] == "tokens/s" else min
            found = {name: medians[name][key] for name in group if key in medians.get(name, {})}
            if found:
                name = better(found, key=found.__getitem__)
                rows.append(row(shape, key, value, found[name], name))
    return rows


def row(shape: str, key: tuple[str, str], ours: float, peer: float, peer_name: str) -> dict[str, Any]:
    case, metric = key
    return {"case": f"{shape} {case}", "metric": metric, "ours": ours, "peer": peer, "peer_name": peer_name,
            "ratio": ours / peer, "goal": goal(case, metric)}  # fmt: skip


def no_sharing(shape: str, race: Race, rounds: int) -> Rows:
    """Ours with the cache on and off."""
    medians = race.measure([unshared], rounds, [STEMMA.name, STEMMA_COLD.name])
    key = ("unshared", "whole, s")
    values = [medians.get(name, {}).get(key) for name in (STEMMA.name, STEMMA_COLD.name)]
    if None in values:
        return []
    return [row(shape, key, values[0], values[1], STEMMA_COLD.name)]  # type: ignore[arg-type]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="1 on a busy machine: llama.cpp's wait for each other")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--only", default="chat,users,tree,unshared", help="workloads")
    parser.add_argument("--peers", default=",".join(PEERS))


def run(options: argparse.Namespace) -> tuple[Rows, dict[str, str]]:
    """Rows of all shapes, and who was left out of what, and why."""
    rows: Rows = []
    left_out: dict[str, str] = {}
    only = options.only.split(",")
    for shape in options.shapes.split(","):
        print(f"{shape}:", flush=True)
        peers = [
            peer
            for name in filter(None, options.peers.split(","))
            if (peer := PEERS[name](shape, options.threads)) is not None
        ]
        race = Race(
            write(SHAPES[shape]), [STEMMA, *([STEMMA_COLD] if "unshared" in only else []), *peers], options.threads
        )
        try:
            names = [STEMMA.name, *(peer.name for peer in peers)]
            medians = race.measure([WORKLOADS[name] for name in only if name in WORKLOADS], options.rounds, names)
            rows += rows_of(shape, medians)
            if "unshared" in only:
                rows += no_sharing(shape, race, options.rounds)
        finally:
            race.close()
        left_out |= {f"{shape} {name} is left out": reason for name, reason in race.left_out.items()}
    return rows, left_out
