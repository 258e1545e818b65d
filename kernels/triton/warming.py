"""What an engine's steps may launch, compiled before the first of them: a variant is a kernel with constants and types
of its own, and takes Triton a second.

    a rehearsal:  steps of all sizes, sampling, copies     every launch is noted down, none is run
    compiling:    the variants noted down, in threads      graphs, probes and requests find them compiled

Which variants a step has hangs on how many tokens it has, whether its sequences are long, and what is asked of its
logits. Products of dense weights are torch's own, and do run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
import triton

from stemma.kernels.changes import NOTHING_ADDED, Changes, Masks, Places
from stemma.kernels.limits import Report, StepLimits, Steps, Warms, eager_rows
from stemma.kernels.memory import Memory
from stemma.kernels.ops import AttentionMetadata, BlockCopy, Int32Array, Network, Ops, SamplingRows
from stemma.kernels.states import ZEROS, StateMetadata
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.triton.launches import Launcher, run

REHEARSED = (1, 8, 16, 64, 128, 512)
"""Tokens of steps: tiles change at 8, 16 and 64 rows; 512 are a graph's most."""
FEWER = 4
"""By how much the steps between those and the largest differ: of experts' tiles none lies within."""
MOST_THREADS = 8
ALIGNMENT = 16
"""Bytes: what Triton asks of a pointer, and of an integer in units."""


class Variant(NamedTuple):
    """A launch, without the numbers that it would have worked on."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    num_warps: int
    num_stages: int


@runtime_checkable
class Compiler(Protocol):
    """A `Launcher` that can also compile what it will launch."""

    def compile(self, variants: list[Variant]) -> Iterator[None]:
        """As many times as there are variants, when one more is compiled."""


class Running:
    """Launches on the thread's device."""

    def __call__(
        self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int
    ) -> None:
        run(kernel, grid, arguments, num_warps, num_stages)

    def compile(self, variants: list[Variant]) -> Iterator[None]:
        """In threads: the compiler's passes and the assembler let go of the interpreter."""
        num_threads = min(MOST_THREADS, os.cpu_count() or 1)
        with ThreadPoolExecutor(num_threads) as threads, triton.AsyncCompileMode(threads) as mode:
            for each in variants:
                options = {"num_warps": each.num_warps, "num_stages": each.num_stages}
                each.kernel.warmup(grid=each.grid, **each.arguments, **options)
            for _ in range(len(variants) - len(mode.raw_futures)):
                yield  # compiled before
            for _ in as_completed(mode.raw_futures):
                yield


RUNNING = Running()


class Rehearsed:
    """A `Launcher` that notes down what it is given, each variant once."""

    def __init__(self) -> None:
        self.variants: dict[object, Variant] = {}

    def __call__(
        self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int
    ) -> None:
        key = key_of(kernel, arguments, num_warps, num_stages)
        if key not in self.variants:
            small = {name: _without_numbers(value) for name, value in arguments.items()}
            self.variants[key] = Variant(kernel, grid, small, num_warps, num_stages)


def key_of(kernel: Any, arguments: dict[str, Any], num_warps: int, num_stages: int) -> object:
    """By what Triton tells variants of a kernel apart."""
    kinds = []
    for parameter in kernel.params:
        value = arguments[parameter.name]
        if parameter.is_constexpr:
            kinds.append(value)
        elif isinstance(value, torch.Tensor):
            kinds.append((value.dtype, value.data_ptr() % ALIGNMENT == 0))
        elif isinstance(value, int) and not parameter.do_not_specialize:
            kinds.append((int, value == 1, value % ALIGNMENT == 0))
        else:
            kinds.append(type(value))
    return (kernel.__name__, *kinds, num_warps, num_stages)


def _without_numbers(value: Any) -> Any:
    """Few numbers of the same type, as well aligned: a rehearsal's activations are not kept."""
    if not isinstance(value, torch.Tensor):
        return value
    few = torch.empty(2 * ALIGNMENT, dtype=value.dtype, device=value.device)
    return few if value.data_ptr() % ALIGNMENT == 0 else few[1:]


_rehearsal: ContextVar[Launcher | None] = ContextVar("rehearsal", default=None)


class Stage:
    """The `Launcher` of a back end: `launch`, but for what a thread rehearses."""

    def __init__(self, launch: Launcher) -> None:
        self.launch = launch

    def __call__(
        self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int
    ) -> None:
        (_rehearsal.get() or self.launch)(kernel, grid, arguments, num_warps, num_stages)


@contextmanager
def rehearsing() -> Iterator[Rehearsed]:
    """Inside, what this thread launches through stages is noted down instead."""
    noted = Rehearsed()
    token = _rehearsal.set(noted)
    try:
        yield noted
    finally:
        _rehearsal.reset(token)


class WarmedExecutor(EagerExecutor):
    """Operation by operation; there is nothing to record, but operations to compile."""

    def __init__(self, ops: Any, network: Network, memory: Memory, limits: StepLimits) -> None:
        super().__init__(ops, network, memory)
        self._back_end: Warms = ops
        self._limits = limits

    def record(self, report: Report, beside: Sequence[Steps] = ()) -> None:
        self._back_end.warm([self, *beside], self._memory, self._limits, report)


def compiles(launch: Launcher) -> TypeGuard[Compiler]:
    """Whether a launcher compiles anything."""
    return isinstance(launch, Compiler) and not triton.knobs.runtime.interpret


def rehearse(ops: Ops, steps: Sequence[Steps], memory: Memory, limits: StepLimits, *, samples: bool) -> list[Variant]:
    """All variants of these ways of computing steps, of what is done to their logits and to the memory's blocks."""
    with rehearsing() as noted:
        logits = [rehearse_steps(each, memory, limits) for each in steps]
        if samples:
            rehearse_logits(ops, logits[0])
        for pool in (memory.full, memory.window):
            if pool is not None:
                ops.copy_blocks(pool, [BlockCopy(0, 0, 0)])
    return [*noted.variants.values()]


def compile_all(launch: Compiler, variants: list[Variant], report: Report) -> int:
    """Returns how many there are."""
    for number, _ in enumerate(launch.compile(variants), 1):
        report(number, len(variants))
    return len(variants)


def rehearse_steps(steps: Steps, memory: Memory, limits: StepLimits) -> Any:
    """Of all sizes, at the longest contexts, and in short ones. Returns the logits of one."""
    most = limits.max_batch_tokens
    sizes = {min(size, most) for size in REHEARSED} | {most}
    while most > FEWER * REHEARSED[-1]:
        sizes.add(most := most // FEWER)
    logits = None
    for num_tokens in sorted(sizes):
        for context in {num_tokens, max(num_tokens, limits.context_length)}:
            ids, metadata = step_of(num_tokens, context, memory)
            logits = steps(ids, metadata, np.zeros(min(num_tokens, eager_rows(limits)), dtype=np.int32))
    return logits


def step_of(num_tokens: int, context: int, memory: Memory) -> tuple[Int32Array, AttentionMetadata]:
    """A prompt and, behind so many tokens of context, one token more. All blocks are the first: nothing is run."""
    lengths = [1] if num_tokens == 1 else [num_tokens - 1, 1]
    ends = [context] if num_tokens == 1 else [num_tokens - 1, context]
    positions = [place for length, end in zip(lengths, ends, strict=True) for place in range(end - length, end)]
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    size = memory.full.shape.block_size
    metadata = AttentionMetadata(
        np.array(positions, dtype=np.int32), np.full(num_tokens, -1, dtype=np.int32), starts,
        np.array(ends, dtype=np.int32), np.zeros((len(ends), -(-max(ends) // size)), dtype=np.int32),
    )  # fmt: skip
    pieces = np.arange(len(ends), dtype=np.int32)
    firsts = np.array([end - length for length, end in zip(lengths, ends, strict=True)], dtype=np.int32)
    states = StateMetadata(
        np.arange(len(ends) + 1, dtype=np.int32), starts, np.full_like(pieces, ZEROS), pieces, firsts
    )
    has_window, has_states = memory.window is not None, memory.states is not None
    whole = replace(metadata, window=metadata if has_window else None, states=states if has_states else None)
    return np.zeros(num_tokens, dtype=np.int32), whole


def rehearse_logits(ops: Ops, logits: Any) -> None:
    """Of float32 (rows, vocabulary): sampling, changes, log-probabilities; those of prompts begin at any row."""
    one, zero = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.int32)
    added = np.full(1, NOTHING_ADDED)
    words = np.zeros((1, -(-logits.shape[1] // 32)), dtype=np.uint32)
    ops.adjust(logits, Changes(Places(zero, zero, added, one, added), Masks(words, zero)))
    ops.begin_sample(logits[:1], SamplingRows(one, zero, one, 0 * one, np.zeros(1)))
    for first in range(min(len(logits), 2)):
        ops.log_probs(logits[first : first + 1], zero, 1)
