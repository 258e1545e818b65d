"""Mamba-2's scan on panels of a head's outputs (`walk.py`): a row of the state depends on no other one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, Value
from stemma.kernels.cpu.machine.exponentials import exp
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.cpu.states.delta import numbers_of_heads
from stemma.kernels.cpu.states.lanes import counts_of, load_lanes, softplus, store_lanes
from stemma.kernels.cpu.states.slots import LANES, addresses, padded
from stemma.kernels.cpu.states.walk import SUMS, Kernels, Panel, Sizes, add_walk, prepared_tokens, rows_of
from stemma.kernels.states import Mamba2Spec
from stemma.kernels.weights import StoredWeight

SCAN = ("decay", "dt_bias", "skip", "low", "high")
"""The words of a scan: addresses of (padded heads,) each; decay is -A; then addresses of floats."""
GIVEN = ("x", "x_stride", "first", "first_stride", "out", "rule", "prepared", "state", "slot_stride", "plan", "tokens")
"""first: time steps."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuScan:
    """address: of the words SCAN."""

    spec: Mamba2Spec
    sizes: Sizes
    address: int
    memory: tuple[Any, ...]


def sizes_of(spec: Mamba2Spec) -> Sizes:
    return Sizes(spec.heads, spec.state, spec.head_dim, spec.groups, 0)


def make_scan(spec: Mamba2Spec, decay: StoredWeight, skip: StoredWeight, dt_bias: StoredWeight) -> CpuScan:
    given = -np.exp(numbers_of_heads(decay)), numbers_of_heads(dt_bias), numbers_of_heads(skip)
    limits = np.array([spec.low]), np.array([spec.high])
    arrays = tuple(array.astype(np.float32) for array in (*given, *limits))
    words = np.array(addresses(arrays), dtype=np.int64)
    return CpuScan(spec, sizes_of(spec), words.ctypes.data, (words, *arrays))


def add_selective_scan(module: ir.Module, spec: Mamba2Spec) -> None:
    """selective_scan(control, x, its stride, step, its stride, out, scan, prepared, state, slot_stride, plan, tokens,
    threads)"""
    per_group = spec.heads // spec.groups
    kernels = Kernels(_add_prepare(module, spec), Scan, lambda head: head // per_group)
    add_walk(module, "selective_scan", GIVEN, sizes_of(spec), kernels)


def _add_prepare(module: ir.Module, spec: Mamba2Spec) -> ir.Function:
    size, heads = 4 * spec.state, 4 * padded(spec.heads)
    with prepared_tokens(module, "scan_prepare") as (code, job, token):
        row = job["x"] + token * job["x_stride"] + 4 * spec.heads * spec.head_dim
        with code.loop(0, spec.groups) as group:
            place = job["prepared"] + (group * job["tokens"] + token) * (2 * size)
            for side in (0, 1):
                for first, count in counts_of(spec.state):
                    part = load_lanes(code, row + (group + side * spec.groups) * size + 4 * first, count)
                    store_lanes(code, part, place + side * size + 4 * first, count)
        scan = read_words(code, job["rule"], SCAN)
        low, high = (code.broadcast(FLOAT, scan[name], LANES) for name in ("low", "high"))
        steps = job["first"] + token * job["first_stride"]
        for first, count in counts_of(spec.heads):
            time = load_lanes(code, steps + 4 * first, count) + code.load(FLOATS16, scan["dt_bias"] + 4 * first)
            time = code.minimum(code.maximum(softplus(code, time), low), high)
            place = job["numbers"] + token * (2 * heads) + 4 * first
            code.store(exp(code, code.load(FLOATS16, scan["decay"] + 4 * first) * time), place)
            code.store(time, place + heads)
    return code.function


class Scan:
    """`Rule`."""

    def __init__(self, panel: Panel) -> None:
        self._panel, self._code = panel, panel.code
        self._outs = [panel.code.variable(panel.code.constant(FLOATS16, 0.0)) for _ in range(SUMS)]
        skip = read_words(panel.code, panel.job["rule"], SCAN)["skip"]
        self._skip = panel.code.broadcast(FLOAT, skip + panel.head * 4, LANES)

    def begin(self, state: Value, token: Value) -> None:
        """Nothing."""

    def advance(self, source: Value, target: Value, token: Value, following: Value | None) -> None:
        code, panel = self._code, self._panel
        into, out_of = panel.prepared(token)
        factor, time = panel.numbers(token)
        value = panel.value(token)
        added = time * value
        for each in self._outs:
            each.value = code.constant(FLOATS16, 0.0)
        for row, count in rows_of(code, panel.sizes.depth):
            lines = [row * (4 * LANES) + 4 * LANES * i for i in range(count)]
            news = [code.load(FLOATS16, source + line) * factor for line in lines]
            for i in range(count):
                at = row * 4 + 4 * i
                news[i] = code.fma(code.broadcast(FLOAT, into + at, LANES), added, news[i])
                out = self._outs[i % SUMS]
                out.value = code.fma(code.broadcast(FLOAT, out_of + at, LANES), news[i], out.value)
            for line, new in zip(lines, news, strict=True):
                panel.put(new, source + line, target + line, following)
        panel.write(token, code.fma(self._skip, value, self._outs[0].value + self._outs[1].value))
