"""Mixtures of experts: rows go to their experts, each expert multiplies its rows together, rows add up what comes back.

    row 0   experts 5, 2          places    0      1      2      3             one group for each expert that is hit:
    row 1   experts 2, 7          experts   2      2      5      7             its matrix, its places
                                  rows      0      1      0      1

Only experts that are hit are read. A row adds its experts in the order of their scores: its company changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, I64, Code, Value
from stemma.kernels.cpu.machine.exponentials import exp
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words, word_of
from stemma.kernels.cpu.products.groups import GROUP, MOST_ROWS, run_groups, whole_groups
from stemma.kernels.cpu.products.linear import layout_of
from stemma.kernels.cpu.products.pack import MismatchedWeights, PackedLinear
from stemma.kernels.cpu.products.routing import EXPERTS, ROUTE, SCORES, add_route, order_by_expert
from stemma.kernels.cpu.products.strips import SEGMENT
from stemma.kernels.cpu.rows.activations import GROUP as ROWS_TOGETHER
from stemma.kernels.cpu.rows.gates import ACTIVATIONS
from stemma.kernels.experts import ExpertsSpec, SharedExpert
from stemma.kernels.weights import StoredWeight, dequantize

WORK = ("outputs", "chosen", "weights", "starts", "row_ids", "place_of", "groups", "prepared", "gated", "results")
"""Memory for one call, addresses."""
MIX = ("experts", "weights", "place_of", "results", "residual", "scale", "shared", "shared_gate")
"""What a row adds up. scale: two floats, of what is added and of the residual, of which nothing is read for 0. shared,
shared_gate: floats (rows, hidden) and (rows, 1), or 0."""
AT_ONCE = 512
"""Rows of a call."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuExperts:
    """address: of the words EXPERTS. first_words: for each matrix, in gate_up and in down, where its words are."""

    spec: ExpertsSpec
    router: PackedLinear
    shared: SharedExpert | None
    hidden: int
    inner: int
    strides: tuple[int, int]
    address: int
    first_words: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    memory: tuple[Any, ...]

    def sizes(self, rows: int) -> dict[str, int]:
        """Bytes that a call of so many rows needs, by the names of WORK."""
        number, places = self.router.out_features, rows * self.spec.top_k
        groups = min(number, places) + places // MOST_ROWS + 1
        prepared = (places + groups * ROWS_TOGETHER) * max(self.strides)
        return {
            "outputs": 4 * rows * number, "chosen": 8 * places, "weights": 4 * places, "starts": 8 * (number + 1),
            "row_ids": 4 * places, "place_of": 8 * places, "groups": 8 * len(GROUP) * groups, "prepared": prepared,
            "gated": 4 * places * self.inner, "results": 4 * places * self.hidden,
        }  # fmt: skip


def pack_experts(
    spec: ExpertsSpec, router: PackedLinear, of_each: tuple[StoredWeight | None, StoredWeight | None],
    gate_up: Sequence[PackedLinear], down: Sequence[PackedLinear], shared: SharedExpert | None,
) -> CpuExperts:  # fmt: skip
    """of_each: corrections and scales. Raises MismatchedWeights for experts whose matrices do not fit each other."""
    hidden, inner = down[0].out_features, down[0].in_features
    shapes = {(one.in_features, one.out_features) for one in gate_up}
    wide = 2 if spec.gated else 1
    shapes |= {(one.out_features, wide * one.in_features) for one in down}
    if shapes != {(hidden, wide * inner)} or not len(gate_up) == len(down) == router.out_features:
        found = f"{len(gate_up)} and {len(down)} experts of the shapes {sorted(shapes)}"
        raise MismatchedWeights(f"{found} do not fit a router of {router.out_features}")
    one_kind = all(len({int(one.memory[0][0]) for one in each}) == 1 for each in (gate_up, down))
    whole = all(one.gate_strips or not spec.gated for one in gate_up)
    whole = whole and all(one.words[0] == 1 for one in (*gate_up, *down))
    if inner % 16 or not one_kind or not whole:
        raise MismatchedWeights(
            f"experts of {inner} features: that must be a multiple of 16, with gates and ups of one storage type"
        )
    floats = [None if each is None else np.ascontiguousarray(dequantize(each)) for each in of_each]
    correction, scales = (0 if each is None else each.ctypes.data for each in floats)
    first_words = tuple(np.array([int(one.words[3]) for one in each], dtype=np.int64) for each in (gate_up, down))
    strides = max(one.stride for one in gate_up), max(one.stride for one in down)
    values = {
        "number": router.out_features, "top_k": spec.top_k, "score": SCORES.index(spec.score),
        "renormalise": int(spec.renormalise), "scaling": word_of(spec.scaling), "groups": spec.groups,
        "top_groups": spec.top_groups, "two_best": int(spec.group_score == "two best"),
        "correction": correction, "scales": scales, "hidden": hidden, "inner": inner,
        "gate_up": first_words[0].ctypes.data, "down": first_words[1].ctypes.data,
        "gate_strips": gate_up[0].gate_strips if spec.gated else 0, "activation": ACTIVATIONS[spec.activation],
        "in_stride": strides[0], "inner_stride": strides[1],
    }  # fmt: skip
    words = np.array([values[name] for name in EXPERTS], dtype=np.int64)
    memory = (words, floats, list(gate_up), list(down))
    return CpuExperts(
        spec, router, shared, hidden, inner, strides, words.ctypes.data, (first_words[0], first_words[1]), memory
    )


def add_experts(module: ir.Module, target: Target) -> None:
    """experts(control, experts, x, norm, rows, work, residual, scale, shared, shared_gate, threads)

    work: the address of the words WORK, whose outputs the router has written. shared, shared_gate: see MIX.
    """
    add_route(module)
    mix = _add_mix(module)
    parallel = module.globals.get("parallel") or add_parallel(module)
    code = Code(module, "experts", 11)
    control, address, x, norm, rows, work, residual, scale, shared, shared_gate, threads = code.arguments
    of, at = read_words(code, address, EXPERTS), read_words(code, work, WORK)
    arguments = control + 8 * ARGUMENTS
    set_words(code, arguments, ROUTE, {"experts": address} | {name: at[name] for name in ROUTE[1:]})
    code.call(parallel, control, code.address_of(module.globals["route"]), rows)
    order_by_expert(code, at["chosen"], rows, of, (at["starts"], at["row_ids"], at["place_of"]))
    zero = code.constant(I64, 0)
    shares = rows.equals(1).widen_unsigned(I64)  # all experts multiply one row: it is prepared once
    first = {"x": x, "out": at["gated"], "matrices": of["gate_up"], "stride": of["in_stride"], "features": of["hidden"]}
    count = _write_groups(code, target, of, at, first, shares)
    job = {"groups": at["groups"], "x_stride": of["hidden"] * 4, "row_ids": at["row_ids"], "norm": norm,
           "features": of["hidden"], "stride": of["in_stride"], "out_features": of["inner"],
           "gate": of["gate_strips"], "activation": of["activation"]}  # fmt: skip
    to_prepare = code.select(shares.equals(1), code.constant(I64, 1), count)
    outputs = of["inner"] * code.select(of["gate_strips"].equals(0), code.constant(I64, 1), code.constant(I64, 2))
    run_groups(code, control, job, (count, to_prepare), outputs, threads)
    second = {"x": at["gated"], "out": at["results"], "matrices": of["down"], "stride": of["inner_stride"],
              "features": of["inner"]}  # fmt: skip
    count = _write_groups(code, target, of, at, second, zero)
    job |= {"x_stride": of["inner"] * 4, "row_ids": zero, "norm": zero, "features": of["inner"],
            "stride": of["inner_stride"], "out_features": of["hidden"], "gate": zero, "activation": zero}  # fmt: skip
    run_groups(code, control, job, (count, count), of["hidden"], threads)
    words = {"experts": address, "weights": at["weights"], "place_of": at["place_of"], "results": at["results"],
             "residual": residual, "scale": scale, "shared": shared, "shared_gate": shared_gate}  # fmt: skip
    set_words(code, arguments, MIX, words)
    code.call(parallel, control, code.address_of(mix), rows)
    code.finish()


def _write_groups(
    code: Code, target: Target, experts: dict[str, Value], at: dict[str, Value], of: dict[str, Value], shares: Value
) -> Value:
    """One for each expert that is hit, or for some of its rows; returns how many. shares: whether all are prepared at
    one place."""
    count, prepared = code.variable(0), code.variable(at["prepared"])
    with code.loop(0, experts["number"]) as expert:
        end = code.load_int(at["starts"] + (expert + 1) * 8)
        with code.loop(code.load_int(at["starts"] + expert * 8), end, MOST_ROWS) as first:
            last = code.minimum(first + MOST_ROWS, end)
            segment = code.load_int(of["matrices"] + expert * 8)
            quantized = code.load_int(segment, SEGMENT.index("quantized"))
            layout = layout_of(code, target, last - first, of["features"], quantized)
            words = {"segment": segment, "first": first, "last": last, "prepared": prepared.value, "x": of["x"],
                     "layout": layout, "out": of["out"]}  # fmt: skip
            set_words(code, at["groups"] + count.value * (8 * len(GROUP)), GROUP, words)
            count.value = count.value + 1
            step = whole_groups(last - first) * of["stride"]
            prepared.value = prepared.value + code.select(shares.differs(0), code.constant(I64, 0), step)
    return count.value


def _add_mix(module: ir.Module) -> ir.Function:
    """residual = keep * residual + scale * (sum of weight * result of each expert, in order of choice, + shared)."""
    code = Code(module, "mix_experts", 3)
    address, row, _ = code.arguments
    job = read_words(code, address, MIX)
    experts = read_words(code, job["experts"], EXPERTS)
    hidden, top_k = experts["hidden"], experts["top_k"]
    share = code.variable(code.constant(FLOAT, 1.0))
    with code.when(job["shared_gate"].differs(0)):
        gate = code.load(FLOAT, job["shared_gate"] + row * 4)
        share.value = 1.0 / (exp(code, 0.0 - gate) + 1.0)
    whole = hidden // 16 * 16
    for start, stop, type_, step in ((code.constant(I64, 0), whole, FLOATS16, 16), (whole, hidden, FLOAT, 1)):

        def spread(number: Value, type_: Any = type_) -> Value:
            return code.splat(number, 16) if type_ == FLOATS16 else number

        scale, kept = spread(job["scale"].to(I32).bits(FLOAT)), job["scale"].unsigned_shift_right(32).to(I32)
        with code.loop(start, stop, step) as column:
            total = code.variable(code.constant(type_, 0.0))
            with code.loop(row * top_k, (row + 1) * top_k) as i:
                place = code.load_int(job["place_of"] + i * 8)
                result = code.load(type_, job["results"] + (place * hidden + column) * 4)
                total.value = code.fma(spread(code.load(FLOAT, job["weights"] + i * 4)), result, total.value)
            with code.when(job["shared"].differs(0)):
                result = code.load(type_, job["shared"] + (row * hidden + column) * 4)
                total.value = code.fma(spread(share.value), result, total.value)
            at = job["residual"] + (row * hidden + column) * 4
            before = code.select(kept.equals(0), code.constant(type_, 0.0), code.load(type_, at))
            code.store(code.fma(scale, total.value, before * spread(kept.bits(FLOAT))), at)
    return code.finish()
