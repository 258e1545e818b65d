"""Powers of e and of two as a kernel computes them: a series on a remainder, its whole part put into the exponent.

The bits are the same on every target and for every number of lanes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import I32, Code, Value

ROUNDING = 1.5 * 2**23
"""A float below 2^22 in size, plus this, is rounded to an integer (halves to even), which stands in the lowest bits."""
EXP2_SERIES = (
    0.0013264727785512367, 0.009671512997037602, 0.05550733744013306, 0.240222420794676, 0.6931469775975989,
)  # fmt: skip
"""2**x - 1 for |x| <= 1/2 to a relative error of 9e-8, from x**5 to x (minimax with 2**0 = 1)."""


def _integers(x: Value) -> Any:
    return ir.VectorType(I32, x.type.count) if isinstance(x.type, ir.VectorType) else I32


def exp(code: Code, x: Value) -> Value:
    """e**x to about 2 units in the last place; exactly 1 at 0, exactly 0 below -87 (so also at -inf)."""
    clamped = code.minimum(code.maximum(x, -87.0), 88.0)
    whole = code.round(clamped * 1.44269504088896341)
    rest = code.fma(whole, code.like(x, -0.693145751953125), clamped)
    rest = code.fma(whole, code.like(x, -1.428606765330187e-06), rest)
    series = code.like(x, 1.0 / 5040)
    for factorial in (720, 120, 24, 6, 2, 1, 1):
        series = code.fma(series, rest, code.like(x, 1.0 / factorial))
    power = ((whole.to(_integers(x)) + 127) << 23).bits(x.type)
    return code.select(x < -87.0, 0.0, series * power)


def exp2(code: Code, x: Value) -> Value:
    """2**x to about 2 units in the last place; exactly 1 at 0, exactly 0 below -126 and where x is not a number."""
    integers = _integers(x)
    shifted = x + ROUNDING
    rest = x - (shifted - ROUNDING)
    series = code.like(x, EXP2_SERIES[0])
    for factor in (*EXP2_SERIES[1:], 1.0):
        series = code.fma(series, rest, code.like(x, factor))
    power = (series.bits(integers) + (shifted.bits(integers) << 23)).bits(x.type)
    return code.select(x >= -126.0, power, code.like(x, 0.0))
