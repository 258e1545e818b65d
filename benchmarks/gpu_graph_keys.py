"""Which graphs a server's steps need, simulated: keys, recordings behind the start, eager steps, padding. No GPU.

    python benchmarks/gpu_graph_keys.py [--steps 20000] [--json FILE]

Requests arrive so that about as many run as asked; a step takes a token of each, what a part of them has besides
(forced tokens of one row of logits, drafts of one each), and prompts up to the budget of a server's card.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stemma.kernels.limits import StepLimits
from stemma.kernels.ops import KVShape
from stemma.kernels.triton.cut import FEW_ROWS, Cutting
from stemma.kernels.triton.keys import Pool, Room, key_for, keys_of

LIMITS = StepLimits(max_running=256, max_batch_tokens=8192, context_length=32_768)
POOL = Pool("full.", KVShape(32, 30_000, 16, 8, 128), Cutting(4, 16, 128, 512, 16))
"""Llama-3-8B on an H100: 480,000 tokens of KV."""
MOST_EXTRA = 7
"""Tokens of a sequence beside its own: of drafts, or of what a grammar forces."""


class Load(NamedTuple):
    """running: sequences side by side. shared: tokens of a prompt that all have, cached. prompts: new tokens of each,
    at most. outputs: tokens, in the mean. extra: share of rows with forced tokens or drafts."""

    running: int
    shared: int
    prompts: int
    outputs: int
    extra: float


LOADS = {
    "chat, 10 running": Load(10, 0, 1500, 250, 0.0),
    "chat, 50 running": Load(50, 0, 1500, 250, 0.0),
    "chat, 200 running": Load(200, 0, 1500, 250, 0.0),
    "chat, 10 running, 30 % forced or drafted": Load(10, 0, 1500, 250, 0.3),
    "chat, 50 running, 30 % forced or drafted": Load(50, 0, 1500, 250, 0.3),
    "chat, 200 running, 30 % forced or drafted": Load(200, 0, 1500, 250, 0.3),
    "agents, 50 running, 2,000 shared": Load(50, 2000, 300, 120, 0.3),
}


class Shape(NamedTuple):
    """Of a step. prompts: tokens of them among all."""

    tokens: int
    rows: int
    partials: int
    prompts: int


def steps_of(load: Load, num_steps: int, seed: int) -> Iterator[Shape]:
    """Every sequence is its context and how many tokens are still to come; prompts wait in order."""
    chance = random.Random(seed)
    running: list[list[int]] = []
    waiting: list[int] = []
    for _ in range(num_steps):
        while len(running) + len(waiting) < load.running and chance.random() < 0.5:
            waiting.append(min(1 + int(chance.lognormvariate(4.5, 1.2)), load.prompts))
        shape = [0, 0, 0, 0]
        for sequence in running:
            extra = chance.randint(1, MOST_EXTRA) if chance.random() < load.extra else 0
            rows = 1 + extra if chance.random() < 0.5 else 1
            sequence[0] += 1 + extra
            sequence[1] -= 1 + extra
            add(shape, 1 + extra, rows, sequence[0])
        budget = LIMITS.max_batch_tokens - shape[0]
        while waiting and waiting[0] <= budget and len(running) < LIMITS.max_running:
            new = waiting.pop(0)
            budget -= new
            add(shape, new, 1, load.shared + new)
            shape[3] += new
            running.append([load.shared + new, 1 + int(chance.expovariate(1 / load.outputs))])
        running = [sequence for sequence in running if sequence[1] > 0]
        if shape[0]:
            yield Shape(*shape)


def add(shape: list[int], tokens: int, rows: int, context: int) -> None:
    """A sequence of a step, and its partial sums where it is cut in pieces."""
    assert POOL.cutting is not None
    shape[0] += tokens
    shape[1] += rows
    pieces = -(-context // POOL.cutting.piece)
    if tokens * POOL.cutting.group <= FEW_ROWS and pieces > 1:
        shape[2] += tokens * pieces


def simulate(load: Load, num_steps: int, seed: int = 0) -> dict[str, float]:
    """What becomes of a load's steps."""
    keys, room = keys_of(LIMITS), Room.of(LIMITS, [POOL], has_states=False)
    used: Counter[tuple[int, int]] = Counter()
    eager: Counter[str] = Counter()
    tokens = computed = with_prompt = eager_tokens = 0
    for shape in steps_of(load, num_steps, seed):
        key = key_for(keys, shape.tokens, shape.rows)
        with_prompt += shape.prompts > 0
        if key is None or shape.partials > room.partials:
            eager["too large" if key is None else "no room"] += 1
            eager_tokens += shape.tokens
            continue
        used[key] += 1
        tokens, computed = tokens + shape.tokens, computed + key.tokens
    steps = sum(used.values()) + sum(eager.values())
    return {
        "steps": steps,
        "with a prompt %": 100 * with_prompt / steps,
        "keys": len(keys),
        "keys used": len(used),
        "recordings behind the start": 0,
        "eager %": 100 * sum(eager.values()) / steps,
        "tokens of an eager step": eager_tokens / max(sum(eager.values()), 1),
        "padding %": 100 * (computed - tokens) / max(tokens, 1),
        "padding, tokens a step": (computed - tokens) / max(sum(used.values()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {name: simulate(load, options.steps) for name, load in LOADS.items()}
    print("| load |", " | ".join(next(iter(found.values()))), "|")
    for name, numbers in found.items():
        print(f"| {name} |", " | ".join(f"{value:.4g}" for value in numbers.values()), "|")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
