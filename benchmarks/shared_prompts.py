"""Whether times tell what another key has asked, where all keys share a system prompt.

    python benchmarks/shared_prompts.py [--trials 200] [--model FILE] [--json OUT]

In each trial a key asks something new behind the shared prompt, for the first time, after another key has asked either
the very same or something else, as a coin says. AUC is the chance that a request of the one kind took longer than one
of the other: 0.5 tells nothing, 1.0 everything; z is how far the ranks are from chance, in standard deviations. The
control is the same within one key, where the difference is what the cache is for: the method would see one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny


class Times(NamedTuple):
    """Seconds to the first token, after another has asked the very same, or something else."""

    same: list[float]
    other: list[float]


def measure(engine: Engine, shared: list[int], asks: str, before: str, trials: int, length: int) -> Times:
    """asks, before: namespaces of who is measured and of who was there before."""
    times = Times([], [])
    dice = random.Random(7)
    size = min(engine.loaded.tokenizer.vocab_size, 200)
    for trial in range(trials):
        question, another = ([*shared, *(dice.randrange(1, size) for _ in range(length))] for _ in range(2))
        is_same = dice.random() < 0.5
        engine.generate(question if is_same else another, namespace=before, max_tokens=1)
        started = time.perf_counter()
        engine.generate(question, namespace=asks, max_tokens=1)
        if trial >= trials // 10:  # the first ones warm what is compiled and cached by the machine
            times[0 if is_same else 1].append(time.perf_counter() - started)
    return times


def auc(times: Times) -> tuple[float, float]:
    """The chance that `other` takes longer than `same`, and its distance from a half in standard deviations."""
    wins = sum((late > early) + 0.5 * (late == early) for late in times.other for early in times.same)
    pairs = len(times.same) * len(times.other)
    deviation = ((len(times.same) + len(times.other) + 1) / (12 * pairs)) ** 0.5
    return wins / pairs, (wins / pairs - 0.5) / deviation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--model", default=None, help="a .gguf file, a folder or a hub id; a tiny model if left out")
    parser.add_argument("--shared", type=int, default=200, help="tokens of the shared prompt")
    parser.add_argument("--question", type=int, default=60, help="tokens of what follows it")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    engine = Engine(given.model) if given.model else Engine.of(tiny(select_ops()), kv_tokens=1 << 17)
    with engine:
        shared = [index % 190 + 1 for index in range(given.shared)]
        text = engine.share(shared)
        print(f"{given.trials} trials, {given.shared} shared tokens, {given.question} more\n")
        print("| who was there before | median after the same | after another | AUC | z |")
        print("|---|---|---|---|---|")
        areas = []
        for name, before in (("another key", "alice"), ("the same key (control)", "bob")):
            times = measure(engine, shared, "bob", before, given.trials, given.question)
            area, distance = auc(times)
            medians = [f"{1000 * statistics.median(each):.2f} ms" for each in times]
            print(f"| {name} | {medians[0]} | {medians[1]} | {area:.3f} | {distance:+.1f} |")
            areas.append(area)
        text.release()
    if given.json:
        row = {"case": f"{given.question} tokens behind a shared prompt", "metric": "AUC", "ours": areas[0],
               "peer": areas[1], "peer_name": "the same key", "ratio": areas[0] / areas[1]}  # fmt: skip
        given.json.write_text(json.dumps({"rows": [row]}, indent=1))


if __name__ == "__main__":
    main()
