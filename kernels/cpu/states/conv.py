"""The short causal convolution along each sequence: a sum of a few inputs of one channel.

A row's inputs are the step's own rows before it, and before the sequence's first row what its slot kept:

    slot (earlier inputs, oldest first)  |  rows of the step
       -3        -2        -1            |  0     1     2 ...        4 taps: row 1 reads -2, -1, 0 and 1

Threads take some channels of a sequence; every row adds its taps in one order, from the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, I64, Code, Value
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.rows.gates import silu
from stemma.kernels.cpu.states.slots import LANES, PIECES, addresses, padded
from stemma.kernels.weights import StoredWeight, dequantize

CONV = ("weights", "bias", "zeros", "channels")
"""The words of a convolution: addresses of (taps, padded channels), of (padded channels,), of a vector of zeros."""
JOB = ("x", "x_stride", "out", "conv", "state", "slot_stride", "plan", "silu", "block", "blocks")
"""Strides are bytes. block: channels of a unit; blocks: units of a sequence."""
VECTOR = 4 * LANES
LEAST, MOST = 64, 512
"""Channels of a unit: fewer read little of a row at a time; more, and a few rows of them leave the nearest cache. MOST
is also how many numbers a unit computes at least: fewer are not worth another thread."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuConv:
    """address: of the words CONV."""

    taps: int
    address: int
    memory: tuple[Any, ...]


def make_conv(weight: StoredWeight, bias: StoredWeight | None) -> CpuConv:
    channels, taps = weight.shape
    weights, added, zeros = (np.zeros((rows, padded(channels)), np.float32) for rows in (taps, 1, 1))
    weights[:, :channels] = dequantize(weight).T
    if bias is not None:
        added[0, :channels] = dequantize(bias)
    arrays: tuple[npt.NDArray[np.float32], ...] = (weights, added, zeros)
    words = np.array([*addresses(arrays), channels], dtype=np.int64)
    return CpuConv(taps, words.ctypes.data, (words, *arrays))


def add_short_conv(module: ir.Module, taps: int) -> None:
    """short_conv(control, x, x_stride, out, conv, state, slot_stride, plan, silu, threads)"""
    parallel = module.globals.get("parallel") or add_parallel(module)
    kernel = _add_unit(module, taps)
    code = Code(module, "short_conv", 10)
    control, *given, threads = code.arguments
    words = dict(zip(JOB, given, strict=False))
    channels = read_words(code, words["conv"], CONV)["channels"]
    plan = read_words(code, words["plan"], PIECES)
    sequences = plan["sequences"]
    pieces = code.load(I32, plan["rows"] + sequences * 4).to(I64)
    tokens = code.load(I32, plan["starts"] + pieces * 4).to(I64)
    worth = (sequences * MOST // tokens + (LANES - 1)) // LANES * LANES
    share = (channels * sequences // (threads * 4) + LANES) // LANES * LANES
    block = code.minimum(code.maximum(share, code.maximum(worth, LEAST)), MOST)
    blocks = (channels + block - 1) // block
    set_words(code, control + 8 * ARGUMENTS, JOB, words | {"block": block, "blocks": blocks})
    code.call(parallel, control, code.address_of(kernel), sequences * blocks)
    code.finish()


class Line(NamedTuple):
    """An input of all channels: where the first vector stands, and bytes from one vector to the next."""

    address: Value
    step: Value

    def place(self, channel: Value) -> Value:
        inside = channel.unsigned_modulo(LANES) * 4
        return self.address + channel.unsigned_divide(LANES) * self.step + inside

    def dense(self, channel: Value) -> Value:
        """The same of vectors side by side."""
        return self.address + channel * 4


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One sequence's rows of a step. start: its first row. before: the oldest input kept; zeros have step 0."""

    code: Code
    job: dict[str, Value]
    start: Value
    before: Line
    earlier: int

    def input(self, row: Value) -> Line:
        """A row's, of this step or kept."""
        code, is_kept = self.code, row < self.start
        own = self.job["x"] + row * self.job["x_stride"]
        offset = code.select(self.before.step.equals(0), 0, (row - self.start + self.earlier) * VECTOR)
        address = code.select(is_kept, self.before.address + offset, own)
        return Line(address, code.select(is_kept, self.before.step, code.constant(I64, VECTOR)))


def _add_unit(module: ir.Module, taps: int) -> ir.Function:
    code = Code(module, "conv_unit", 3)
    address, unit, _ = code.arguments
    job = read_words(code, address, JOB)
    conv, plan = read_words(code, job["conv"], CONV), read_words(code, job["plan"], PIECES)
    number = unit // job["blocks"]
    first = unit % job["blocks"] * job["block"]
    channels = first, code.minimum(first + job["block"], conv["channels"])
    piece, end = (code.load(I32, plan["rows"] + (number + i) * 4).to(I64) for i in (0, 1))
    source = code.load(I32, plan["sources"] + piece * 4).to(I64)
    kept = Line(job["state"] + source * job["slot_stride"], code.constant(I64, VECTOR * (taps - 1)))
    before = Line(code.select(source < 0, conv["zeros"], kept.address), code.select(source < 0, 0, kept.step))
    start = code.load(I32, plan["starts"] + piece * 4).to(I64)
    sequence = Rows(code, job, start, before, taps - 1)
    with code.loop(piece, end) as index:
        rows = [code.load(I32, plan["starts"] + (index + i) * 4).to(I64) for i in (0, 1)]
        with code.either(job["silu"].equals(0)) as (plain, gated):
            for branch, activated in ((plain, False), (gated, True)):
                with branch, code.loop(*rows) as row:
                    _write_row(sequence, conv, row, channels, activated)
        slot = job["state"] + code.load(I32, plan["targets"] + index * 4).to(I64) * job["slot_stride"]
        with code.either((index + 1).equals(end)) as (at_end, between):
            for branch, store in ((at_end, code.stream), (between, code.store)):
                with branch:
                    _keep(sequence, rows[1], slot, channels, store)
    code.settle()
    return code.finish()


def _write_row(
    sequence: Rows, conv: dict[str, Value], row: Value, channels: tuple[Value, Value], activated: bool
) -> None:
    code, job, earlier = sequence.code, sequence.job, sequence.earlier
    back = range(earlier, -1, -1)
    with code.either(row - earlier < sequence.start) as (beginning, further):
        with beginning:
            lines = [sequence.input(row - rows) for rows in back]
            _add_taps(code, conv, [line.place for line in lines], job["out"], row, channels, activated)
        with further:
            own = [Line(job["x"] + (row - rows) * job["x_stride"], code.constant(I64, VECTOR)) for rows in back]
            _add_taps(code, conv, [line.dense for line in own], job["out"], row, channels, activated)


def _add_taps(
    code: Code, conv: dict[str, Value], inputs: Sequence[Callable[[Value], Value]], out: Value, row: Value,
    channels: tuple[Value, Value], activated: bool,
) -> None:  # fmt: skip
    """inputs: where a channel stands in each, the oldest first."""
    stride = (conv["channels"] + (LANES - 1)) // LANES * VECTOR
    out = out + row * conv["channels"] * 4
    for type_, start, stop, by in _parts(code, channels):
        with code.loop(start, stop, by) as channel:
            total = code.load(type_, conv["bias"] + channel * 4)
            for tap, place in enumerate(inputs):
                weight = code.load(type_, conv["weights"] + stride * tap + channel * 4)
                total = code.fma(weight, code.load(type_, place(channel)), total)
            code.store(silu(code, total) if activated else total, out + channel * 4)


def _keep(
    sequence: Rows, end: Value, slot: Value, channels: tuple[Value, Value], store: Callable[[Value, Value], None]
) -> None:
    """The inputs before row `end`. A vector is read before its place is written."""
    code, earlier = sequence.code, sequence.earlier
    lines = [sequence.input(end - (earlier - number)) for number in range(earlier)]
    for type_, start, stop, by in _parts(code, channels):
        with code.loop(start, stop, by) as channel:
            values = [code.load(type_, line.place(channel)) for line in lines]
            place = Line(slot, code.constant(I64, VECTOR * earlier)).place(channel)
            for number, value in enumerate(values):
                put = store if type_ == FLOATS16 else code.store
                put(value, place + VECTOR * number)


def _parts(code: Code, channels: tuple[Value, Value]) -> list[tuple[Any, Value, Value, int]]:
    """Whole vectors, then single channels."""
    first, last = channels
    whole = first + (last - first) // LANES * LANES
    return [(FLOATS16, first, whole, LANES), (FLOAT, whole, last, 1)]
