"""How a state of matrices goes through a step: a unit is one sequence, one head and some of its panels, and each panel
goes from its slot through all tokens of all pieces before the next one begins.

    slot of the source -> scratch -> scratch -> ... -> slot of the target          one panel, token by token
         (or zeros)       token 0    token 1           last token of the piece

What all panels of a head read (keys and queries, or B and C; factors of each token) is prepared before, once a token:

    prepared (groups, tokens, 2, depth) floats: what is written by, what is read by
    numbers (tokens, 2, padded heads): the factor of what is kept, and the weight of what is new
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import FLOAT, FLOATS16, I32, I64, Code, Value
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.states.lanes import load_lanes, store_lanes
from stemma.kernels.cpu.states.slots import LANES, PIECES, padded

WALK = ("x", "x_stride", "first", "first_stride", "second", "second_stride", "out", "rule", "prepared", "state",
        "slot_stride", "plan", "tokens", "numbers", "per_piece", "parts")  # fmt: skip
"""first, second: numbers a head beside x, where a rule has them. parts: into which a head's panels are divided.
Strides are bytes. prepared: room for what `work_floats` says."""
SUMS = 2
"""Sums over a panel's depth, whose rows go to them in turn: always as many, on which the bits of a result depend."""
UNROLLED = 4
UNITS_A_THREAD = 8


class Sizes(NamedTuple):
    """heads, each with a state of (depth, width); groups: of what is prepared; values: where in x the first head's
    width begins."""

    heads: int
    depth: int
    width: int
    groups: int
    values: int

    @property
    def panels(self) -> int:
        return padded(self.width) // LANES

    def work_floats(self, tokens: int) -> int:
        return padded(self.groups * tokens * 2 * self.depth) + tokens * 2 * padded(self.heads)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One panel of a head while it goes through tokens. lanes: of them in use; group: of what is prepared."""

    code: Code
    sizes: Sizes
    job: dict[str, Value]
    head: Value
    group: Value
    number: Value
    lanes: int

    def prepared(self, token: Value) -> tuple[Value, Value]:
        """Addresses of what is written by, and what is read by."""
        row = 4 * self.sizes.depth
        address = self.job["prepared"] + (self.group * self.job["tokens"] + token) * (2 * row)
        return address, address + row

    def numbers(self, token: Value) -> tuple[Value, Value]:
        row = 4 * padded(self.sizes.heads)
        address = self.job["numbers"] + token * (2 * row) + self.head * 4
        return self.code.broadcast(FLOAT, address, LANES), self.code.broadcast(FLOAT, address + row, LANES)

    def value(self, token: Value) -> Value:
        return load_lanes(
            self.code, self.job["x"] + token * self.job["x_stride"] + self._place + 4 * self.sizes.values, self.lanes
        )

    def write(self, token: Value, out: Value) -> None:
        row = 4 * self.sizes.heads * self.sizes.width
        store_lanes(self.code, out, self.job["out"] + token * row + self._place, self.lanes)

    def put(self, line: Value, source: Value, target: Value, following: Value | None) -> None:
        """Write a row of the panel. Behind the last token nobody reads it in this step, and the next panel comes."""
        if following is not None:
            self.code.store(line, target)
        else:
            self.code.prefetch(source + 4 * LANES * self.sizes.depth)
            self.code.stream(line, target)

    @property
    def _place(self) -> Value:
        return (self.head * self.sizes.width + self.number * LANES) * 4


class Rule(Protocol):
    """What a token does to a panel. One object serves all pieces of the panel."""

    def begin(self, state: Value, token: Value) -> None:
        """Before the first token of a piece."""

    def advance(self, source: Value, target: Value, token: Value, following: Value | None) -> None:
        """Read the panel at one address, write it behind the token at another, which may be the same. following: the
        piece's next token, or this one again; None behind the sequence's last token."""


class Kernels(NamedTuple):
    """prepare: kernel of (arguments, piece, scratch) for some tokens. rule: of a panel. group: of a head."""

    prepare: ir.Function
    rule: Callable[[Panel], Rule]
    group: Callable[[Value], Value]


def add_walk(module: ir.Module, name: str, given: tuple[str, ...], sizes: Sizes, kernels: Kernels) -> None:
    """name(control, *given, threads): prepare all tokens, then walk. given: words of WALK."""
    parallel = module.globals.get("parallel") or add_parallel(module)
    unit = _add_unit(module, name, sizes, kernels)
    code = Code(module, name, len(given) + 2)
    control, *values, threads = code.arguments
    words = dict(zip(given, values, strict=True))
    tokens = words["tokens"]
    per_piece = code.select(tokens < 8, tokens, (tokens + threads * 4 - 1) // (threads * 4))
    numbers = words["prepared"] + (tokens * (2 * sizes.groups * sizes.depth) + (LANES - 1)) // LANES * (4 * LANES)
    heads = read_words(code, words["plan"], PIECES)["sequences"] * sizes.heads
    parts = code.minimum((threads * UNITS_A_THREAD + heads - 1) // heads, sizes.panels)
    words |= {"per_piece": per_piece, "numbers": numbers, "parts": parts}
    set_words(code, control + 8 * ARGUMENTS, WALK, words)
    code.call(parallel, control, code.address_of(kernels.prepare), (tokens + per_piece - 1) // per_piece)
    code.call(parallel, control, code.address_of(unit), heads * parts)
    code.finish()


@contextmanager
def prepared_tokens(module: ir.Module, name: str) -> Iterator[tuple[Code, dict[str, Value], Value]]:
    """A kernel that prepares tokens: write in it what is done for one of them."""
    code = Code(module, name, 3)
    address, piece, _ = code.arguments
    job = read_words(code, address, WALK)
    first = piece * job["per_piece"]
    with code.loop(first, code.minimum(first + job["per_piece"], job["tokens"])) as token:
        yield code, job, token
    code.finish()


def _add_unit(module: ir.Module, name: str, sizes: Sizes, kernels: Kernels) -> ir.Function:
    rest = sizes.width % LANES
    whole = _add_panel(module, name, sizes, kernels, LANES) if sizes.width >= LANES else None
    last = _add_panel(module, name, sizes, kernels, rest) if rest else whole
    code = Code(module, f"{name}_unit", 3)
    address, unit, scratch = code.arguments
    parts = read_words(code, address, WALK)["parts"]
    sequence, head, part = unit // (parts * sizes.heads), unit // parts % sizes.heads, unit % parts
    with code.loop(part * sizes.panels // parts, (part + 1) * sizes.panels // parts) as panel:
        arguments = address, sequence, head, panel, scratch
        with code.either(panel.equals(sizes.panels - 1)) as (at_end, before):
            with at_end:
                code.call(last, *arguments)
            with before:
                if whole is not None:
                    code.call(whole, *arguments)
    code.settle()
    return code.finish()


def _add_panel(module: ir.Module, name: str, sizes: Sizes, kernels: Kernels, lanes: int) -> ir.Function:
    """(job, sequence, head, panel, scratch)"""
    code = Code(module, f"{name}_panel_{lanes}", 5)
    address, sequence, head, number, scratch = code.arguments
    job = read_words(code, address, WALK)
    plan = read_words(code, job["plan"], PIECES)
    panel = Panel(code, sizes, job, head, kernels.group(head), number, lanes)
    rule = kernels.rule(panel)
    inside = (head * sizes.panels + number) * (4 * LANES * sizes.depth)
    pieces = [code.load(I32, plan["rows"] + (sequence + i) * 4).to(I64) for i in (0, 1)]
    with code.loop(*pieces) as piece:
        first, end = (code.load(I32, plan["starts"] + (piece + i) * 4).to(I64) for i in (0, 1))
        from_, to = (code.load(I32, plan[name] + piece * 4).to(I64) for name in ("sources", "targets"))
        slot = job["state"] + to * job["slot_stride"] + inside
        source = code.variable(job["state"] + from_ * job["slot_stride"] + inside)
        with code.when(from_ < 0):
            source.value = scratch
            with code.loop(0, sizes.depth) as row:
                code.store(code.constant(FLOATS16, 0.0), scratch + row * (4 * LANES))
        rule.begin(source.value, first)
        kept = code.select((piece + 1).equals(pieces[1]), end - 1, end)  # tokens behind which the panel is read again
        with code.loop(first, kept) as token:
            ends = (token + 1).equals(end)
            following = code.select(ends, token, token + 1)
            rule.advance(source.value, code.select(ends, slot, scratch), token, following)
            source.value = scratch
        with code.when(kept < end):
            rule.advance(source.value, slot, kept, None)
    return code.finish()


def rows_of(code: Code, depth: int, unrolled: int = UNROLLED) -> Iterator[tuple[Value, int]]:
    """The rows of a panel, some at once: the first of them, and how many."""
    whole = depth // unrolled * unrolled
    if whole:
        with code.loop(0, whole, unrolled) as row:
            yield row, unrolled
    if whole < depth:
        yield code.constant(I64, whole), depth - whole
