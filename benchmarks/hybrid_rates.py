"""Hit rates of models with states: the real PrefixCache with marks (no model, no KV), and what others keep beside it.

On the five traces of radix_traces.py, with blocks without limit: first slots without limit, then a quarter and a
sixteenth of the marks that were kept then. The slot in which a request runs is one of ours; the others need none.
`hit rate` is of tokens, in the mean over all requests; the bound is that of full layers only.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

from hybrid_placements import ONE_A_SLOT, PLACEMENTS, Paths, all_rates, paths_of
from radix_traces import FAMILIES, Trace

from stemma.radix import MarkRoom, PrefixCache

BLOCK_SIZE = 16
UNLIMITED = 250_000
SHARES = (4, 16)
NOT_OF_THE_TARGET = ("junctions alone", ONE_A_SLOT)  # told, but best is the best of the others


class Ours(NamedTuple):
    hit_rate: float
    num_made: int
    num_kept: int
    seconds_per_request: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=float, default=1.0, help="rates: of the traces")
    parser.add_argument("--seeds", default="1", help="rates: of the traces, as in 1,2,3")


def ours(trace: Trace, num_slots: int) -> Ours:
    """One request after the other, each computed at once and gone on with by its output."""
    num_tokens = sum(len(prompt) + len(output) for prompt, output in trace.requests)
    num_blocks = num_tokens // BLOCK_SIZE + 2 * len(trace.requests)
    cache = PrefixCache(num_blocks, BLOCK_SIZE, marks=MarkRoom(None, 0, num_slots))
    hits, begun = 0, time.process_time()
    for prompt, output in trace.requests:
        lease = cache.acquire(prompt, max_hit=len(prompt) - 1)
        hits += lease.hit_len
        for text in (prompt[lease.hit_len :], output):
            lease.reserve(len(text))
            lease.advance(len(text))
            lease.extend(text)
        lease.mark()
        lease.commit()
        lease.release()
    took = time.process_time() - begun
    cache.check()
    marks = cache.stats().marks
    assert marks is not None
    num_made = marks.num_marks + marks.evicted + marks.given_back
    prompts = sum(len(prompt) for prompt, _ in trace.requests)
    return Ours(hits / prompts, num_made, marks.num_marks, took / len(trace.requests))


def run(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    rows: list[dict[str, Any]] = []
    for seed in map(int, options.seeds.split(",")):
        for name, make in FAMILIES.items():
            trace = make(seed, options.scale)
            rows += _of_trace(f"{name}, seed {seed}", trace, paths_of(trace))
    return rows, {"best": "the best of the placements but " + " and ".join(NOT_OF_THE_TARGET)}


def _of_trace(case: str, trace: Trace, paths: Paths) -> list[dict[str, Any]]:
    free, bound, num = ours(trace, UNLIMITED), paths.bound(), len(trace.requests)
    print(f"\n{case}: {num} requests, {free.seconds_per_request * 1e6:.0f} us each; full layers {bound:.4f}")
    print(f"{'':22}{'ours':>8}" + "".join(f"{name:>17}" for name in (*PLACEMENTS, ONE_A_SLOT)))
    _print("without limit", free.hit_rate, all_rates(paths, UNLIMITED))
    print(f"  {free.num_made / num:.2f} marks made a request, {free.num_kept} kept", flush=True)
    rows = [
        _row(f"{case}, without limit", "hit rate", free.hit_rate, bound, "full layers", "-0.01"),
        _row(f"{case}, without limit", "marks a request", free.num_made / num, 3.0, "limit", "<= 3"),
    ]
    for share in SHARES:
        num_slots = max(free.num_kept // share, 2)
        rates, mine = all_rates(paths, num_slots), ours(trace, num_slots).hit_rate
        _print(f"1/{share}: {num_slots} slots", mine, rates)
        best = max((name for name in rates if name not in NOT_OF_THE_TARGET), key=rates.__getitem__)
        for name, rate in [("best", rates[best]), *rates.items()]:
            rows.append(_row(f"{case}, 1/{share}", "hit rate", mine, rate, name, ">= best; +0.05 on three"))
    return rows


def _print(what: str, mine: float, rates: dict[str, float]) -> None:
    print(f"  {what:20}{mine:8.4f}" + "".join(f"{rate:17.4f}" for rate in rates.values()), flush=True)


def _row(case: str, metric: str, mine: float, peer: float, peer_name: str, goal: str) -> dict[str, Any]:
    ratio = mine / max(peer, 0.001)  # some hit nothing at all
    row = {"case": case, "metric": metric, "ours": mine, "peer": peer, "peer_name": peer_name, "ratio": ratio}
    return {**row, "goal": goal}
