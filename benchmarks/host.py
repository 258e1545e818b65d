"""What a decode step costs outside kernels: scheduling, metadata, sampling's bookkeeping, text, handing tokens over.

    python benchmarks/host.py [--before REVISION] [--json FILE] [--rounds 3] [--counts 1 16 64]
    python benchmarks/host.py --stub [--before REVISION] [--json FILE] [--rounds 3] [--counts 16 64 256]

`ours` is milliseconds of a step that pass outside native code; the peer is the whole step, and with `--before` also
what an earlier build of this repository takes outside native code: both run in processes of their own and take turns.
Medians over the steps of an engine that decodes so many sequences behind prompts of 128 tokens; the most of them also
behind a common beginning of 1,000.

With `--stub` the model computes nothing (a tiny one whose step and samples are constants), and a figure is CPU time of
the thread that steps: so it is right on a busy machine as well. `decode` are medians of steps that decode so many
while nobody waits; `1,000 waiting` the same while a thousand wait for a place; `turnover` means of steps in which
outputs of 16 to 64 tokens end and others of the thousand take their places. Nothing is drafted.
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
import threading
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


class Stub:
    """Steps of an engine whose model computes nothing."""

    def __init__(self, count: int) -> None:
        from dataclasses import fields

        import numpy as np

        from stemma.kernels.select import select_ops
        from stemma.runtime.core.config import EngineConfig
        from stemma.runtime.engine import Engine
        from stemma.runtime.model.tiny import tiny

        options: dict[str, Any] = {"kv_tokens": 1 << 18, "max_running": count, "max_batch_tokens": max(1024, count)}
        if "drafts_from" in {field.name for field in fields(EngineConfig)}:
            options["drafts_from"] = ("none",)
        self.engine = Engine.of(tiny(select_ops("cpu", "auto", "auto", "auto")), **options)
        self.steps: list[tuple[float, int]] = []  # CPU seconds, and how many waited
        logits, tokens = np.zeros((4096, 260), np.float32), np.full(4096, 65)
        loop = self.engine._loop
        loop.runner._step = lambda ids, metadata, rows: logits[: len(rows)]  # type: ignore[assignment]
        self.engine.loaded.model.ops.sample = lambda logits, rows: tokens[: len(logits)]  # type: ignore[method-assign]
        step = loop.step
        self.meets: threading.Barrier | None = None  # twice, with the thread that asks, as soon as nobody waits

        def timed() -> None:
            started = time.thread_time()
            step()
            self.steps.append((time.thread_time() - started, len(loop.scheduler.waiting)))
            meets = self.meets
            if meets and not loop.scheduler.waiting:
                self.meets = None
                meets.wait()
                meets.wait()

        loop.step = timed  # type: ignore[method-assign]

    def milliseconds(self, case: str, count: int, seed: int) -> float:
        numbers = random.Random(seed)
        prompts = [[numbers.randrange(250) for _ in range(128)] for _ in range(count + 1000)]
        self.steps.clear()
        gate = threading.Event()  # nobody runs before all have come
        self.engine._loop.post(lambda: gate.wait() and None)
        if case == "turnover":
            asked = self.engine.submit_all(prompts[:count], max_tokens=64, ignore_eos=True)
            for prompt in prompts[count:]:
                asked.append(self.engine.submit(prompt, max_tokens=numbers.randrange(16, 64), ignore_eos=True))
            gate.set()
            for generation in asked:
                generation.result()
            return 1000 * statistics.mean(seconds for seconds, waiting in self.steps if 100 <= waiting <= 900)
        running = self.engine.submit_all(prompts[:count], max_tokens=250, ignore_eos=True)
        self.meets = meets = threading.Barrier(2)
        gate.set()
        meets.wait()  # all of them run, and stand still while the others come
        waiting = []
        if case != "decode":
            waiting = self.engine.submit_all(prompts[count:], max_tokens=16, ignore_eos=True)
        meets.wait()
        for generation in running:
            generation.result()
        steps = [seconds for seconds, num_waiting in self.steps if (num_waiting >= 1000) == (case != "decode")]
        for generation in waiting:
            generation.cancel()
        self.engine.stats()
        return 1000 * statistics.median(steps[20:])


def serve_stub() -> None:
    """Answers each (case, count, seed) with milliseconds a step."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    stubs: dict[int, Stub] = {}
    while True:
        try:
            case, count, seed = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if count not in stubs:
            stubs[count] = Stub(count)
        pickle.dump(stubs[count].milliseconds(case, count, seed), answers)
        answers.flush()


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

    def __init__(self, folder: Path, mode: str = "--serve") -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder,
        )  # fmt: skip

    def steps(self, count: int, common: int, seed: int) -> list[Step]:
        return [Step(*each) for each in self.ask((count, common, seed))]

    def ask(self, case: tuple[Any, ...]) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        pickle.dump(case, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

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


def stub_rows(builds: dict[str, Build], counts: list[int], rounds: int) -> list[dict[str, Any]]:
    """The builds take turns, round by round; medians of the rounds."""
    rows = []
    for count in counts:
        for case in ("decode", "1,000 waiting", "turnover"):
            found = {
                name: statistics.median(values)
                for name, values in zip(
                    builds,
                    zip(*([build.ask((case, count, seed)) for build in builds.values()] for seed in range(rounds)),
                        strict=True),
                    strict=True,
                )
            }  # fmt: skip
            ours, *others = found.items()
            rows += [
                {"case": f"{count} running, {case}", "metric": "host_ms", "ours": ours[1], "peer": value,
                 "peer_name": name, "ratio": ours[1] / value}
                for name, value in others or [ours]
            ]  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a revision of this repository")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+")
    parser.add_argument("--stub", action="store_true", help="the model computes nothing")
    options = parser.parse_args()
    mode = "--serve-stub" if options.stub else "--serve"
    builds = {"this build": Build(ROOT, mode)}
    if options.before:
        builds[options.before] = Build(folder_of(options.before), mode)
    counts = options.counts or ([16, 64, 256] if options.stub else [1, 16, 64])
    rows: list[dict[str, Any]] = stub_rows(builds, counts, options.rounds) if options.stub else []
    for count in [] if options.stub else counts:
        for common in (0, COMMON) if 1 < count == max(counts) else (0,):
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
    elif sys.argv[1:] == ["--serve-stub"]:
        serve_stub()
    else:
        main()
