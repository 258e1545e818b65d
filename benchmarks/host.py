"""What a decode step costs outside kernels: scheduling, metadata, sampling's bookkeeping, text, handing tokens over.

    python benchmarks/host.py [--json FILE] [--rounds 3]

`ours` is milliseconds of a step that pass outside native code, the peer is the whole step: medians over the steps of
an engine that decodes 1 or 16 sequences behind prompts of 128 tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stemma.kernels.cpu.ops import CpuOps
from stemma.runtime.engine import Engine

NEW_TOKENS = 64


class Watch:
    """Adds up the time inside kernels, step by step."""

    def __init__(self, engine: Engine) -> None:
        self.steps: list[tuple[float, float]] = []  # seconds of a whole step, and of its kernels
        self._kernels = 0.0
        self._last = time.perf_counter()
        ops = engine.loaded.model.ops
        assert isinstance(ops, CpuOps)
        ops._replay = self._timed(ops._replay)
        ops.sample = self._timed(ops.sample)  # type: ignore[method-assign]
        step = engine._loop.step

        def counted() -> None:
            step()
            now = time.perf_counter()
            self.steps.append((now - self._last, self._kernels))
            self._last, self._kernels = now, 0.0

        engine._loop.step = counted  # type: ignore[method-assign]

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            self._kernels += time.perf_counter() - started
            return result

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    numbers = random.Random(0)
    rows = []
    with Engine(kv_tokens=16_384) as engine:
        watch = Watch(engine)
        for count in (1, 16):
            steps: list[tuple[float, float]] = []
            for round_ in range(options.rounds + 1):  # the first one records the steps
                prompts = [[numbers.randrange(1000, 40_000) for _ in range(128)] for _ in range(count)]
                watch.steps.clear()
                engine.generate(prompts, max_tokens=NEW_TOKENS, temperature=0, ignore_eos=True)
                if round_:
                    steps += watch.steps[-(NEW_TOKENS - 8) : -1]  # decode alone
            whole = 1000 * statistics.median(step for step, _ in steps)
            outside = 1000 * statistics.median(step - kernels for step, kernels in steps)
            print(
                f"decode {count}: {whole:.2f} ms a step, {outside:.2f} ms of it outside kernels: {outside / whole:.1%}"
            )
            rows.append(
                {"case": f"decode {count}", "metric": "host_share", "ours": outside, "peer": whole,
                 "peer_name": "the whole step", "ratio": outside / whole}
            )  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
