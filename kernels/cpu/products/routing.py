"""A router's outputs to the experts of each row and their weights, and to rows ordered by expert."""

from __future__ import annotations

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, I64, Code, Value
from stemma.kernels.cpu.machine.exponentials import exp
from stemma.kernels.cpu.machine.words import read_words

EXPERTS = ("number", "top_k", "score", "renormalise", "scaling", "groups", "top_groups", "two_best", "correction",
           "scales", "hidden", "inner", "gate_up", "down", "gate_strips", "activation", "in_stride",
           "inner_stride")  # fmt: skip
"""What a layer's experts are. scaling: a float; correction, scales, gate_up, down: addresses, of a float for each
expert (0 is none) and of the words of each matrix; strides: of prepared rows."""
SCORES = ("softmax", "sigmoid", "softmax of the chosen")
ROUTE = ("experts", "outputs", "chosen", "weights")
"""outputs: floats (rows, experts). chosen: numbers (rows, top_k); weights: floats (rows, top_k)."""
LOWEST = float("-inf")


def add_route(module: ir.Module) -> None:
    """route: (arguments, row, scratch), in the scratch scores, then what experts are chosen by."""
    code = Code(module, "route", 3)
    address, row, scratch = code.arguments
    job = read_words(code, address, ROUTE)
    experts = read_words(code, job["experts"], EXPERTS)
    number, top_k = experts["number"], experts["top_k"]
    padded = (number + 15) // 16 * 16
    scores, choice = scratch, scratch + padded * 4
    _write_scores(code, experts, job["outputs"] + row * number * 4, scores, padded)
    with code.loop(0, padded, 16) as i:
        code.store(code.load(FLOATS16, scores + i * 4), choice + i * 4)
    with code.when(experts["correction"].differs(0)), code.loop(0, number) as i:
        code.store(code.load(FLOAT, choice + i * 4) + code.load(FLOAT, experts["correction"] + i * 4), choice + i * 4)
    with code.when(experts["groups"] > 1):
        _leave_best_groups(code, experts, choice, choice + padded * 4)
    chosen, weights = job["chosen"] + row * top_k * 8, job["weights"] + row * top_k * 4
    with code.loop(0, top_k) as nth:
        best, _ = _take_largest(code, choice, number)
        code.store(best, chosen + nth * 8, 8)
        code.store(code.load(FLOAT, scores + best * 4), weights + nth * 4)
    _weigh(code, experts, weights)
    with code.when(experts["scales"].differs(0)), code.loop(0, top_k) as nth:
        factor = code.load(FLOAT, experts["scales"] + code.load_int(chosen + nth * 8) * 4)
        code.store(code.load(FLOAT, weights + nth * 4) * factor, weights + nth * 4)
    code.finish()


def _write_scores(code: Code, experts: dict[str, Value], outputs: Value, scores: Value, padded: Value) -> None:
    lowest, zero = code.constant(FLOATS16, LOWEST), code.constant(FLOATS16, 0.0)
    code.store(lowest, scores + (padded - 16) * 4)
    with code.loop(0, experts["number"]) as i:
        code.store(code.load(FLOAT, outputs + i * 4), scores + i * 4)
    with code.when(experts["score"].equals(SCORES.index("sigmoid"))), code.loop(0, padded, 16) as i:
        x = code.load(FLOATS16, scores + i * 4)
        code.store(1.0 / (exp(code, 0.0 - x) + 1.0), scores + i * 4)
    with code.when(experts["score"].equals(SCORES.index("softmax"))):
        top, total = code.variable(lowest), code.variable(zero)
        with code.loop(0, padded, 16) as i:
            top.value = code.maximum(top.value, code.load(FLOATS16, scores + i * 4))
        base = code.splat(code.reduce(top.value, code.maximum), 16)
        with code.loop(0, padded, 16) as i:
            power = exp(code, code.load(FLOATS16, scores + i * 4) - base)
            total.value = total.value + power
            code.store(power, scores + i * 4)
        sums = code.splat(code.sum(total.value), 16)
        with code.loop(0, padded, 16) as i:
            code.store(code.load(FLOATS16, scores + i * 4) / sums, scores + i * 4)


def _take_largest(code: Code, values: Value, count: Value) -> tuple[Value, Value]:
    """Number and value of the first of the largest of `count` floats; it is made the lowest."""
    best, found = code.variable(code.constant(FLOAT, LOWEST)), code.variable(0)
    with code.loop(0, count) as i:
        value = code.load(FLOAT, values + i * 4)
        larger = value > best.value
        found.value = code.select(larger, i, found.value)
        best.value = code.select(larger, value, best.value)
    code.store(code.constant(FLOAT, LOWEST), values + found.value * 4)
    return found.value, best.value


def _leave_best_groups(code: Code, experts: dict[str, Value], choice: Value, room: Value) -> None:
    """Experts of all groups but the best ones become the lowest. room: scores of groups, 1 for those left, a group."""
    groups, number = experts["groups"], experts["number"]
    size = number // groups
    left, group_room = room + groups * 4, room + groups * 12
    with code.loop(0, groups) as group:
        code.store(code.constant(I64, 0), left + group * 8)
        with code.loop(0, size) as i:
            code.store(code.load(I32, choice + (group * size + i) * 4), group_room + i * 4)
        best = code.variable(_take_largest(code, group_room, size)[1])
        with code.when(experts["two_best"].differs(0)):
            best.value = best.value + _take_largest(code, group_room, size)[1]
        code.store(best.value, room + group * 4)
    with code.loop(0, experts["top_groups"]):
        code.store(code.constant(I64, 1), left + _take_largest(code, room, groups)[0] * 8)
    with code.loop(0, number) as i, code.when(code.load(I64, left + i // size * 8).equals(0)):
        code.store(code.constant(FLOAT, LOWEST), choice + i * 4)


def _weigh(code: Code, experts: dict[str, Value], weights: Value) -> None:
    """From the scores of those chosen to their weights."""
    top_k = experts["top_k"]
    whole = code.variable(code.constant(FLOAT, 1.0))
    with code.when(experts["score"].equals(SCORES.index("softmax of the chosen"))):
        top, total = code.variable(code.constant(FLOAT, LOWEST)), code.variable(code.constant(FLOAT, 0.0))
        with code.loop(0, top_k) as i:
            top.value = code.maximum(top.value, code.load(FLOAT, weights + i * 4))
        with code.loop(0, top_k) as i:
            power = exp(code, code.load(FLOAT, weights + i * 4) - top.value)
            total.value = total.value + power
            code.store(power, weights + i * 4)
        whole.value = total.value
        _divide(code, weights, top_k, whole.value)
    with code.when(experts["renormalise"].differs(0)):
        total = code.variable(code.constant(FLOAT, 0.0))
        with code.loop(0, top_k) as i:
            total.value = total.value + code.load(FLOAT, weights + i * 4)
        _divide(code, weights, top_k, total.value)
    scaling = experts["scaling"].to(I32).bits(FLOAT)
    with code.loop(0, top_k) as i:
        code.store(code.load(FLOAT, weights + i * 4) * scaling, weights + i * 4)


def _divide(code: Code, weights: Value, count: Value, total: Value) -> None:
    with code.loop(0, count) as i:
        code.store(code.load(FLOAT, weights + i * 4) / total, weights + i * 4)


def order_by_expert(
    code: Code, chosen: Value, rows: Value, experts: dict[str, Value], places: tuple[Value, Value, Value]
) -> None:
    """places: of the first place of each expert (and behind the last, one more), of the row at each place (integers of
    32 bits), and of the place of each (row, choice)."""
    starts, row_ids, place_of = places
    number, top_k = experts["number"], experts["top_k"]
    with code.loop(0, number + 1) as i:
        code.store(code.constant(I64, 0), starts + i * 8, 8)
    with code.loop(0, rows * top_k) as i:
        counted = starts + code.load_int(chosen + i * 8) * 8
        code.store(code.load_int(counted) + 1, counted, 8)
    before = code.variable(0)
    with code.loop(0, number + 1) as i:
        here = code.load_int(starts + i * 8)
        code.store(before.value, starts + i * 8, 8)
        before.value = before.value + here
    with code.loop(0, rows * top_k) as i:
        start = starts + code.load_int(chosen + i * 8) * 8
        place = code.load_int(start)
        code.store((i // top_k).to(I32), row_ids + place * 4)
        code.store(place, place_of + i * 8, 8)
        code.store(place + 1, start, 8)
    with code.loop(0, number) as i:  # each start stands where the next expert's began
        at = number - i
        code.store(code.load_int(starts + at * 8 - 8), starts + at * 8, 8)
    code.store(code.constant(I64, 0), starts, 8)
