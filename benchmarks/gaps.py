"""What a long prompt does to streams that run: their worst gap between two tokens, with it and without.

    python benchmarks/gaps.py [--json FILE] [--rounds 5] [--streams 8] [--prompt 2000] [--tpot-ms 40]

So many streams are read while a prompt comes in. `ours` is the worst gap of any of them from then to its first token;
the peer is the worst gap of as long a time before it came, or with `tpot_ms` the target itself. And first tokens: the
prompt's where it is cached, over where it is not. Medians of rounds, each on texts of its own; two engines in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import stemma
from stemma.runtime.engine import Generation
from stemma.runtime.model import LoadedModel

STREAM_TOKENS = 1500
BEFORE = 1.5
"""Seconds in which streams run alone."""


class Streams:
    """Generations that threads read, with the time of each delta."""

    def __init__(self, engine: stemma.Engine, count: int, chance: random.Random) -> None:
        self.made = [
            engine.submit(ids(chance, 40), max_tokens=STREAM_TOKENS, ignore_eos=True, temperature=1.0, seed=number)
            for number in range(count)
        ]
        self.times: list[list[float]] = [[] for _ in self.made]
        self._threads = [
            threading.Thread(target=self._read, args=pair) for pair in zip(self.made, self.times, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        while min(map(len, self.times)) < 5:
            time.sleep(0.01)

    def _read(self, generation: Generation, times: list[float]) -> None:
        for _ in generation:
            times.append(time.perf_counter())

    def worst_gap(self, begin: float, end: float) -> float:
        """Seconds between two tokens of one stream, of which the second came in this time."""
        return max(after - before for times in self.times for before, after in pairwise(times) if begin <= after <= end)

    def end(self) -> None:
        for generation in self.made:
            generation.cancel()
        for thread in self._threads:
            thread.join()


def ids(chance: random.Random, count: int) -> list[int]:
    return [chance.randrange(1000, 40_000) for _ in range(count)]


def round_of(engine: stemma.Engine, streams: int, prompt: int, seed: int) -> tuple[float, float, float]:
    """Worst gap alone and beside the prompt, and seconds to the prompt's first token."""
    chance = random.Random(seed)
    running = Streams(engine, streams, chance)
    alone_from = time.perf_counter()
    time.sleep(BEFORE)
    came = time.perf_counter()
    engine.generate(ids(chance, prompt), max_tokens=1)
    ended = time.perf_counter()
    running.end()
    return running.worst_gap(alone_from, came), running.worst_gap(came, ended), ended - came


def first_tokens(engine: stemma.Engine, prompt: int, seed: int) -> tuple[float, float]:
    """Seconds to a prompt's first token where nothing of it is cached, and where all is."""
    asked = ids(random.Random(1000 + seed), prompt)
    cold, warm = (engine.generate(asked, max_tokens=1).timing.ttft for _ in range(2))
    return cold, warm


def measure(loaded: LoadedModel, options: argparse.Namespace) -> list[dict[str, Any]]:
    target = options.tpot_ms / 1000
    with (
        stemma.Engine.of(loaded, kv_tokens=32_768) as default,
        stemma.Engine.of(loaded, kv_tokens=32_768, tpot_ms=options.tpot_ms) as bound,
    ):
        for engine in (default, bound):
            round_of(engine, options.streams, 500, -1)
        rounds = [
            [round_of(engine, options.streams, options.prompt, seed) for engine in (default, bound)]
            for seed in range(options.rounds)
        ]
        firsts = [first_tokens(default, options.prompt, seed) for seed in range(options.rounds)]
    alone, beside, seconds = (statistics.median(each[0][at] for each in rounds) for at in range(3))
    _, held, held_seconds = (statistics.median(each[1][at] for each in rounds) for at in range(3))
    cold, warm = (statistics.median(each[at] for each in firsts) for at in range(2))
    case = f"a prompt of {options.prompt} beside {options.streams} streams"
    return [
        row(f"{case}, default", "worst gap, s", beside, alone, "before it came"),
        row(f"{case}, tpot_ms={options.tpot_ms:g}", "worst gap, s", held, target, "the target"),
        row(f"{case}, tpot_ms={options.tpot_ms:g}", "its first token, s", held_seconds, seconds, "by default"),
        row(f"a prompt of {options.prompt}, cached", "first token, s", warm, cold, "not cached"),
    ]


def row(case: str, metric: str, ours: float, peer: float, name: str) -> dict[str, Any]:
    return {"case": case, "metric": metric, "ours": ours, "peer": peer, "peer_name": name, "ratio": ours / peer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=2000)
    parser.add_argument("--tpot-ms", type=float, default=40.0)
    options = parser.parse_args()
    with stemma.Engine() as engine:
        loaded = engine.loaded
    rows = measure(loaded, options)
    for each in rows:
        said = f"{each['ours'] * 1000:.1f} ms, {each['peer_name']} {each['peer'] * 1000:.1f} ms: {each['ratio']:.3f}"
        print(f"{each['case']}, {each['metric'].removesuffix(', s')}: {said}")
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
