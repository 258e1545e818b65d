"""The gated delta rule on panels of a head's values (`walk.py`): a column of the state depends on no other one.

Reading a panel for what is kept of a key and writing it anew would be two passes a token; while a token's panel is
written, it is read for the next token's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, Code, Value
from stemma.kernels.cpu.machine.exponentials import exp
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.cpu.states.lanes import counts_of, load_lanes, sigmoid, softplus, store_lanes
from stemma.kernels.cpu.states.slots import LANES, addresses, padded
from stemma.kernels.cpu.states.walk import SUMS, Kernels, Panel, Sizes, add_walk, prepared_tokens, rows_of
from stemma.kernels.states import DeltaRuleSpec
from stemma.kernels.weights import StoredWeight, dequantize

RULE = ("decay", "dt_bias")
"""The words of a rule: addresses of (padded heads,) each; decay is -A."""
GIVEN = ("x", "x_stride", "first", "first_stride", "second", "second_stride", "out", "rule", "prepared", "state",
         "slot_stride", "plan", "tokens")  # fmt: skip
"""first: betas. second: time steps."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuDelta:
    """address: of the words RULE."""

    spec: DeltaRuleSpec
    sizes: Sizes
    address: int
    memory: tuple[Any, ...]


def sizes_of(spec: DeltaRuleSpec) -> Sizes:
    keys = 2 * spec.key_heads * spec.key_dim
    return Sizes(spec.value_heads, spec.key_dim, spec.value_dim, spec.key_heads, keys)


def numbers_of_heads(weight: StoredWeight) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Filled up to whole vectors."""
    values = dequantize(weight).astype(np.float64)
    return np.pad(values, (0, padded(len(values)) - len(values)))


def make_delta(spec: DeltaRuleSpec, decay: StoredWeight, dt_bias: StoredWeight) -> CpuDelta:
    given = -np.exp(numbers_of_heads(decay)), numbers_of_heads(dt_bias)
    arrays = tuple(array.astype(np.float32) for array in given)
    words = np.array(addresses(arrays), dtype=np.int64)
    return CpuDelta(spec, sizes_of(spec), words.ctypes.data, (words, *arrays))


def add_gated_delta(module: ir.Module, spec: DeltaRuleSpec) -> None:
    """gated_delta(control, qkv, its stride, beta, its stride, step, its stride, out, rule, prepared, state,
    slot_stride, plan, tokens, threads)"""
    repeated, shared = spec.value_heads // spec.key_heads, spec.key_heads

    def group(head: Value) -> Value:
        return head // repeated if spec.grouped == "repeat" else head % shared

    kernels = Kernels(_add_prepare(module, spec), DeltaRule, group)
    add_walk(module, "gated_delta", GIVEN, sizes_of(spec), kernels)


def _add_prepare(module: ir.Module, spec: DeltaRuleSpec) -> ir.Function:
    size, keys = 4 * spec.key_dim, 4 * spec.key_heads * spec.key_dim
    with prepared_tokens(module, "delta_prepare") as (code, job, token):
        row = job["x"] + token * job["x_stride"]
        with code.loop(0, spec.key_heads) as head:
            place = job["prepared"] + (head * job["tokens"] + token) * (2 * size)
            _copy_unit(code, row + keys + head * size, place, spec.key_dim, 1.0)
            _copy_unit(code, row + head * size, place + size, spec.key_dim, spec.key_dim**-0.5)
        rule = read_words(code, job["rule"], RULE)
        betas, steps = (job[name] + token * job[f"{name}_stride"] for name in ("first", "second"))
        for first, count in counts_of(spec.value_heads):
            time = load_lanes(code, steps + 4 * first, count) + code.load(FLOATS16, rule["dt_bias"] + 4 * first)
            factor = exp(code, code.load(FLOATS16, rule["decay"] + 4 * first) * softplus(code, time))
            place = job["numbers"] + token * (8 * padded(spec.value_heads)) + 4 * first
            code.store(factor, place)
            weight = sigmoid(code, load_lanes(code, betas + 4 * first, count))
            code.store(weight, place + 4 * padded(spec.value_heads))
    return code.function


def _copy_unit(code: Code, source: Value, target: Value, width: int, scale: float) -> None:
    """A head's row of length `scale`."""
    parts = [(4 * first, load_lanes(code, source + 4 * first, count), count) for first, count in counts_of(width)]
    squares = code.constant(FLOATS16, 0.0)
    for _, part, _ in parts:
        squares = code.fma(part, part, squares)
    root = code.sqrt(code.sum(squares) + code.constant(FLOAT, 1e-6))
    factor = code.splat(code.constant(FLOAT, scale) / root, LANES)
    for place, part, count in parts:
        store_lanes(code, part * factor, target + place, count)


class DeltaRule:
    """`Rule`. Carries the sums of what the state has for the next key from token to token."""

    def __init__(self, panel: Panel) -> None:
        self._panel, self._code = panel, panel.code
        zero = panel.code.constant(FLOATS16, 0.0)
        self._found, self._outs = ([panel.code.variable(zero) for _ in range(SUMS)] for _ in range(2))

    def begin(self, state: Value, token: Value) -> None:
        code, (key, _) = self._code, self._panel.prepared(token)
        self._clear(self._found)
        for row, count in rows_of(code, self._panel.sizes.depth):
            for i in range(count):
                kept = code.load(FLOATS16, state + row * (4 * LANES) + 4 * LANES * i)
                self._add(self._found, i, code.broadcast(FLOAT, key + row * 4 + 4 * i, LANES), kept)

    def advance(self, source: Value, target: Value, token: Value, following: Value | None) -> None:
        code, panel = self._code, self._panel
        key, query = panel.prepared(token)
        next_key = None if following is None else panel.prepared(following)[0]
        factor, weight = panel.numbers(token)
        found = self._found[0].value + self._found[1].value
        error = weight * code.fma(0.0 - factor, found, panel.value(token))
        self._clear(self._found + self._outs)
        for row, count in rows_of(code, panel.sizes.depth):
            lines = [row * (4 * LANES) + 4 * LANES * i for i in range(count)]
            news = [code.load(FLOATS16, source + line) * factor for line in lines]
            for i in range(count):
                at = row * 4 + 4 * i
                news[i] = code.fma(code.broadcast(FLOAT, key + at, LANES), error, news[i])
                self._add(self._outs, i, code.broadcast(FLOAT, query + at, LANES), news[i])
                if next_key is not None:
                    self._add(self._found, i, code.broadcast(FLOAT, next_key + at, LANES), news[i])
            for line, new in zip(lines, news, strict=True):
                panel.put(new, source + line, target + line, following)
        panel.write(token, self._outs[0].value + self._outs[1].value)

    def _clear(self, sums: list[Any]) -> None:
        for each in sums:
            each.value = self._code.constant(FLOATS16, 0.0)

    def _add(self, sums: list[Any], row: int, factor: Value, line: Value) -> None:
        place = sums[row % SUMS]
        place.value = self._code.fma(factor, line, place.value)
