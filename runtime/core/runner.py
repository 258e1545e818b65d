"""One forward pass of a batch. The only file of the core that meets the model and its KV pool."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import NamedTuple, Protocol

import numpy as np

from stemma.kernels.limits import Report, StepLimits, Steps
from stemma.kernels.memory import Memory, make_plans
from stemma.kernels.ops import AttentionMetadata, BlockCopy, Int32Array
from stemma.kernels.rows import Rows
from stemma.kernels.states import ZEROS, StateMetadata
from stemma.kernels.steps import run
from stemma.runtime.core.attention_metadata import make_attention_metadata
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.failures import first_line, has_run_out, let_go
from stemma.runtime.errors import NoRoomForGraphs
from stemma.runtime.model import Loras, Model, Span

NOTHING = np.empty(0, dtype=np.int32)

MOST_SPANS = 64
"""Adapters of one step that is tried before the first: as many as its tokens, and no more."""


class StepOutput(NamedTuple):
    """Float32, row after row of the batch.

    logits: (positions, vocabulary), of the last `num_logits` positions of each row.
    hidden: (positions, hidden), behind the last norm, of the last `num_hidden` positions of each row.
    """

    logits: Rows
    hidden: Rows


class Step(NamedTuple):
    """What one forward pass is made of.

    ids: (tokens,). rows: those whose logits are wanted, read: those whose hidden states are. spans: of adapters.
    """

    ids: Int32Array
    metadata: AttentionMetadata
    rows: Int32Array
    read: Int32Array
    spans: tuple[Span, ...] = ()
    copies: tuple[BlockCopy, ...] = ()
    window_copies: tuple[BlockCopy, ...] = ()


class Others(Protocol):
    """Other ranks of the same model, which compute their parts of each step."""

    def tell(self, step: Step) -> None:
        """Have them begin."""


class Runner:
    """A model and its memory. loras: adapters that stand beside the model. others: ranks that compute with this one.
    limits: of its steps, to make room for."""

    def __init__(
        self, model: Model, memory: Memory, loras: Loras | None = None, others: Others | None = None,
        limits: StepLimits | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.memory = memory
        self._loras = loras
        self._others = others
        self._needs = model.config.marks
        self._step = model.ops.executor(model, model.config.num_heads, memory, limits)

    @property
    def runs_ahead(self) -> bool:
        """Whether a step may name tokens that the one before has yet to choose. Other ranks do not know these."""
        return self.model.ops.runs_ahead and self._others is None

    def take_turn(self) -> None:
        """This thread computes all steps from now on."""
        self._step.take_turn()

    def try_once(self) -> bool:
        """Compute the first token of the vocabulary; whether its logits are finite. Writes to block 0, so it is for a
        pool that holds nothing yet. Compiles what a step needs, so that the first request does not wait for it."""
        one, zero = np.ones(1, np.int32), np.zeros(1, np.int32)
        metadata = AttentionMetadata(zero, zero, np.array([0, 1], np.int32), one, np.zeros((1, 1), np.int32))
        pieces = StateMetadata(np.array([0, 1], np.int32), np.array([0, 1], np.int32), zero + ZEROS, zero)
        plans = make_plans(self.model.ops, replace(metadata, window=metadata, states=pieces), self.memory)
        # Not by the step executor: a step that it records belongs to the thread that runs steps.
        return self.model.ops.rows.are_finite(run(self.model, self.memory, zero, plans, zero))

    def record(self, report: Report) -> None:
        """Prepare the steps to come, as the back end does; before the first. Warns where the device has no room for
        that: then steps run operation by operation."""
        try:
            self._step.record(report, self._beside())
        except RuntimeError as error:
            if not has_run_out(error):
                raise
            told = NoRoomForGraphs(
                f"steps are not recorded, because the device has no memory for it ({first_line(error)}): steps are "
                "slower. Lower memory_share, max_running, max_batch_tokens or context_length, or end what else uses "
                "the device"
            )
            let_go(error)
            self.model.ops.free_unused()
            warnings.warn(told, stacklevel=2)

    def _beside(self) -> list[Steps]:
        """How steps are computed at length: with hidden states, and with all adapters, side by side."""
        adapters = [] if self._loras is None else [*self._loras.digests]
        groups = [adapters[first : first + MOST_SPANS] for first in range(0, len(adapters), MOST_SPANS)]

        def steps(adapters: Sequence[str]) -> Steps:
            return lambda ids, metadata, rows: (
                self._run(Step(ids, metadata, rows, rows[:1], tuple(_divided(adapters, len(ids))))).logits
            )

        return [steps(adapters) for adapters in ([], *groups)]

    def forward(self, batch: Batch) -> StepOutput:
        """Copy blocks, compute the batch's tokens and write their KV.

        What failed may be computed again: the copies that were made are no longer the batch's.
        """
        step = self._step_of(batch)
        if self._others is not None:
            self._others.tell(step)
        self._copy(step)
        batch.copies.clear()
        batch.window_copies.clear()
        return self._run(step)

    def compute(self, step: Step) -> StepOutput:
        """The same, of a step that was described by another rank."""
        self._copy(step)
        return self._run(step)

    def _step_of(self, batch: Batch) -> Step:
        metadata = make_attention_metadata(batch, self.memory.full.shape.block_size, self._needs)
        copies = (
            tuple(BlockCopy(*copy) for copy in batch.copies), tuple(BlockCopy(*copy) for copy in batch.window_copies)
        )  # fmt: skip
        if batch.is_decode and self._loras is None:
            ids = np.array([row.tokens[0] for row in batch.rows], dtype=np.int32)
            return Step(ids, metadata, np.arange(len(ids), dtype=np.int32), NOTHING, (), *copies)
        ids = np.array([*chain.from_iterable([row.tokens for row in batch.rows])], dtype=np.int32)
        if batch.is_single:
            sampled = np.array([row.num_samples for row in batch.rows], dtype=bool)
            rows = metadata.query_starts[1:][sampled] - np.int32(1)
            return Step(ids, metadata, rows, NOTHING, () if self._loras is None else tuple(_spans(batch)), *copies)
        rows = _last([row.num_logits for row in batch.rows], batch)
        read = _last([row.num_hidden for row in batch.rows], batch)
        return Step(ids, metadata, rows, read, tuple(_spans(batch)), *copies)

    def _copy(self, step: Step) -> None:
        for kv, copies in ((self.memory.full, step.copies), (self.memory.window, step.window_copies)):
            if copies:
                self.model.ops.copy_blocks(kv, copies)

    def _run(self, step: Step) -> StepOutput:
        if step.spans:
            assert self._loras is not None, "a request has an adapter, the model has none"
            with self._loras.step(step.spans):
                return self._at_length(step)
        if len(step.read):
            return self._at_length(step)
        logits = self._step(step.ids, step.metadata, step.rows)
        return StepOutput(logits, logits[:0])

    def _at_length(self, step: Step) -> StepOutput:
        """Operation by operation: steps that the executor does not know, because adapters or hidden states are asked
        for."""
        plans = make_plans(self.model.ops, step.metadata, self.memory)
        hidden = self.model.forward(step.ids, plans, self.memory)
        states = self.model.hidden_states(hidden, step.read) if len(step.read) else hidden[:0]
        return StepOutput(self.model.logits(hidden, step.rows) if len(step.rows) else hidden[:0], states)


def _spans(batch: Batch) -> list[Span]:
    """Which of the step's tokens are computed with an adapter: neighbours, as the scheduler puts them."""
    spans: list[Span] = []
    end = 0
    for row in batch.rows:
        start, end, lora = end, end + len(row.tokens), row.sequence.request.lora
        if lora is None:
            continue
        if spans and spans[-1].adapter == lora and spans[-1].last == start:
            start = spans.pop().first
        spans.append(Span(lora, start, end))
    return spans


def _divided(adapters: Sequence[str], num_tokens: int) -> list[Span]:
    """A step's tokens divided among adapters, of which those that get none are left out."""
    ends = [num_tokens * (index + 1) // len(adapters) for index in range(len(adapters))]
    return [Span(*each) for each in zip(adapters, [0, *ends], ends, strict=False) if each[1] < each[2]]


def _last(counts: Sequence[int], batch: Batch) -> Int32Array:
    """The last positions of each row, so many of each, as rows of the step."""
    ends = accumulate(len(row.tokens) for row in batch.rows)
    return np.array([i for n, end in zip(counts, ends, strict=True) for i in range(end - n, end)], dtype=np.int32)
