"""Kernels on rows of logits: the largest, and masks."""

from __future__ import annotations

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I16, I32, I64, INTS16, Code, Value
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.rows.embed import ROWS


def add_table(module: ir.Module) -> None:
    """largest: index of the largest; mask: -inf where a bit is 0; `each_row` runs them, and kernels of embeddings."""
    _add_largest(module)
    _add_mask(module)
    parallel = module.globals.get("parallel") or add_parallel(module)
    code = Code(module, "each_row", 8)
    control, kernel, rows, *rest = code.arguments
    set_words(code, control + 8 * ARGUMENTS, ROWS, dict(zip(ROWS, rest, strict=True)))
    code.call(parallel, control, kernel, rows)
    code.finish()


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
