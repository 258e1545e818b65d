"""Kernels on tables of rows: rows of an embedding, and the largest logit or the mask of rows of logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import (
    BYTES16,
    FLOAT,
    FLOATS16,
    HALF,
    I16,
    I32,
    I64,
    INTS16,
    Code,
    Value,
    vector,
)
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.ops import Int32Array
from stemma.kernels.weights import StoredWeight, dequantize

ROWS = ("first", "second", "out", "width")
STORED = {"F32": 64, "F16": 32, "BF16": 32, "Q8_0": 34, "Q4_0": 18, "Q4_1": 20}
"""Storage types whose rows are read by compiled code: bytes of 16 values, or of a block of 32."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuEmbedding:
    """A table that stays as it is stored. kernel: 0 for types that `dequantize` must read."""

    weight: StoredWeight
    kernel: int
    address: int
    row_bytes: int

    def rows(self, ids: Int32Array) -> torch.Tensor:
        """The slow way, for every type."""
        return dequantize(StoredWeight(self.weight.type, (len(ids), *self.weight.shape[1:]), self.weight.data[ids]))


def embedding(weight: StoredWeight, addresses: dict[str, int]) -> CpuEmbedding:
    """Wrap a table. Rows that compiled code reads must be contiguous and whole vectors long."""
    readable = weight.type in STORED and weight.shape[1] % 32 == 0 and weight.data.flags.c_contiguous
    kernel = addresses[f"embed_{weight.type}"] if readable else 0
    return CpuEmbedding(weight, kernel, weight.data.ctypes.data, weight.data.strides[0])


def add_table(module: ir.Module) -> None:
    """embed_*: rows of a table; largest: index of the largest; mask: -inf where a bit is 0; `each_row` runs them."""
    for type_ in STORED:
        _add_embed(module, type_)
    _add_largest(module)
    _add_mask(module)
    parallel = module.globals.get("parallel") or add_parallel(module)
    code = Code(module, "each_row", 7)
    control, kernel, rows, *rest = code.arguments
    set_words(code, control + 8 * ARGUMENTS, ROWS, dict(zip(ROWS, rest, strict=True)))
    code.call(parallel, control, kernel, rows)
    code.finish()


def _add_embed(module: ir.Module, type_: str) -> None:
    """first: the table; second: ids; out: float rows; width: values of a row, a multiple of 32."""
    code = Code(module, f"embed_{type_}", 3)
    address, row, _ = code.arguments
    job = read_words(code, address, ROWS)
    row_bytes = job["width"] // (32 if type_[0] == "Q" else 16) * STORED[type_]
    source = job["first"] + code.load(I32, job["second"] + row * 4).to(I64) * row_bytes
    out = job["out"] + row * job["width"] * 4
    with code.loop(0, job["width"] // 32) as block:
        for half, values in enumerate(_block(code, type_, source, block)):
            code.store(values, out + (block * 128 + 64 * half))
    code.finish()


def _block(code: Code, type_: str, source: Value, block: Value) -> list[Value]:
    """32 values as the type defines them, in the operations `gguf.quants` uses."""
    if type_[0] != "Q":
        places = [source + (block * 2 + half) * STORED[type_] for half in (0, 1)]
        if type_ == "BF16":
            return [(code.load(vector(I16, 16), p).widen_unsigned(INTS16) << 16).bits(FLOATS16) for p in places]
        return [code.load(vector(FLOAT if type_ == "F32" else HALF, 16), p).to(FLOATS16) for p in places]
    start = source + block * STORED[type_]
    scale = code.broadcast(HALF, start, 16).to(FLOATS16)
    if type_ == "Q8_0":
        return [code.load(BYTES16, start + (2 + 16 * half)).to(INTS16).to(FLOATS16) * scale for half in (0, 1)]
    packed = code.load(BYTES16, start + (4 if type_ == "Q4_1" else 2)).widen_unsigned(INTS16)
    nibbles = [packed & 15, packed >> 4]
    if type_ == "Q4_0":
        return [(n - 8).to(FLOATS16) * scale for n in nibbles]
    minimum = code.broadcast(HALF, start + 2, 16).to(FLOATS16)
    return [n.to(FLOATS16) * scale + minimum for n in nibbles]


def _add_largest(module: ir.Module) -> None:
    """first: float rows; out: int32 for each row; width: values of a row. The lowest index among equals."""
    code = Code(module, "largest", 3)
    address, row, _ = code.arguments
    job = read_words(code, address, ROWS)
    values = job["first"] + row * job["width"] * 4
    whole = job["width"] // 64 * 64
    lowest = code.constant(FLOATS16, float("-inf"))
    tops = [code.variable(lowest) for _ in range(4)]
    with code.loop(0, whole, 64) as i:
        for part, top in enumerate(tops):
            top.value = code.maximum(top.value, code.load(FLOATS16, values + (i + 16 * part) * 4))
    both = [code.maximum(tops[0].value, tops[1].value), code.maximum(tops[2].value, tops[3].value)]
    best = code.variable(code.reduce(code.maximum(*both), code.maximum))
    with code.loop(whole, job["width"]) as i:
        best.value = code.maximum(best.value, code.load(FLOAT, values + i * 4))
    found = code.variable(0)

    def largest_of_64() -> Value:
        parts = [code.load(FLOATS16, values + (found.value + 16 * part) * 4) for part in range(4)]
        halves = code.maximum(parts[0], parts[1]), code.maximum(parts[2], parts[3])
        return code.reduce(code.maximum(*halves), code.maximum)

    step = code.variable(64)  # to the 64 where it stands first, then to its place among them
    with code.repeat(lambda: (found.value < whole) & step.value.differs(0)):
        step.value = code.select(largest_of_64() < best.value, 64, code.constant(I64, 0))
        found.value = found.value + step.value
    with code.repeat(lambda: (found.value < job["width"]) & (code.load(FLOAT, values + found.value * 4) < best.value)):
        found.value = found.value + 1
    code.store(code.minimum(found.value, job["width"] - 1).to(I32), job["out"] + row * 4)
    code.finish()


def _add_mask(module: ir.Module) -> None:
    """first: float rows; second: bits of each mask; out: the row of each mask; width: values of a row."""
    code = Code(module, "mask", 3)
    address, index, _ = code.arguments
    job = read_words(code, address, ROWS)
    values = job["first"] + code.load(I32, job["out"] + index * 4).to(I64) * job["width"] * 4
    bits = job["second"] + index * ((job["width"] + 31) // 32 * 4)
    lanes = code.constant(INTS16, [1 << lane for lane in range(16)])
    refused = code.constant(FLOATS16, float("-inf"))
    whole = job["width"] // 16 * 16
    with code.loop(0, whole, 16) as i:
        word = code.splat(code.load(I16, bits + i // 8).widen_unsigned(I32), 16)
        kept = code.load(FLOATS16, values + i * 4)
        code.store(code.select((word & lanes).equals(0), refused, kept), values + i * 4)
    with code.loop(whole, job["width"]) as i:
        word32 = code.load(I32, bits + i // 32 * 4).unsigned_shift_right((i % 32).to(I32))
        with code.when((word32 & 1).equals(0)):
            code.store(code.constant(FLOAT, float("-inf")), values + i * 4)
    code.finish()
