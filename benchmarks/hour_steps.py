"""first_hour.py, steps: whole steps of Llama-3-8B whose weights are made on the device.

`replay` is a step of the executor, one behind the other: what the device takes. `engine` is from one step to the next
of a whole engine; what it is above the replay is the host's, while the device has nothing to do. The floor is bytes of
weights and KV over the bandwidth of a copy.
"""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from gpu_model import LLAMA_8B, TINY, Shape, ShapedOps, shaped_model
from hour_clocks import captured_us, device_us, wall_us
from hour_layouts import decode_layout
from hour_lines import Lines

from stemma.kernels.memory import Memory
from stemma.runtime.engine import Engine


class Sizes(NamedTuple):
    """What is worth most first."""

    shape: Shape
    decode: tuple[tuple[int, int], ...]
    prompts: tuple[tuple[int, int], ...]  # cached, new
    asked: tuple[int, int]  # batch, context
    new_tokens: int


ON_DEVICE = {
    "cuda": Sizes(
        LLAMA_8B, ((16, 8192), (1, 1024), (16, 1024), (64, 1024), (256, 1024), (1, 8192), (64, 8192)),
        ((1000, 40), (0, 2048), (0, 512), (0, 8192), (0, 40)), (64, 1024), 80,
    ),
    "cpu": Sizes(TINY, ((2, 40),), ((0, 20), (40, 8)), (2, 40), 6),
}  # fmt: skip


def run(lines: Lines, device: str) -> None:
    sizes = ON_DEVICE[device]
    is_gpu = device == "cuda"
    size = 1 << 30 if is_gpu else 1 << 16
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    bandwidth = 2e-3 * size / captured_us([lambda: target.copy_(source)])
    ops = ShapedOps(torch.device(device), torch.bfloat16 if is_gpu else torch.float32)
    loaded = shaped_model(sizes.shape, ops)
    for batch, context in sizes.decode:
        case = f"decode {batch} x {context}"
        floor = (sizes.shape.weight_bytes + batch * context * sizes.shape.kv_token_bytes) / bandwidth / 1e3
        lines.attempt(f"{case}, replay", partial(replays, lines, loaded, batch, context, floor))
        lines.attempt(f"{case}, engine", partial(engine_steps, lines, loaded, batch, context, sizes))
    for cached, new in sizes.prompts:
        lines.attempt(f"{new} behind {cached}", partial(prompt, lines, loaded, cached, new))
    for name, options in ASKED.items():
        case = f"decode {sizes.asked[0]} x {sizes.asked[1]}, {name}"
        lines.attempt(case, partial(asked, lines, loaded, case, sizes, options))


ASKED: dict[str, dict[str, Any]] = {
    "top-k, top-p": {"temperature": 0.8, "top_k": 50, "top_p": 0.9},
    "log-probabilities": {"temperature": 0.8, "logprobs": 5},
    "penalties": {"temperature": 0.8, "repetition_penalty": 1.1, "presence_penalty": 0.5},
}


def fits(loaded: Any, num_tokens: int) -> bool:
    """Whether KV of so many tokens does, beside what a step needs."""
    free = loaded.model.ops.free_memory()
    layers = loaded.config.num_layers
    heads = loaded.config.heads_of(0)
    return free is None or num_tokens * 4 * layers * heads.num_kv_heads * heads.head_dim < 0.8 * free


def replays(lines: Lines, loaded: Any, batch: int, context: int, floor: float) -> None:
    case, model = f"decode {batch} x {context}, replay", loaded.model
    if not fits(loaded, batch * context):
        lines.skip(case, "its KV does not fit")
        return
    metadata = decode_layout(batch, context, 16)
    kv = model.ops.kv(loaded.config.memory_shape(metadata.block_tables.size, 16).full)
    executor = model.ops.executor(model, loaded.config.num_heads, Memory(kv))
    executor.record(lambda _done, _all: None)
    ids, rows = np.zeros(batch, np.int32), np.arange(batch, dtype=np.int32)
    step = partial(executor, ids, metadata, rows)
    together = 10 if torch.cuda.is_available() else 1

    def several() -> None:
        for _ in range(together):
            step()

    us = wall_us(several, 5) / together
    lines.fact(case, "us", us, floor, "bytes over bandwidth")
    lines.fact(f"{case}, beside its kernels", "us", us, device_us(step), "sum of its kernels")


class Clock:
    """Seconds from one step's end to the next, and how many sequences ran."""

    def __init__(self, engine: Engine) -> None:
        self.ends: list[tuple[float, int]] = []
        loop = engine._loop
        step = loop.step

        def timed() -> None:
            step()
            self.ends.append((time.perf_counter(), len(loop.scheduler.running)))

        loop.step = timed  # type: ignore[method-assign]

    def us(self, running: int) -> float:
        """Median of steps in which so many ran before and after; those that begin are left out."""
        pairs = zip(self.ends, self.ends[1:], strict=False)
        times = [after - before for (before, had), (after, has) in pairs if had == has == running]
        return 1e6 * statistics.median(times[len(times) // 4 :])


def engine_of(loaded: Any, batch: int, context: int, new_tokens: int) -> Engine:
    return Engine.of(
        loaded, kv_tokens=(batch + 1) * (context + new_tokens + 32), max_running=max(batch, 2), max_batch_tokens=8192,
        max_chunk=8192, drafts_from=("none",),
    )  # fmt: skip


def prompts_of(batch: int, context: int) -> list[list[int]]:
    numbers = random.Random(batch)
    return [[numbers.randrange(250) for _ in range(context)] for _ in range(batch)]


def decoded(loaded: Any, batch: int, context: int, new_tokens: int, options: dict[str, Any]) -> tuple[float, int]:
    """Microseconds a step, and waits that torch sees in ten steps."""
    with engine_of(loaded, batch, context, new_tokens) as engine:
        clock, prompts = Clock(engine), prompts_of(batch, context)
        engine.generate(prompts, max_tokens=new_tokens, ignore_eos=True, **options)
        us = clock.us(batch)
        return us, waits_of(lambda: engine.generate(prompts[0], max_tokens=11, ignore_eos=True, **options))


def waits_of(function: Callable[[], object]) -> int:
    """Synchronising calls that torch notices (it does not see events)."""
    if not torch.cuda.is_available():
        function()
        return 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in seen)


def engine_steps(lines: Lines, loaded: Any, batch: int, context: int, sizes: Sizes) -> None:
    case = f"decode {batch} x {context}, engine"
    if not fits(loaded, (batch + 1) * (context + sizes.new_tokens + 32)):
        lines.skip(case, "its KV does not fit")
        return
    us, waits = decoded(loaded, batch, context, sizes.new_tokens, {"temperature": 0.0})
    lines.fact(
        case, "us", us, note=f"{1e6 * batch / us:.0f} tokens/s; waits that torch sees in 11 steps of one: {waits}"
    )


def asked(lines: Lines, loaded: Any, case: str, sizes: Sizes, options: dict[str, Any]) -> None:
    us, waits = decoded(loaded, *sizes.asked, sizes.new_tokens, options)
    lines.fact(case, "us", us, note=f"waits that torch sees in 11 steps of one: {waits}")


def prompt(lines: Lines, loaded: Any, cached: int, new: int) -> None:
    """Microseconds from a prompt to its first token, the third of its kind."""
    with engine_of(loaded, 4, cached + new, 8) as engine:
        first = prompts_of(1, cached)[0] if cached else []
        if cached:
            engine.generate(first, max_tokens=1, temperature=0.0)
        times = []
        for ends in prompts_of(3, new):
            started = time.perf_counter()
            engine.generate([*first, *ends], max_tokens=1, temperature=0.0)
            times.append(time.perf_counter() - started)
    lines.fact(f"{new} behind {cached}", "us", 1e6 * times[-1], note=f"{new / times[-1]:.0f} tokens/s")
