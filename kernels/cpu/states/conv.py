"""The short causal convolution along each sequence: a sum of a few inputs of one channel.

A row's inputs are the step's own rows before it, and before the sequence's first row what its slot kept:

    slot (earlier inputs, oldest first)  |  rows of the step
       -3        -2        -1            |  0     1     2 ...        4 taps: row 1 reads -2, -1, 0 and 1

Threads take some channels of a sequence; every row adds its taps in one order, from the oldest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, I64, Code, Value
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.rows.gates import silu
from stemma.kernels.cpu.states.slots import LANES, PIECES, padded
from stemma.kernels.weights import StoredWeight, dequantize

CONV = ("weights", "bias", "zeros", "channels")
"""The words of a convolution: addresses of (taps, padded channels), of (padded channels,), of as many zeros."""
JOB = ("x", "x_stride", "out", "conv", "state", "slot_stride", "plan", "silu", "block", "blocks")
"""Strides are bytes. block: channels of a unit; blocks: units of a sequence."""
LEAST, MOST = 64, 512
"""Channels of a unit: below, threads are not worth it; above, a few rows of them leave the nearest cache."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuConv:
    """address: of the words CONV."""

    taps: int
    address: int
    memory: tuple[Any, ...]


def make_conv(weight: StoredWeight, bias: StoredWeight | None) -> CpuConv:
    channels, taps = weight.shape
    weights, added, zeros = (np.zeros((rows, padded(channels)), np.float32) for rows in (taps, 1, 1))
    weights[:, :channels] = dequantize(weight).numpy().T
    if bias is not None:
        added[0, :channels] = dequantize(bias).numpy()
    arrays: tuple[npt.NDArray[np.float32], ...] = (weights, added, zeros)
    words = np.array([*(array.ctypes.data for array in arrays), channels], dtype=np.int64)
    return CpuConv(taps, words.ctypes.data, (words, *arrays))


def add_short_conv(module: ir.Module, taps: int) -> None:
    """short_conv(control, x, x_stride, out, conv, state, slot_stride, plan, silu, threads)"""
    parallel = module.globals.get("parallel") or add_parallel(module)
    kernel = _add_unit(module, taps)
    code = Code(module, "short_conv", 10)
    control, *given, threads = code.arguments
    words = dict(zip(JOB, given, strict=False))
    channels = read_words(code, words["conv"], CONV)["channels"]
    sequences = read_words(code, words["plan"], PIECES)["sequences"]
    share = (channels * sequences // (threads * 4) + LANES) // LANES * LANES
    block = code.minimum(code.maximum(share, LEAST), MOST)
    blocks = (channels + block - 1) // block
    set_words(code, control + 8 * ARGUMENTS, JOB, words | {"block": block, "blocks": blocks})
    code.call(parallel, control, code.address_of(kernel), sequences * blocks)
    code.finish()


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One sequence's rows of a step. start: its first row. before: of its first channel in the oldest input kept, or
    among zeros; step: bytes from one kept input to the next, 0 among zeros."""

    code: Code
    job: dict[str, Value]
    start: Value
    before: Value
    step: Value
    earlier: int

    def input(self, row: Value) -> Value:
        """The address of a row's first channel, of this step or kept."""
        own = self.job["x"] + row * self.job["x_stride"]
        kept = self.before + (row - self.start + self.earlier) * self.step
        return self.code.select(row < self.start, kept, own)


def _add_unit(module: ir.Module, taps: int) -> ir.Function:
    code = Code(module, "conv_unit", 3)
    address, unit, _ = code.arguments
    job = read_words(code, address, JOB)
    conv, plan = read_words(code, job["conv"], CONV), read_words(code, job["plan"], PIECES)
    number = unit // job["blocks"]
    first = unit % job["blocks"] * job["block"]
    last = code.minimum(first + job["block"], conv["channels"])
    width = (conv["channels"] + (LANES - 1)) // LANES * (4 * LANES)
    piece, end = (code.load(I32, plan["rows"] + (number + i) * 4).to(I64) for i in (0, 1))
    source = code.load(I32, plan["sources"] + piece * 4).to(I64)
    begins = source < 0
    before = code.select(begins, conv["zeros"], job["state"] + source * job["slot_stride"])
    step = code.select(begins, code.constant(I64, 0), width)
    start = code.load(I32, plan["starts"] + piece * 4).to(I64)
    sequence = Sequence(code, job, start, before, step, taps - 1)
    with code.loop(piece, end) as index:
        rows = [code.load(I32, plan["starts"] + (index + i) * 4).to(I64) for i in (0, 1)]
        with code.either(job["silu"].equals(0)) as (plain, gated):
            for branch, activated in ((plain, False), (gated, True)):
                with branch, code.loop(*rows) as row:
                    _write_row(sequence, conv, row, (first, last), activated)
        slot = job["state"] + code.load(I32, plan["targets"] + index * 4).to(I64) * job["slot_stride"]
        for kept in range(taps - 1):
            _copy(code, sequence.input(rows[1] + (kept - taps + 1)), slot + width * kept, (first, last))
    return code.finish()


def _write_row(
    sequence: Sequence, conv: dict[str, Value], row: Value, channels: tuple[Value, Value], activated: bool
) -> None:
    code, job, earlier = sequence.code, sequence.job, sequence.earlier
    inputs = [sequence.input(row - (earlier - tap)) for tap in range(earlier + 1)]
    size = conv["channels"] * 4
    stride = (conv["channels"] + (LANES - 1)) // LANES * (4 * LANES)
    out = job["out"] + row * size
    for type_, start, stop, by in _parts(code, channels):
        with code.loop(start, stop, by) as channel:
            place = channel * 4
            total = code.load(type_, conv["bias"] + place)
            for tap, address in enumerate(inputs):
                weight = code.load(type_, conv["weights"] + stride * tap + place)
                total = code.fma(weight, code.load(type_, address + place), total)
            code.store(silu(code, total) if activated else total, out + place)


def _copy(code: Code, source: Value, target: Value, channels: tuple[Value, Value]) -> None:
    for type_, start, stop, by in _parts(code, channels):
        with code.loop(start, stop, by) as channel:
            code.store(code.load(type_, source + channel * 4), target + channel * 4)


def _parts(code: Code, channels: tuple[Value, Value]) -> list[tuple[Any, Value, Value, int]]:
    """Whole vectors, then single channels."""
    first, last = channels
    whole = first + (last - first) // LANES * LANES
    return [(FLOATS16, first, whole, LANES), (FLOAT, whole, last, 1)]
