"""One step's forward pass and samples. Where a batch fails its rows are computed alone, so that trouble has an owner.

A token of a blank sequence is computed first: if that fails too, it is the device, the memory or the model, and so
everybody's. Computing a row again writes the same KV and states into the same places, and reads none of them. What has
no room in a device's memory is computed in smaller steps, with the same bits, before it is anybody's trouble.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from stemma.radix import Segment
from stemma.runtime.core.batch import Batch, Row, RowResult
from stemma.runtime.core.failures import as_stemma_error, describe_error, is_out_of_memory, let_go
from stemma.runtime.core.runner import Runner
from stemma.runtime.core.sampler import Sampler
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.sequence import Request, Sequence

log = logging.getLogger("stemma.engine")

LEAST_TOKENS = 32
"""A row of fewer is not parted: if it has no room, less would have none."""


def compute(runner: Runner, sampler: Sampler, batch: Batch) -> list[RowResult]:
    """One result for each row; the sequence of one that cannot be computed has an error. Raises what concerns all."""
    try:
        output = runner.forward(batch)
        sampler.watch.lap("forward")
        return sampler.sample(batch, output)
    except Exception as error:
        if is_out_of_memory(error):
            log.warning("a step of %d tokens is computed in parts: %s", batch.num_tokens, describe_error(error))
            _make_room(runner, error)
        if not _is_sound(runner, sampler, batch):
            raise
    return [_alone(runner, sampler, row) for row in batch.rows]


def _is_sound(runner: Runner, sampler: Sampler, batch: Batch) -> bool:
    """Whether the first token of the batch can be computed and sampled for a sequence that asks for nothing."""
    row = batch.rows[0]
    blank = nobody(row.tokens[0])
    blank.lease = row.sequence.lease
    first = [Segment(row.start, row.start + 1, each.source, each.target) for each in row.segments[:1]]
    token = Row(blank, row.start, row.tokens[:1], num_drafts=0, num_samples=1, segments=first)
    probe = Batch([token], batch.copies, batch.window_copies, 1)
    try:
        sampler.sample(probe, runner.forward(probe))
    except Exception:
        return False
    return True


def nobody(token: int) -> Sequence:
    """A sequence that asks for nothing."""
    return Sequence(Request(np.array([token], dtype=np.int32), 1, Sampling(), seed=0))


def _alone(runner: Runner, sampler: Sampler, row: Row) -> RowResult:
    """The row's result; one that does not fit the device's memory is computed half by half."""
    if row.sequence.error is not None:
        return RowResult()
    alone = Batch([row], num_tokens=len(row.tokens))
    try:
        return sampler.sample(alone, runner.forward(alone))[0]
    except Exception as error:
        if not is_out_of_memory(error) or not _has_halves(row):
            row.sequence.error = as_stemma_error(error)
            return RowResult()
        _make_room(runner, error)
    half = len(row.tokens) // 2
    before = row._replace(tokens=row.tokens[:half], num_samples=0)
    behind = row._replace(start=row.start + half, tokens=row.tokens[half:])
    first, last = (_alone(runner, sampler, part) for part in (before, behind))
    return replace(last, prompt_logprobs=[*first.prompt_logprobs, *last.prompt_logprobs])


def _has_halves(row: Row) -> bool:
    """Whether it can be computed as two steps: of a prompt, whose KV is all that the second needs of the first."""
    is_plain = not row.segments and not row.num_drafts and row.sequence.request.pooling is None
    return is_plain and len(row.tokens) > LEAST_TOKENS


def _make_room(runner: Runner, error: BaseException) -> None:
    let_go(error)
    runner.model.ops.free_unused()
