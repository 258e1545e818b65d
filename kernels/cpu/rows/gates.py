"""Activations of an MLP, with a gate or without one, and soft caps. Products apply them to sums before these are stored
(`products/strips.py`); `gate` is for what cannot be gated there.

Error: a few units in the last place of the result, also far from 0 (`tests/kernels/cpu/test_activations.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, Code, Value
from stemma.kernels.cpu.machine.exponentials import exp
from stemma.kernels.cpu.machine.words import read_words

GATE = ("both", "out", "rows", "half", "columns_per_piece", "column_pieces", "activation")
PLAIN, SILU, GELU, GELU_TANH, RELU2, CLAMPED_SILU, CAP = range(7)
ACTIVATIONS: Mapping[str, int] = MappingProxyType(
    {"silu": SILU, "gelu": GELU, "gelu_tanh": GELU_TANH, "relu2": RELU2, "clamped_silu": CLAMPED_SILU}
)
"""What the words of a job call them. CAP is tanh(x / scale), which the product then multiplies by its scale."""
TANH_SERIES = (
    -0.006096940953284502,
    0.02099735662341118,
    -0.05385095253586769,
    0.13332770764827728,
    -0.333333283662796,
)
"""(tanh(x) / x - 1) / x**2 by powers of x**2, the highest first, for |x| <= 0.625, to a relative error of 1.4e-7."""
TAIL_SERIES = (
    5.367187623050995e-05, 0.00011554377124411985, -0.00033948488999158144, -0.0009837584802880883,
    0.0029045562259852886, 0.006132070440798998, -0.046213291585445404, 0.12322503328323364, -0.20640261471271515,
    0.12151394784450531,
)  # fmt: skip
"""exp(x**2 / 2) times the normal distribution's tail beyond x, by powers of (x - 3) / (x + 3), the highest first, for
x from 0 to 14, to a relative error of 8e-9 (before the coefficients are rounded)."""


def silu(code: Code, gate: Value) -> Value:
    return gate / (exp(code, 0.0 - gate) + 1.0)


def _series(code: Code, factors: tuple[float, ...], x: Value) -> Value:
    total = code.like(x, factors[0])
    for factor in factors[1:]:
        total = code.fma(total, x, code.like(x, factor))
    return total


def tanh(code: Code, x: Value) -> Value:
    size = code.minimum(code.absolute(x), 10.0)
    square = size * size
    near = code.fma(_series(code, TANH_SERIES, square) * square, size, size)
    far = 1.0 - 2.0 / (exp(code, size + size) + 1.0)
    result = code.select(size < 0.625, near, far)
    return code.select(x < 0.0, 0.0 - result, result)


def gelu(code: Code, x: Value) -> Value:
    """x times the normal distribution up to x (Hendrycks and Gimpel 2016)."""
    size = code.minimum(code.absolute(x), 14.0)
    square = size * size
    rest = code.fma(size, size, 0.0 - square)  # what rounding took from the square
    power = exp(code, square * -0.5) * code.fma(rest, code.like(x, -0.5), code.like(x, 1.0))
    tail = power * _series(code, TAIL_SERIES, (size - 3.0) / (size + 3.0))
    return x * code.select(x < 0.0, tail, 1.0 - tail)


def gelu_tanh(code: Code, x: Value) -> Value:
    inner = x * code.fma(x * x, code.like(x, 0.044715 * 1.5957691216057308), code.like(x, 1.5957691216057308))
    return x / (exp(code, 0.0 - inner) + 1.0)


def relu2(code: Code, x: Value) -> Value:
    positive = code.maximum(x, 0.0)
    return positive * positive


_FUNCTIONS = MappingProxyType({SILU: silu, GELU: gelu, GELU_TANH: gelu_tanh, RELU2: relu2})


def activate(module: ir.Module) -> ir.Function:
    """activate(activation, values, scale): 16 floats in place. One function for all who need it rarely enough."""
    found = module.globals.get("activate")
    if found is not None:
        return found
    code = Code(module, "activate", 3)
    code.function.attributes.add("noinline")
    chosen, values, scale = code.arguments
    x = code.load(FLOATS16, values)
    for number, function in _FUNCTIONS.items():
        with code.when(chosen.equals(number)):
            code.store(function(code, x), values)
    with code.when(chosen.equals(CAP)):
        code.store(tanh(code, x / code.splat(scale.to(I32).bits(FLOAT), 16)), values)
    return code.finish()


def activate_gates(module: ir.Module) -> ir.Function:
    """activate_gates(activation, gates, ups, out): 16 floats each."""
    found = module.globals.get("activate_gates")
    if found is not None:
        return found
    plain = activate(module)
    code = Code(module, "activate_gates", 4)
    code.function.attributes.add("noinline")
    chosen, gates, ups, out = code.arguments
    with code.either(chosen.equals(CLAMPED_SILU)) as (clamped, others):
        with clamped:
            gate = code.minimum(code.load(FLOATS16, gates), 7.0)
            up = code.maximum(code.minimum(code.load(FLOATS16, ups), 7.0), -7.0)
            code.store(gate / (exp(code, gate * -1.702) + 1.0) * (up + 1.0), out)
        with others:
            code.call(plain, chosen, gates, chosen)
            code.store(code.load(FLOATS16, gates) * code.load(FLOATS16, ups), out)
    return code.finish()


def add_gate(module: ir.Module) -> None:
    """gate: out = activation(first half) * second half of each row."""
    function = activate_gates(module)
    code = Code(module, "gate", 3)
    address, piece, scratch = code.arguments
    job = read_words(code, address, GATE)
    row, part = piece // job["column_pieces"], piece % job["column_pieces"]
    first = part * job["columns_per_piece"]
    last = code.minimum(first + job["columns_per_piece"], job["half"])
    gates = job["both"] + row * job["half"] * 8
    ups, out = gates + job["half"] * 4, job["out"] + row * job["half"] * 4
    whole = first + (last - first) // 16 * 16
    with code.loop(first, whole, 16) as i:
        code.call(function, job["activation"], gates + i * 4, ups + i * 4, out + i * 4)
    with code.loop(whole, last) as i:
        code.store(code.broadcast(FLOAT, gates + i * 4, 16), scratch)
        code.store(code.broadcast(FLOAT, ups + i * 4, 16), scratch + 64)
        code.call(function, job["activation"], scratch, scratch + 64, scratch + 64)
        code.store(code.load(FLOAT, scratch + 64), out + i * 4)
    code.finish()
