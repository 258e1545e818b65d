"""What a decode step costs outside kernels: scheduling, metadata, sampling's bookkeeping, text, handing tokens over.

    python benchmarks/host.py [--before REVISION] [--json FILE] [--rounds 3] [--counts 1 16 64]

`ours` is milliseconds of a step that pass outside native code; the peer is the whole step, and with `--before` also
what an earlier build of this repository takes outside native code: both run in processes of their own and take turns.
Medians over the steps of an engine that decodes so many sequences behind prompts of 128 tokens; the most of them also
behind a common beginning of 1,000.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fsm_before import ROOT, folder_of

NEW_TOKENS = 64
COMMON = 1000


class Step(NamedTuple):
    """Seconds of a whole step, and of its kernels."""

    whole: float
    kernels: float


class Watch:
    """Adds up the time inside kernels, step by step."""

    def __init__(self, engine: Any) -> None:
        self.steps: list[Step] = []
        self._kernels = 0.0
        self._last = time.perf_counter()
        ops = engine.loaded.model.ops
        ops._replay = self._timed(ops._replay)
        ops.sample = self._timed(ops.sample)
        step = engine._loop.step

        def counted() -> None:
            step()
            now = time.perf_counter()
            self.steps.append(Step(now - self._last, self._kernels))
            self._last, self._kernels = now, 0.0

        engine._loop.step = counted

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            self._kernels += time.perf_counter() - started
            return result

        return timed


def serve() -> None:
    """Answers each (count, common, seed) with the steps of one round that decode alone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from stemma.runtime.engine import Engine

    with Engine(kv_tokens=32_768, max_running=64) as engine:
        watch = Watch(engine)
        while True:
            try:
                count, common, seed = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            numbers = random.Random(seed)
            beginning = [numbers.randrange(1000, 40_000) for _ in range(common)]
            prompts = [beginning + [numbers.randrange(1000, 40_000) for _ in range(128)] for _ in range(count)]
            watch.steps.clear()
            engine.generate(prompts, max_tokens=NEW_TOKENS, temperature=0, ignore_eos=True)
            pickle.dump([tuple(step) for step in watch.steps[-(NEW_TOKENS // 2) : -1]], answers)
            answers.flush()


class Build:
    """One build in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder,
        )  # fmt: skip

    def steps(self, count: int, common: int, seed: int) -> list[Step]:
        assert self.process.stdin
        assert self.process.stdout
        pickle.dump((count, common, seed), self.process.stdin)
        self.process.stdin.flush()
        return [Step(*each) for each in pickle.load(self.process.stdout)]

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(builds: dict[str, Build], case: tuple[int, int], rounds: int) -> dict[str, list[Step]]:
    """The builds take turns, round by round; the first round records the steps."""
    found: dict[str, list[Step]] = {name: [] for name in builds}
    for round_ in range(rounds + 1):
        for name, build in builds.items():
            steps = build.steps(*case, round_)
            found[name] += steps if round_ else []
    return found


def rows_of(case: str, found: dict[str, list[Step]]) -> list[dict[str, Any]]:
    """The first build is ours."""
    whole, *outside = (
        1000 * statistics.median(values)
        for values in (
            [step.whole for step in next(iter(found.values()))],
            *([step.whole - step.kernels for step in steps] for steps in found.values()),
        )
    )
    rows = [("host_share", whole, "the whole step")]
    rows += [("host_ms", before, name) for name, before in list(zip(found, outside, strict=True))[1:]]
    ours = outside[0]
    return [
        {"case": case, "metric": metric, "ours": ours, "peer": peer, "peer_name": name, "ratio": ours / peer}
        for metric, peer, name in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a revision of this repository")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 16, 64])
    options = parser.parse_args()
    builds = {"this build": Build(ROOT)}
    if options.before:
        builds[options.before] = Build(folder_of(options.before))
    rows: list[dict[str, Any]] = []
    for count in options.counts:
        for common in (0, COMMON) if 1 < count == max(options.counts) else (0,):
            case = f"decode {count}" + f" behind {common} in common" * bool(common)
            rows += rows_of(case, measure(builds, (count, common), options.rounds))
    for build in builds.values():
        build.end()
    for row in rows:
        print(f"{row['case']:32}{row['ours']:8.3f} ms {row['peer']:9.3f} {row['peer_name']:16}{row['ratio']:8.3f}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        main()
