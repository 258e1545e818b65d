"""How a number of the KV is stored: float32, bfloat16, or int8 with one scale for each token and head; and how much
memory a block takes. The fourth dtype, int16, is the subject of `cells.py`."""

from __future__ import annotations

import math
from typing import Any

from stemma.kernels.cpu.attention import cells
from stemma.kernels.cpu.machine.dialect import FLOAT, I8, I16, I32, Code, Value, vector

KV_DTYPES = ("int16", "float32", "bfloat16", "int8")


def element_bytes(kv_dtype: str) -> int:
    return {"float32": 4, "bfloat16": 2, "int8": 1}[kv_dtype]


def region_bytes(head_dim: int, block_size: int, kv_dtype: str) -> int:
    """Keys, or values, of one block and head; int8 adds a float scale for each token."""
    if kv_dtype == "int16":
        return cells.block_bytes(head_dim, block_size)
    scales = 4 * block_size if kv_dtype == "int8" else 0
    return head_dim * block_size * element_bytes(kv_dtype) + scales


def load_kv(code: Code, kv_dtype: str, lanes: int, region: Value, index: Value) -> Value:
    """`lanes` neighbours as floats; int8 without its scale."""
    floats, ints = vector(FLOAT, lanes), vector(I32, lanes)
    address = region + index * element_bytes(kv_dtype)
    if kv_dtype == "float32":
        return code.load(floats, address)
    if kv_dtype == "bfloat16":
        return (code.load(vector(I16, lanes), address).widen_unsigned(ints) << 16).bits(floats)
    return code.load(vector(I8, lanes), address).to(ints).to(floats)


def store_kv(code: Code, kv_dtype: str, head_dim: int, source: Value, target: Value, scale_at: Value) -> None:
    """Convert one head's floats at `source`; `target` may be any other place."""
    lanes = math.gcd(head_dim, 16)
    floats = vector(FLOAT, lanes)
    places = [(source + d * 4, target + d * element_bytes(kv_dtype)) for d in range(0, head_dim, lanes)]
    scale = _scale(code, floats, [place for place, _ in places]) if kv_dtype == "int8" else None
    if scale is not None:
        code.store(scale, scale_at)
    for place, to in places:
        code.store(_convert(code, kv_dtype, code.load(floats, place), scale), to)


def _scale(code: Code, floats: Any, places: list[Value]) -> Value:
    peak = code.constant(floats, 0.0)
    for place in places:
        peak = code.maximum(code.absolute(code.load(floats, place)), peak)
    return code.reduce(peak, code.maximum) * (1.0 / 127)


def _convert(code: Code, kv_dtype: str, values: Value, scale: Value | None) -> Value:
    lanes = values.type.count
    ints = vector(I32, lanes)
    if kv_dtype == "float32":
        return values
    if scale is None:  # bfloat16, to the nearest, halves to even
        bits = values.bits(ints)
        rounded = bits + (bits.unsigned_shift_right(16) & 1) + 0x7FFF
        return rounded.unsigned_shift_right(16).to(vector(I16, lanes))
    inverse = code.select(scale > 1e-37, 1.0 / scale, code.constant(FLOAT, 0.0))
    whole = code.round(values * code.splat(inverse, lanes))
    return code.minimum(code.maximum(whole, -127.0), 127.0).to(ints).to(vector(I8, lanes))
