"""How one budget of bytes is divided between the KV of full layers and marks: token hit rates at several shares.

The real PrefixCache, without a model, on the traces of `radix_traces.py`: a request takes what is cached, computes the
rest in one step, and leaves what it computed. Bytes are those of public models (docs/model.md, "What a model keeps").
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
from radix_traces import FAMILIES, Trace

from stemma.radix import MarkRoom, OutOfBlocks, PrefixCache

BLOCK = 16
SCALE = 0.15
"""Of the traces: what counts is how the budget compares with a trace's own pool."""
SHARES = (0.1, 0.25, 0.35, 0.5, 0.75)
DEFAULT = 0.35
"""Of `EngineConfig.mark_share`."""


class Shape(NamedTuple):
    """Bytes of full layers' KV a token, of states a mark."""

    name: str
    token_bytes: int
    mark_bytes: int


SHAPES = (
    Shape("LFM2-350M", 12_288, 81_920),
    Shape("Granite 4 H tiny", 8_192, 40_000_000),
    Shape("Qwen3.5-0.8B", 12_288, 19_800_000),
)


def hit_rate(trace: Trace, num_blocks: int, num_slots: int) -> float:
    """Tokens of prompts that need not be computed."""
    cache = PrefixCache(num_blocks, BLOCK, marks=MarkRoom(None, num_slots=num_slots))
    hit = total = 0
    for prompt, output in trace.requests:
        text = np.concatenate([prompt, output])
        total += len(prompt)
        with cache.acquire(text[: len(prompt)], max_hit=len(prompt) - 1) as lease:
            hit += lease.hit_len
            try:
                for end in (len(prompt), len(text)):
                    lease.reserve(end - lease.num_tokens)
                    lease.advance(end - lease.num_tokens)
                    lease.extend(text[lease.num_tokens : end])
                lease.mark()
                lease.commit()
            except OutOfBlocks:
                continue  # a text that is longer than the pool is not kept
    return hit / total


def run(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    rows: list[dict[str, Any]] = []
    for family, make in FAMILIES.items():
        trace = make(int(options.seeds.split(",")[0]), SCALE * options.scale)
        for shape in SHAPES:
            budget = options.pools * trace.pool_tokens * shape.token_bytes
            rates = {share: _at(trace, shape, budget, share) for share in SHARES}
            best = max(rates, key=lambda share: rates[share])
            case = f"{family}, {shape.name}"
            told = "  ".join(f"{share:.2f}: {rate:.3f}" for share, rate in rates.items())
            print(f"{case:36}{budget / 1e9:6.2f} GB   {told}", flush=True)
            rows.append(
                {"case": case, "metric": "hit rate at the default share", "ours": rates[DEFAULT], "peer": rates[best],
                 "peer_name": f"share {best}", "ratio": rates[DEFAULT] / rates[best] if rates[best] else 1.0}
            )  # fmt: skip
    return rows, {}


def _at(trace: Trace, shape: Shape, budget: float, share: float) -> float:
    num_blocks = max(int(budget * (1 - share)) // (BLOCK * shape.token_bytes), 64)
    num_slots = max(int(budget * share) // shape.mark_bytes, 4)
    return hit_rate(trace, num_blocks, min(num_slots, num_blocks))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pools", type=float, default=1.5, help="the budget, in pools of the trace (shares)")
