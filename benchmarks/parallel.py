"""One model on two processes with half of the cores each, beside one process that has them all.

    python benchmarks/parallel.py [--json FILE] [--model M] [--ranks 2] [--rounds 5]

`ours` and `peer` are seconds: of a new prompt of 512 tokens, and of a decoded token of 1 and of 8 sequences, nothing
guessed. Both engines stand on this machine and take turns; medians of rounds. Tokens are compared. On hosts ranks
speak through gloo, so this says what dividing costs, not what it is for: models that one device does not hold.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import stemma

PROMPT, NEW = 512, 32


def make_prompts(vocab_size: int, number: int, count: int, length: int) -> list[list[int]]:
    """Prompts that nobody has seen, the same for both engines of a round."""
    rng = np.random.default_rng(number)
    return [rng.integers(100, min(vocab_size, 30_000), length).tolist() for _ in range(count)]


def prefill(llm: stemma.Engine, prompts: list[list[int]]) -> tuple[float, Any]:
    began = time.perf_counter()
    made = llm.generate(prompts, max_tokens=1)
    return time.perf_counter() - began, [each.tokens for each in made]


def decode(llm: stemma.Engine, prompts: list[list[int]]) -> tuple[float, Any]:
    """Seconds of a token of each, behind prompts that are computed before."""
    llm.generate(prompts, max_tokens=1)
    began = time.perf_counter()
    made = llm.generate(prompts, max_tokens=NEW, ignore_eos=True)
    return (time.perf_counter() - began) / NEW, [each.tokens for each in made]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    Case = tuple[str, Callable[[stemma.Engine, list[list[int]]], tuple[float, Any]], int, int]
    cases: list[Case] = [
        (f"a prompt of {PROMPT}", prefill, 1, PROMPT), ("decode, 1 sequence", decode, 1, 64),
        ("decode, 8 sequences", decode, 8, 64),
    ]  # fmt: skip
    options: dict[str, Any] = {"kv_tokens": 16_384, "drafts_from": ("none",)}
    rows = []
    with (
        stemma.Engine(given.model, tensor_parallel=given.ranks, **options) as divided,
        stemma.Engine(given.model, **options) as whole,
    ):
        for case, measure, count, length in cases:
            seconds: list[tuple[float, float]] = []
            differ = 0
            for number in range(given.rounds + 1):
                prompts = make_prompts(whole.loaded.config.vocab_size, number * 100 + count, count, length)
                (ours, one), (peer, other) = measure(divided, prompts), measure(whole, prompts)
                differ += one != other
                if number:
                    seconds.append((ours, peer))
            ours, peer = (statistics.median(side) for side in zip(*seconds, strict=True))
            rows.append({"case": case, "metric": "s", "ours": ours, "peer": peer, "peer_name": "one process",
                         "ratio": ours / peer, "rounds_that_differ": differ})  # fmt: skip
            print(f"{case:24}{ours * 1000:9.1f} ms  one process {peer * 1000:9.1f} ms  {ours / peer:.2f}"
                  f"  rounds whose tokens differ: {differ}")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
