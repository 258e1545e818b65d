"""first_hour.py, graphs: replays beside launches one by one, many sizes, two engines of which one goes or records while
the other writes, memory."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from hour_layouts import layout
from hour_lines import Lines

from stemma.kernels.limits import Report
from stemma.kernels.memory import Memory
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.triton.ops import TritonOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny

NEW_TOKENS = 32
TOLERANCE = 0.05
"""Of logits in bfloat16 where products have other numbers of rows."""


class Both:
    """A tiny model with two pools of equal contents: one for steps that are launched, one for those that are replayed.
    On the CPU both are launched."""

    def __init__(self, device: str, report: Report = lambda _done, _all: None) -> None:
        self.ops = ops = TritonOps(torch.device(device), torch.bfloat16 if device == "cuda" else torch.float32)
        loaded = tiny(ops)
        config, model = loaded.config, loaded.model
        shape = config.memory_shape(600, 16).full
        self.pools: tuple[Any, Any] = (ops.kv(shape), ops.kv(shape))
        for mine, theirs in zip(self.pools[0].tensors, self.pools[1].tensors, strict=True):
            theirs.copy_(mine.normal_())
        self.eager = EagerExecutor(ops, model, Memory(self.pools[0]))
        self.replayed = ops.executor(model, config.num_heads, Memory(self.pools[1]))
        self.replayed.record(report)
        self.random = np.random.default_rng(1)

    def difference(self, sequences: list[tuple[int, int]]) -> tuple[float, float]:
        """The largest difference of logits, and of the pools."""
        metadata = layout(sequences, 16)
        ids = self.random.integers(0, 256, len(metadata.positions)).astype(np.int32)
        rows = (metadata.query_starts[1:] - 1).astype(np.int32)
        expected = self.eager(ids, metadata, rows).clone()
        got = self.replayed(ids, metadata, rows)
        pools = max(
            float((mine.float() - theirs.float()).abs().max())
            for mine, theirs in zip(self.pools[0].tensors, self.pools[1].tensors, strict=True)
        )
        return float((got - expected).abs().max()), pools


def run(lines: Lines, device: str) -> None:
    both = Both(device)
    if device == "cpu" and lines.todo("graphs"):
        lines.skip("graphs", "there is no GPU: what follows is launched one by one, twice")
    lines.attempt("replay, bit for bit", lambda: bits(lines, both, device))
    lines.attempt("many sizes", lambda: sizes(lines, both, 70 if device == "cuda" else 3))
    lines.attempt("two engines, one goes", lambda: engines(lines, device))
    lines.attempt("two engines, one records", lambda: recording(lines, device))
    lines.attempt("memory of recordings", lambda: memory(lines, device))


def bits(lines: Lines, both: Both, device: str) -> None:
    """Steps that need no padding, twice: recorded, and replayed."""
    counts = (1, 2, 4, 8, 16, 64) if device == "cuda" else (1, 4)
    worst = {count: max(max(both.difference([(20, 1)] * count)) for _ in range(2)) for count in counts}
    lines.judge("replay, bit for bit", not any(worst.values()), f"largest differences by sequences: {worst}")


def sizes(lines: Lines, both: Both, most: int) -> None:
    """More sizes than there are graphs, then the first ones again."""
    steps = [[(7 * nth % 90, 1 + nth % 3)] * (1 + nth % 5) + [(100, 1)] * (nth // 5) for nth in range(most)]
    worst = [max(both.difference(step)) for step in [*steps, *steps[:8]]]
    lines.judge("many sizes", max(worst) <= TOLERANCE, f"{len(steps)} sizes, largest difference {max(worst):.4f}")


def engines(lines: Lines, device: str) -> None:
    """The second goes on to write the same when the first and its graphs are gone."""
    ops = TritonOps(torch.device(device), torch.bfloat16 if device == "cuda" else torch.float32)
    first, second = (Engine.of(tiny(ops), kv_tokens=1024, block_size=16) for _ in range(2))
    prompts = [[1, 2, 3], [4, 5, 6, 7]]
    new_tokens = NEW_TOKENS if device == "cuda" else 2
    for engine in (first, second):
        engine.generate(prompts, max_tokens=new_tokens, temperature=0.0)
    before = [each.tokens for each in second.generate(prompts, max_tokens=new_tokens, temperature=0.0)]
    first.close()
    del first
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    after = [each.tokens for each in second.generate(prompts, max_tokens=new_tokens, temperature=0.0)]
    second.close()
    lines.judge("two engines, one goes", before == after)


def recording(lines: Lines, device: str) -> None:
    """One writes the same as alone while others start in a thread beside it, one behind the other, and record."""
    case = "two engines, one records"
    if device == "cpu":
        lines.skip(case, "there is no GPU, and the interpreter is for one thread")
        return
    ops = TritonOps(torch.device(device), torch.bfloat16)
    asked: Any = {"max_tokens": NEW_TOKENS, "temperature": 0.0, "ignore_eos": True}
    prompt, starts = [1, 2, 3], 3
    with Engine.of(tiny(ops), kv_tokens=1024, block_size=16) as writing, ThreadPoolExecutor(1) as beside:
        alone = writing.generate(prompt, **asked).tokens
        started = beside.submit(start_engines, device, starts)
        rounds, same = 0, True
        while not started.done() or not rounds:
            same = writing.generate(prompt, **asked).tokens == alone and same
            rounds += 1
        same_beside = all(tokens == alone for tokens in started.result())
    note = f"{rounds} times while {starts} engines started"
    lines.judge(case, same and same_beside, f"{note}; the writer's tokens the same: {same}, theirs: {same_beside}")


def start_engines(device: str, count: int) -> list[tuple[int, ...]]:
    """What each writes, as soon as it has started."""
    written = []
    for _ in range(count):
        ops = TritonOps(torch.device(device), torch.bfloat16)
        with Engine.of(tiny(ops), kv_tokens=1024, block_size=16) as engine:
            asked: Any = {"max_tokens": NEW_TOKENS, "temperature": 0.0, "ignore_eos": True}
            written.append(tuple(engine.generate([1, 2, 3], **asked).tokens))
    return written


def memory(lines: Lines, device: str) -> None:
    """What the device has less of, graph by graph, the largest first."""
    if device == "cpu":
        lines.skip("memory of recordings", "there is no GPU")
        return
    free = [torch.cuda.mem_get_info()[0]]

    def told(done: int, _all: int) -> None:
        free.append(torch.cuda.mem_get_info()[0])
        lines.fact(f"memory of recordings, {done}", "MB", (free[-2] - free[-1]) / 1e6)

    Both(device, told)
    lines.judge("memory of recordings", True)
