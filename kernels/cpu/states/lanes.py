"""Vectors of LANES floats at the end of a row, where there are fewer of them, and the functions that gates need."""

from __future__ import annotations

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, Code, Value, vector
from stemma.kernels.cpu.machine.exponentials import exp
from stemma.kernels.cpu.states.slots import LANES

TERMS = (1 / 17, 1 / 15, 1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3)
"""atanh(z) / z - 1 by powers of z**2 from the eighth on, to a relative error of 2e-10 for z <= 1/3."""


def load_lanes(code: Code, address: Value, count: int) -> Value:
    """The first `count` lanes; zeros behind them. Reads nothing behind them."""
    if count == LANES:
        return code.load(FLOATS16, address)
    part = code.load(vector(FLOAT, count), address)
    return code.shuffle(part, code.constant(part.type, 0.0), [min(lane, count) for lane in range(LANES)])


def store_lanes(code: Code, value: Value, address: Value, count: int) -> None:
    """The first `count` lanes, and nothing behind them."""
    code.store(value if count == LANES else code.shuffle(value, value, range(count)), address)


def counts_of(width: int) -> list[tuple[int, int]]:
    """The vectors of a row: where each begins, and its lanes."""
    return [(first, min(LANES, width - first)) for first in range(0, width, LANES)]


def sigmoid(code: Code, x: Value) -> Value:
    return 1.0 / (exp(code, 0.0 - x) + 1.0)


def softplus(code: Code, x: Value) -> Value:
    """log(1 + exp(x)): the larger of x and 0, and log(1 + u) = 2 atanh(u / (2 + u)) of u = exp(-|x|), at most 1."""
    u = exp(code, 0.0 - code.absolute(x))
    z = u / (u + 2.0)
    square = z * z
    series = code.like(x, TERMS[0])
    for term in TERMS[1:]:
        series = code.fma(series, square, code.like(x, term))
    atanh = code.fma(series * square, z, z)
    return code.fma(atanh, code.like(x, 2.0), code.maximum(x, 0.0))
