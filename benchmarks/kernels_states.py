"""The CPU kernels of layers with a state, one operation at a time, beside what the machine allows.

    python benchmarks/kernels_states.py [--json FILE] [--threads N] [--repeats N] [--only NAME]

Shapes of Qwen3.5-0.8B, LFM2-350M and Mamba-2 130M. Each operation runs in all layers of its model in turn, and decode
steps in turn with slots of many sequences, so that they find states in memory and not in a cache. `us` is microseconds
a token for all layers, the best of several, and `ideal` the larger of two: bytes that must be read and written at the
speed of a copy, and multiply-adds at the speed that the cores have in registers, both measured in the same run. A copy
reads what it writes over, so a state may go out faster.

With one thread, time is that of its CPU, which means something on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir

from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.dialect import FLOATS16, Code
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.steps import Recording
from stemma.kernels.states import DeltaRuleSpec, LayerState, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.weights import StoredWeight

PREFILL = 512
TURNS = 12
"""Sequences whose decode steps are timed together."""
CHAIN, ROUNDS = 16, 1 << 20


class Case(NamedTuple):
    """One operation of one model. run: (ops, states, layer, plan, tokens). state_floats: read and written once a step;
    row_floats: of all inputs and outputs of a token; adds: vectors of 16 multiply-adds a token."""

    name: str
    layers: int
    state: LayerState
    run: Callable[..., object]
    state_floats: int
    row_floats: int
    adds: float


def weight(shape: tuple[int, ...], seed: int = 0) -> StoredWeight:
    values = np.random.default_rng(seed).normal(size=shape, scale=0.3)
    return StoredWeight("F32", shape, values.astype(np.float32))


def conv(ops: CpuOps, name: str, layers: int, channels: int, taps: int, activation: Any) -> Case:
    handle, x = ops.states.conv(weight((channels, taps)), None), torch.randn(PREFILL, channels).numpy()

    def run(states: Any, layer: int, plan: Any, tokens: int) -> object:
        return ops.states.short_conv(x[:tokens], handle, activation, states, layer, plan)

    state = LayerState(conv=(channels, taps - 1))
    adds = channels / 16 * (taps + (20 if activation == "silu" else 0))
    return Case(name, layers, state, run, state.conv_size, 2 * channels, adds)


def delta(ops: CpuOps, name: str, layers: int, spec: DeltaRuleSpec) -> Case:
    heads = spec.value_heads
    handle = ops.states.delta_rule(spec, weight((heads,)), weight((heads,), 1))
    inputs = [torch.randn(PREFILL, width).numpy() for width in (spec.width, heads, heads)]

    def run(states: Any, layer: int, plan: Any, tokens: int) -> object:
        return ops.states.gated_delta(*(x[:tokens] for x in inputs), handle, states, layer, plan)

    state = LayerState(recurrent=(heads, spec.key_dim, spec.value_dim))
    return Case(name, layers, state, run, state.size, spec.width + heads * spec.value_dim, 4 * state.size / 16)


def scan(ops: CpuOps, name: str, layers: int, spec: Mamba2Spec) -> Case:
    handle = ops.states.mamba2(spec, *(weight((spec.heads,), seed) for seed in range(3)))
    inputs = [torch.randn(PREFILL, width).numpy() for width in (spec.width, spec.heads)]

    def run(states: Any, layer: int, plan: Any, tokens: int) -> object:
        return ops.states.selective_scan(*(x[:tokens] for x in inputs), handle, states, layer, plan)

    state = LayerState(recurrent=(spec.heads, spec.head_dim, spec.state))
    return Case(name, layers, state, run, state.size, spec.width + spec.heads * spec.head_dim, 3 * state.size / 16)


def gated(ops: CpuOps, name: str, layers: int, groups: int, part: int) -> Case:
    norm, width = ops.norm(weight((part,)), 1e-6), groups * part
    x, gate = torch.randn(PREFILL, width).numpy(), torch.randn(PREFILL, width).numpy()

    def run(states: Any, layer: int, plan: Any, tokens: int) -> object:
        return ops.states.gated_norm(x[:tokens], gate[:tokens], norm, groups, gate_first=False)

    return Case(name, layers, LayerState(), run, 0, 3 * width, 24 * width / 16)


def cases(ops: CpuOps) -> list[Case]:
    return [
        delta(ops, "Qwen3.5-0.8B gated_delta", 18, DeltaRuleSpec(16, 16, 128, 128)),
        conv(ops, "Qwen3.5-0.8B short_conv", 18, 6144, 4, "silu"),
        gated(ops, "Qwen3.5-0.8B gated_norm", 18, 16, 128),
        conv(ops, "LFM2-350M short_conv", 10, 1024, 3, "none"),
        scan(ops, "Mamba-2 130M selective_scan", 24, Mamba2Spec(24, 64, 1, 128)),
        conv(ops, "Mamba-2 130M short_conv", 24, 1792, 4, "silu"),
    ]


def plan_of(ops: CpuOps, shape: StateShape, tokens: int, slots: tuple[int, int]) -> Any:
    arrays = (np.array(each, dtype=np.int32) for each in ([0, 1], [0, tokens], [slots[0]], [slots[1]]))
    return ops.states.plan(StateMetadata(*arrays), shape)


def seconds_of(run: Callable[[], object], repeats: int, threads: int) -> float:
    clock = time.thread_time if threads == 1 else time.perf_counter
    run()
    times = []
    for _ in range(repeats):
        started = clock()
        run()
        times.append(clock() - started)
    return min(times)


def bandwidth(threads: int) -> float:
    """Bytes a second that a copy reads and writes together, beyond any cache."""
    torch.set_num_threads(threads)
    source, target = torch.zeros(64 << 20), torch.ones(64 << 20)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source), 3, threads)


def adds_a_second(ops: CpuOps) -> float:
    """Multiply-adds of 16 floats a second on all threads, in registers."""

    def write(module: ir.Module) -> None:
        code = Code(module, "chain", 2)
        sums = [code.variable(code.constant(FLOATS16, 0.5 + i)) for i in range(CHAIN)]
        factor = code.load(FLOATS16, code.arguments[0])
        with code.loop(0, code.arguments[1]):
            for each in sums:
                each.value = code.fma(each.value, factor, factor)
        for i, each in enumerate(sums):
            code.store(each.value, code.arguments[0] + 64 * i)
        code.finish()

    library = compile.load("chain", write, ops.target, ("chain", CHAIN), ops.cache_dir)
    chain, room = library.function("chain", 2), np.zeros(16 * CHAIN, np.float32)
    return ops.num_threads * CHAIN * ROUNDS / seconds_of(lambda: chain(room.ctypes.data, ROUNDS), 3, 1)


def measure(ops: CpuOps, case: Case, limits: tuple[float, float], repeats: int) -> dict[str, Any]:
    shape = StateShape(2 * TURNS, (case.state,) * case.layers)
    states = ops.states.allocate(shape)
    states.memory[...] = 0  # or all slots would be read from the system's one page of zeros
    row: dict[str, Any] = {"name": case.name}
    for kind, tokens in (("prefill", PREFILL), ("decode", 1)):
        plans = [
            plan_of(ops, shape, tokens, slots) for slots in zip(range(TURNS), range(TURNS, 2 * TURNS), strict=True)
        ]

        with ops.recorded() as calls:
            for plan in plans[: 1 if tokens > 1 else TURNS]:
                for layer in range(case.layers):
                    case.run(states, layer, plan, tokens)
        commands = Recording.of(calls, (), np.empty(0, dtype=np.float32), (), ops.product).commands

        def run(commands: Any = commands) -> None:
            ops.replay(commands, [], 1)

        steps = TURNS if tokens == 1 else tokens
        us = 1e6 * seconds_of(run, repeats, ops.num_threads) / steps
        moved = 4 * (2 * case.state_floats / tokens + case.row_floats)
        ideal = 1e6 * case.layers * max(moved / limits[0], case.adds / limits[1])
        row |= {f"{kind}_us": round(us, 2), f"{kind}_ideal_us": round(ideal, 2), f"{kind}_ratio": round(us / ideal, 2)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    ops = CpuOps(num_threads=arguments.threads)
    limits = bandwidth(arguments.threads), adds_a_second(ops)
    print(
        f"{ops.target.name}: {limits[0] / 1e9:.1f} GB/s of a copy, {limits[1] / 1e9:.2f} G multiply-adds of 16 a second"
    )
    rows = [measure(ops, case, limits, arguments.repeats) for case in cases(ops) if arguments.only in case.name]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if arguments.json:
        report = {"target": ops.target.name, "threads": arguments.threads, "bytes_a_second": limits[0],
                  "adds_a_second": limits[1], "rows": rows}  # fmt: skip
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
