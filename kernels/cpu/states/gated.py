"""Gates beside a row, and norms with a gate, each part of a row by itself. Rows may be columns of a wider product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I64, Code, Value
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.rows.gates import silu
from stemma.kernels.cpu.states.lanes import sigmoid
from stemma.kernels.cpu.states.slots import LANES

GATE = ("x", "x_stride", "gate", "gate_stride", "out", "rows", "width", "activation", "block", "blocks")
NORM = ("x", "x_stride", "gate", "gate_stride", "norm", "out", "rows", "parts", "width", "weight_step", "gate_first",
        "per_piece")  # fmt: skip
"""parts: of a row, each of `width`. weight_step: bytes from one part's weights to the next one's. Strides are bytes."""
NONE, SIGMOID, SILU = range(3)
ACTIVATIONS: Mapping[str, int] = MappingProxyType({"none": NONE, "sigmoid": SIGMOID, "silu": SILU})
FUNCTIONS: Mapping[int, Callable[[Code, Value], Value]] = MappingProxyType(
    {NONE: lambda _, x: x, SIGMOID: sigmoid, SILU: silu}
)
LEAST = 2048
"""Numbers of a piece: fewer are not worth another thread."""


def add_gated(module: ir.Module) -> None:
    """gate(control, x, x_stride, gate, gate_stride, out, rows, width, activation, threads)
    gated_norm(control, x, x_stride, gate, gate_stride, norm, out, rows, parts, width, weight_step, gate_first, threads)
    """
    parallel = module.globals.get("parallel") or add_parallel(module)
    _add_gate(module, parallel)
    _add_norm(module, parallel)


def _parts(first: Value, last: Value) -> list[tuple[Any, Value, Value, int]]:
    """Whole vectors, then single numbers."""
    whole = first + (last - first) // LANES * LANES
    return [(FLOATS16, first, whole, LANES), (FLOAT, whole, last, 1)]


def _add_gate(module: ir.Module, parallel: ir.Function) -> None:
    kernel = _add_gate_unit(module)
    code = Code(module, "gate", 10)
    control, *given, threads = code.arguments
    words = dict(zip(GATE, given, strict=False))
    rows, width = words["rows"], words["width"]
    share = (rows * width // (threads * 4) + LANES) // LANES * LANES
    block = code.minimum(code.maximum(share, LEAST), (width + (LANES - 1)) // LANES * LANES)
    blocks = (width + block - 1) // block
    set_words(code, control + 8 * ARGUMENTS, GATE, words | {"block": block, "blocks": blocks})
    code.call(parallel, control, code.address_of(kernel), rows * blocks)
    code.finish()


def _add_gate_unit(module: ir.Module) -> ir.Function:
    code = Code(module, "gate_unit", 3)
    address, unit, _ = code.arguments
    job = read_words(code, address, GATE)
    row, first = unit // job["blocks"], unit % job["blocks"] * job["block"]
    last = code.minimum(first + job["block"], job["width"])
    x, gate = (job[name] + row * job[f"{name}_stride"] for name in ("x", "gate"))
    out = job["out"] + row * job["width"] * 4
    for activation, function in FUNCTIONS.items():
        with code.when(job["activation"].equals(activation)):
            for type_, start, stop, step in _parts(first, last):
                with code.loop(start, stop, step) as i:
                    gates = function(code, code.load(type_, gate + i * 4))
                    code.store(code.load(type_, x + i * 4) * gates, out + i * 4)
    return code.finish()


def _add_norm(module: ir.Module, parallel: ir.Function) -> None:
    kernel = _add_norm_piece(module)
    code = Code(module, "gated_norm", 13)
    control, *given, threads = code.arguments
    words = dict(zip(NORM, given, strict=False))
    total = words["rows"] * words["parts"]
    share = (total + threads * 4 - 1) // (threads * 4)
    per_piece = code.minimum(code.maximum(share, code.constant(I64, LEAST) // words["width"]), total)
    set_words(code, control + 8 * ARGUMENTS, NORM, words | {"per_piece": per_piece})
    code.call(parallel, control, code.address_of(kernel), (total + per_piece - 1) // per_piece)
    code.finish()


def _add_norm_piece(module: ir.Module) -> ir.Function:
    code = Code(module, "norm_piece", 3)
    address, piece, _ = code.arguments
    job = read_words(code, address, NORM)
    parts, size = job["parts"], job["width"] * 4
    first = piece * job["per_piece"]
    with code.loop(first, code.minimum(first + job["per_piece"], job["rows"] * parts)) as index:
        row, part = index // parts, index % parts
        x, gate = (job[name] + row * job[f"{name}_stride"] + part * size for name in ("x", "gate"))
        out = job["out"] + index * size
        weights = code.load_int(job["norm"]) + part * job["weight_step"]
        with code.either(job["gate_first"].equals(0)) as (behind, before):
            with behind:
                _norm_part(code, job, (x, gate, weights, out), gate_first=False)
            with before:
                _norm_part(code, job, (x, gate, weights, out), gate_first=True)
    return code.finish()


def _norm_part(code: Code, job: dict[str, Value], places: tuple[Value, ...], *, gate_first: bool) -> None:
    """places: of x, gate, weights, out."""
    x, gate, weights, out = places
    width = job["width"]
    squares, total = code.variable(code.constant(FLOATS16, 0.0)), code.variable(code.constant(FLOAT, 0.0))
    for (type_, start, stop, step), sums in zip(_parts(width * 0, width), (squares, total), strict=True):
        with code.loop(start, stop, step) as i:
            value = code.load(type_, x + i * 4)
            if gate_first:
                value = value * silu(code, code.load(type_, gate + i * 4))
                code.store(value, out + i * 4)
            sums.value = code.fma(value, value, sums.value)
    mean = (code.sum(squares.value) + total.value) / width.to(FLOAT)
    scale = 1.0 / code.sqrt(mean + code.load(FLOAT, job["norm"] + 8))
    for (type_, start, stop, step), factor in zip(
        _parts(width * 0, width), (code.splat(scale, LANES), scale), strict=True
    ):
        with code.loop(start, stop, step) as i:
            value = code.load(type_, (out if gate_first else x) + i * 4) * factor * code.load(type_, weights + i * 4)
            if not gate_first:
                value = value * silu(code, code.load(type_, gate + i * 4))
            code.store(value, out + i * 4)
