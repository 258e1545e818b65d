"""From logits to tokens: bias, penalties, grammar masks, then the back end's sampling; and log-probabilities.

The order is vLLM's and OpenAI's: log-probabilities are the model's own, before anything is changed. What is raised
where one sequence is looked at becomes its error; it is sampled like all, and what comes of it is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice
from operator import is_

import numpy as np
import numpy.typing as npt

from stemma.kernels.changes import Changes, LogProbs, Masks, Places
from stemma.kernels.ops import Int32Array, Ops, SamplingRows
from stemma.kernels.rows import RowOps, Rows
from stemma.kernels.sampled import Known, Sampled
from stemma.kernels.sampled import Reported as Reports
from stemma.runtime.core.batch import Batch, Row, RowResult
from stemma.runtime.core.changing import Position, is_early, places_of
from stemma.runtime.core.failures import as_stemma_error, dead_end
from stemma.runtime.core.matchers import GrammarMatcher
from stemma.runtime.core.runner import StepOutput
from stemma.runtime.core.sampling import SEED_MASK, Sampling, TokenLogprob, uniform, uniforms
from stemma.runtime.core.sequence import Sequence
from stemma.runtime.core.stopwatch import Stopwatch, unwatched

ALL = np.uint32(0xFFFFFFFF)
GREEDY = Sampling()
MOST = np.iinfo(np.int32).max
NO_TOKENS = Known(np.empty(0, dtype=np.int32))


Reported = list[tuple[int, Position]]
"""Positions whose log-probabilities are reported, and which tokens are theirs."""
ReadLogprobs = Callable[[list[int]], Iterator[TokenLogprob]]
"""Of these tokens, those that are reported."""
Results = Callable[[], list[RowResult]]
"""Waits for them."""


class Sampler:
    """Chooses tokens for a batch. watch: told how long masks take."""

    def __init__(self, ops: Ops, watch: Stopwatch | None = None) -> None:
        self.ops = ops
        self.watch = watch or unwatched()
        self._chosen: list[Sampling] = []  # by those who were sampled last
        self._kept = _settings([])

    def sample(self, batch: Batch, output: StepOutput) -> list[RowResult]:
        """One result for each row of the batch. Changes the logits in place."""
        return self.begin(batch, output)()

    def begin(self, batch: Batch, output: StepOutput) -> Results:
        """Ask the device for all of it. What is returned waits for that, and for nothing that was asked for later."""
        if batch.num_samples and batch.is_single and all(row.sequence.is_plain for row in batch.rows):
            sampled = self.ops.begin_sample(output.logits, self._plain_rows(batch))
            return partial(_plain_results, batch.rows, sampled)
        results, logits = [RowResult() for _ in batch.rows], output.logits
        _pool(batch, output, results, self.ops.rows)
        positions: list[Position] = []
        end = 0
        for row, result in zip(batch.rows, results, strict=True):
            first, end = end, end + row.num_logits
            if row.num_logits > row.num_samples and row.sequence.request.pooling is None:
                with _own_trouble(row.sequence):
                    result.prompt_logprobs = _prompt_logprobs(row, logits[first:end], self.ops)
            before = row.start + len(row.tokens) - row.num_drafts
            for index in range(row.num_samples):
                positions.append(Position(end - row.num_samples + index, row.sequence, before + index))
        return partial(_results, batch, results, *self._choose(batch, positions, logits))

    def _plain_rows(self, batch: Batch) -> SamplingRows:
        """As `_sampling_rows`, of one position of each row that has one; what does not change between steps is kept."""
        rows = batch.rows if batch.is_decode else [row for row in batch.rows if row.num_samples]
        chosen = [row.sequence.request.sampling for row in rows]
        if len(chosen) != len(self._chosen) or not all(map(is_, chosen, self._chosen)):
            is_greedy = not any(sampling.temperature for sampling in chosen)
            self._chosen, self._kept = chosen, _greedy_rows(len(chosen)) if is_greedy else _settings(chosen)
        if not self._kept.temperature.any():
            return self._kept
        seeds = np.array([row.sequence.request.seed & SEED_MASK for row in rows], dtype=np.uint64)
        numbers = [row.start + len(row.tokens) - row.sequence.num_prompt for row in rows]
        draws = uniforms(seeds, np.array(numbers, dtype=np.uint64))
        return replace(self._kept, uniform=np.where(self._kept.temperature > 0, draws, 0.0))

    def _choose(self, batch: Batch, positions: list[Position], logits: Rows) -> tuple[Sampled, ReadLogprobs]:
        """A token of each position; and what reads the log-probabilities of those that report them."""
        if not positions:  # who runs ahead of the device waits for it all the same
            sampled = self.ops.begin_sample(logits[:0], _greedy_rows(0)) if self.ops.runs_ahead else NO_TOKENS
            return sampled, _no_logprobs
        reported: Reported = [item for item in enumerate(positions) if item[1].sampling.logprobs is not None]
        own = self._own(reported, logits)
        self._change(batch, positions, logits)
        if len(positions) != len(logits):
            logits = self.ops.rows.take(logits, _rows_of(positions))
        sampled = self.ops.begin_sample(logits, _sampling_rows(positions))
        if own is None:
            return sampled, _no_logprobs
        counts = [position.sampling.logprobs or 0 for _, position in reported]
        rows = np.array([index for index, _ in reported], dtype=np.int32)
        found = self.ops.begin_log_probs(own, sampled, rows, max(counts))
        return sampled, partial(_logprobs, found, reported, counts)

    def _own(self, reported: Reported, logits: Rows) -> Rows | None:
        """The logits of positions that are reported, as they are before they are changed."""
        if not reported:
            return None
        positions = [position for _, position in reported]
        if len(positions) == len(logits) and not any(
            each.changes_logits or each.sequence.matcher for each in positions
        ):
            return logits
        return self.ops.rows.take(logits, _rows_of(positions))

    def _change(self, batch: Batch, positions: list[Position], logits: Rows) -> None:
        """Bias, penalties and grammars, of all positions at once, in place."""
        places = []
        for position in positions:
            if position.changes_logits:
                with _own_trouble(position.sequence):
                    places.append(places_of(position, logits.shape[1]))
        changes = Changes(Places.joined(places), self._masks(batch, positions, logits.shape[1]))
        if changes:
            self.ops.adjust(logits, changes)

    def _masks(self, batch: Batch, positions: list[Position], vocabulary: int) -> Masks:
        """What the grammar matchers allow; a matcher is walked along its drafts and back."""
        guided = [position for position in positions if position.sequence.matcher is not None]
        if not guided:
            return Masks.none(vocabulary)
        self.watch.lap("sample")
        masks = np.zeros((len(guided), -(-vocabulary // 32)), dtype=np.uint32)
        free = iter(masks)
        for row in batch.rows:
            matcher = row.sequence.matcher
            if matcher is None or not row.num_samples:
                continue
            masked = [next(free) for _ in range(row.num_samples)]
            before = row.start + len(row.tokens) - row.num_drafts
            with _own_trouble(row.sequence):
                _fill(masked, matcher, row.tokens[len(row.tokens) - row.num_drafts :])
            for num_tokens, mask in enumerate(masked, start=before):
                if is_early(row.sequence, num_tokens):
                    _keep_open(mask, row.sequence.request.end_tokens)
            if row.sequence.error is None and not masked[0].any():
                row.sequence.error = dead_end(row.sequence.num_generated)
            if row.sequence.error is not None:
                for mask in masked:
                    mask.fill(ALL)  # the row is sampled, and thrown away
        self.watch.lap("masks")
        return Masks(masks, _rows_of(guided))


def _plain_results(rows: list[Row], sampled: Sampled) -> list[RowResult]:
    """Of rows from which one token each was sampled, or none, and of which nothing else is asked."""
    tokens = sampled.tokens().tolist()
    if len(tokens) == len(rows):
        return [RowResult([token]) for token in tokens]
    left = iter(tokens)
    return [RowResult([next(left)] if row.num_samples else []) for row in rows]


def _results(batch: Batch, results: list[RowResult], sampled: Sampled, read: ReadLogprobs) -> list[RowResult]:
    """The results, with their tokens and log-probabilities."""
    tokens = sampled.tokens().tolist()
    logprobs, end = read(tokens), 0
    for row, result in zip(batch.rows, results, strict=True):
        first, end = end, end + row.num_samples
        result.tokens += tokens[first:end]
        if row.sequence.request.sampling.logprobs is not None:
            result.logprobs = [*islice(logprobs, row.num_samples)]
    return results


def _rows_of(positions: list[Position]) -> Int32Array:
    return np.array([position.logits_row for position in positions], dtype=np.int32)


def _logprobs(found: Reports, reported: Reported, counts: list[int], tokens: list[int]) -> Iterator[TokenLogprob]:
    return iter(_told([tokens[index] for index, _ in reported], found.log_probs(), counts))


def _told(tokens: list[int], found: LogProbs, counts: Iterable[int]) -> list[TokenLogprob]:
    """Each token's, with so many of the most likely ones."""
    rows = zip(tokens, found.own, found.ids, found.values, counts, strict=True)
    return [TokenLogprob(token, own, tuple(zip(ids[:n], best[:n], strict=True))) for token, own, ids, best, n in rows]


def _no_logprobs(_: list[int]) -> Iterator[TokenLogprob]:
    return iter(())


def _keep_open(mask: npt.NDArray[np.uint32], end_tokens: Iterable[int]) -> None:
    """Take the end tokens out of a mask (words of 32), unless nothing else may come."""
    without = mask.copy()
    for token in end_tokens:
        without[token // 32] &= ~np.uint32(1 << token % 32)
    if without.any():
        mask[:] = without


def _fill(masks: list[npt.NDArray[np.uint32]], matcher: GrammarMatcher, drafts: list[int]) -> None:
    matcher.mask_into(masks[0])
    for mask, draft in zip(masks[1:], drafts, strict=True):
        allowed = matcher.advance(draft)
        assert allowed, f"draft {draft} is not allowed by the matcher that proposed it"
        matcher.mask_into(mask)
    matcher.rollback(len(drafts))


@contextmanager
def _own_trouble(sequence: Sequence) -> Iterator[None]:
    """An error raised in this block becomes the sequence's."""
    try:
        yield
    except BaseException as error:
        sequence.error = sequence.error or as_stemma_error(error)


def _sampling_rows(positions: list[Position]) -> SamplingRows:
    chosen = [position.sampling for position in positions]
    if not any(sampling.temperature for sampling in chosen):
        return _greedy_rows(len(chosen))
    draws = [0.0] * len(chosen)
    for index, position in enumerate(positions):
        if position.sampling.temperature:
            chosen[index] = GREEDY
            with _own_trouble(position.sequence):
                number = position.num_tokens - position.sequence.num_prompt
                draws[index] = uniform(position.sequence.request.seed, number)
                chosen[index] = position.sampling
    return replace(_settings(chosen), uniform=np.array(draws, dtype=np.float64))


def _settings(chosen: list[Sampling]) -> SamplingRows:
    """Without numbers that are drawn."""
    return SamplingRows(
        temperature=np.array([sampling.temperature for sampling in chosen], dtype=np.float32),
        top_k=np.array([min(sampling.top_k, MOST) for sampling in chosen], dtype=np.int32),
        top_p=np.array([sampling.top_p for sampling in chosen], dtype=np.float32),
        min_p=np.array([sampling.min_p for sampling in chosen], dtype=np.float32),
        uniform=np.zeros(len(chosen)),
    )


@lru_cache(maxsize=64)
def _greedy_rows(count: int) -> SamplingRows:
    zeros = np.zeros(count, dtype=np.float32)
    return SamplingRows(zeros, np.zeros(count, dtype=np.int32), zeros + 1, zeros, np.zeros(count))


def _pool(batch: Batch, output: StepOutput, results: list[RowResult], ops: RowOps) -> None:
    """What the rows add to what is read off their prompts."""
    if all(row.sequence.request.pooling is None for row in batch.rows):
        return  # most steps
    num_logits = num_hidden = 0
    for row, result in zip(batch.rows, results, strict=True):
        logits = output.logits[num_logits : num_logits + row.num_logits]
        hidden = output.hidden[num_hidden : num_hidden + row.num_hidden]
        num_logits += row.num_logits
        num_hidden += row.num_hidden
        pooling = row.sequence.request.pooling
        states = hidden if pooling is not None and pooling.reads_hidden else logits
        if pooling is not None and len(states):
            with _own_trouble(row.sequence):
                result.pooled = pooling.of_step(states, ops)


def _prompt_logprobs(row: Row, logits: Rows, ops: Ops) -> list[TokenLogprob]:
    """Of the prompt tokens that follow the row's last positions; logits (positions, vocabulary)."""
    request = row.sequence.request
    end = row.start + len(row.tokens) + 1
    following, count = request.prompt[end - len(logits) : end], request.prompt_logprobs or 0
    found = ops.log_probs(logits[: len(following)], following.astype(np.int32), count)
    return _told(following.tolist(), found, [count] * len(following))
