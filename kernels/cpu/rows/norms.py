"""Norms of rows and of heads, in float32: RMS norms, and layer norms with or without a bias.

words of a norm    address of its weights, epsilon (a float), address of its bias, 1 for a layer norm, features
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, I64, Code, Value
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.cpu.rows.embed import ROWS
from stemma.kernels.weights import StoredWeight, dequantize

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class CpuNorm:
    """address: of the words. bias: None in an RMS norm."""

    address: int
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None
    epsilon: float
    memory: tuple[npt.NDArray[Any], ...]


def make_norm(weight: StoredWeight, bias: StoredWeight | None, epsilon: float, *, centred: bool) -> CpuNorm:
    values = np.ascontiguousarray(dequantize(weight))
    added = np.zeros_like(values) if bias is None else np.ascontiguousarray(dequantize(bias))
    words = np.array([values.ctypes.data, 0, added.ctypes.data, int(centred), len(values)], dtype=np.int64)
    words[1:].view(np.float32)[0] = epsilon
    return CpuNorm(words.ctypes.data, values, added if centred else None, epsilon, (words, added))


def normed_rows(x: Floats, norm: CpuNorm) -> Floats:
    """By numpy, in double precision: once a request, and no row's sum depends on the others."""
    rows, epsilon = x.astype(np.float64), float(np.float32(norm.epsilon))
    if norm.bias is not None:
        rows = rows - rows.mean(axis=-1, keepdims=True)
    normed = rows / np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + epsilon) * norm.weight
    found: Floats = (normed if norm.bias is None else normed + norm.bias).astype(np.float32)
    return found


def address_of(norm: CpuNorm | None) -> int:
    return norm.address if norm is not None else 0


def features_of(code: Code, norm: Value) -> Value:
    return code.load_int(norm, 4)


def is_centred(code: Code, norm: Value) -> Value:
    return code.load_int(norm, 3)


def _parts(code: Code, norm: Value) -> tuple[Value, Value]:
    """Address of the weights, epsilon."""
    return code.load_int(norm), code.load(FLOAT, norm + 8)


def inverse_root(code: Code, x: Value, count: Value, norm: Value) -> Value:
    """1 / sqrt(mean(x^2) + epsilon) of `count` floats at x."""
    whole = count // 16 * 16
    squares = code.variable(code.constant(FLOATS16, 0.0))
    with code.loop(0, whole, 16) as i:
        values = code.load(FLOATS16, x + i * 4)
        squares.value = code.fma(values, values, squares.value)
    total = code.variable(code.sum(squares.value))
    with code.loop(whole, count) as i:
        single = code.load(FLOAT, x + i * 4)
        total.value = code.fma(single, single, total.value)
    return 1.0 / code.sqrt(total.value / count.to(FLOAT) + _parts(code, norm)[1])


def copy_normed(code: Code, x: Value, target: Value, norm: Value, features: Value, filled: int) -> None:
    """The row, normed unless norm is 0, filled up with zeros to a multiple of `filled`."""
    whole = features // 16 * 16
    padded = (features + (filled - 1)) // filled * filled
    with code.loop(whole, padded) as i:
        code.store(code.constant(FLOAT, 0.0), target + i * 4)
    with code.either(norm.equals(0)) as (plain, asked):
        with plain:
            with code.loop(0, whole, 16) as i:
                code.store(code.load(FLOATS16, x + i * 4), target + i * 4)
            with code.loop(whole, features) as i:
                code.store(code.load(FLOAT, x + i * 4), target + i * 4)
        with asked, code.either(is_centred(code, norm).equals(0)) as (by_root, centred):
            with by_root:
                _copy_by_root(code, x, target, norm, features)
            with centred:
                _copy_centred(code, x, target, norm, features)


def _copy_by_root(code: Code, x: Value, target: Value, norm: Value, features: Value) -> None:
    whole = features // 16 * 16
    weights = code.load_int(norm)
    scale = inverse_root(code, x, features, norm)
    scales = code.splat(scale, 16)
    with code.loop(0, whole, 16) as i:
        normed = code.load(FLOATS16, x + i * 4) * scales * code.load(FLOATS16, weights + i * 4)
        code.store(normed, target + i * 4)
    with code.loop(whole, features) as i:
        single = code.load(FLOAT, x + i * 4) * scale * code.load(FLOAT, weights + i * 4)
        code.store(single, target + i * 4)


def _copy_centred(
    code: Code, x: Value, target: Value, norm: Value, features: Value, first: Value | None = None
) -> None:  # fmt: skip
    """A layer norm: what the row's mean leaves is written first, then scaled where it stands. first: of the weights,
    where these are not the row's alone."""
    whole, count = features // 16 * 16, features.to(FLOAT)
    weights, epsilon = _parts(code, norm)
    bias = code.load_int(norm, 2)
    if first is not None:
        weights, bias = weights + first * 4, bias + first * 4
    sums = code.variable(code.constant(FLOATS16, 0.0))
    with code.loop(0, whole, 16) as i:
        sums.value = sums.value + code.load(FLOATS16, x + i * 4)
    total = code.variable(code.sum(sums.value))
    with code.loop(whole, features) as i:
        total.value = total.value + code.load(FLOAT, x + i * 4)
    mean = total.value / count
    sums.value, means = code.constant(FLOATS16, 0.0), code.splat(mean, 16)
    with code.loop(0, whole, 16) as i:
        rest = code.load(FLOATS16, x + i * 4) - means
        sums.value = code.fma(rest, rest, sums.value)
        code.store(rest, target + i * 4)
    total.value = code.sum(sums.value)
    with code.loop(whole, features) as i:
        single = code.load(FLOAT, x + i * 4) - mean
        total.value = code.fma(single, single, total.value)
        code.store(single, target + i * 4)
    scale = 1.0 / code.sqrt(total.value / count + epsilon)
    scales = code.splat(scale, 16)
    for start, stop, type_, step, factor in ((0, whole, FLOATS16, 16, scales), (whole, features, FLOAT, 1, scale)):
        with code.loop(start, stop, step) as i:
            normed = code.load(type_, target + i * 4) * factor * code.load(type_, weights + i * 4)
            code.store(normed + code.load(type_, bias + i * 4), target + i * 4)


def norm_head(code: Code, x: Value, out: Value, norm: Value, features: Value, width: int) -> None:
    """A head, or all heads of a token as one, to `out`, which may be its own place. features: `width`, at run time."""
    weights = code.load_int(norm)
    scale = inverse_root(code, x, features, norm)
    with code.loop(0, width) as i:
        code.store(code.load(FLOAT, x + i * 4) * scale * code.load(FLOAT, weights + i * 4), out + i * 4)


def norm_head_centred(code: Code, x: Value, out: Value, norm: Value, head: Value, width: int) -> None:
    """A layer norm of one head, by weights of its own."""
    _copy_centred(code, x, out, norm, code.constant(I64, width), head * width)


def add_norm_add(module: ir.Module) -> None:
    """norm_add, for `each_row`: out = keep * out + scale * norm(first). second: the norm's words. The word `scale` is
    two floats, of which `keep` is the other; where that is 0, nothing of out is read."""
    code = Code(module, "norm_add", 3)
    address, row, scratch = code.arguments
    job = read_words(code, address, ROWS)
    width = job["width"]
    copy_normed(code, job["first"] + row * width * 4, scratch, job["second"], width, 16)
    scale, kept = job["scale"].to(I32).bits(FLOAT), job["scale"].unsigned_shift_right(32).to(I32)
    out, whole, keep = job["out"] + row * width * 4, width // 16 * 16, kept.bits(FLOAT)
    for start, stop, type_, step in ((code.constant(I64, 0), whole, FLOATS16, 16), (whole, width, FLOAT, 1)):
        factors = [code.splat(factor, 16) if step == 16 else factor for factor in (scale, keep)]
        with code.loop(start, stop, step) as i:
            place = out + i * 4
            before = code.select(kept.equals(0), code.constant(type_, 0.0), code.load(type_, place))
            code.store(before * factors[1] + factors[0] * code.load(type_, scratch + i * 4), place)
    code.finish()
