"""The steps of an engine. Where the device works in its own time, the host is one step behind it, exactly:

    host      schedule 2, launch 2 | wait for 1, commit 1 | sample 2 | tell 1 | schedule 3, launch 3 | wait for 2 ...
    device    ... sample 1 | forward 2 ..................................... | sample 2 | forward 3 ...

The device never waits for the host, as long as what the host does for a step takes it less time than the device's
forward pass. Step 2 is scheduled while the tokens of step 1 are unknown: who decodes goes on with an id that stands for
its token (`Ops.runs_ahead`). By the time its sampling is asked for, step 1 is committed: grammars, penalties and random
numbers are those of any other step, and so are the tokens. Of a sequence that ended in step 1, or for which its grammar
forced tokens there, the row of step 2 is computed and its sample thrown away.

What such a row writes harms nobody: it goes to a place behind all that the tree was told of, in a block that the
sequence held when the step was launched. Whoever gets that block later writes to it in a step that is launched later,
and the device does one thing behind the other; nobody reads a place before he has written it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from stemma.kernels.sampled import MOST_AHEAD
from stemma.runtime.core.batch import Batch, Row
from stemma.runtime.core.computing import compute, nobody
from stemma.runtime.core.runner import Runner, StepOutput
from stemma.runtime.core.sampler import Results, Sampler
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import Sequence
from stemma.runtime.core.stopwatch import Phases

MOST_JUMPING = 1 / 8
"""Of the rows of a step, whose grammars force tokens behind it: each of these loses a step by running ahead, all others
gain what the host takes, which is seldom more than this part of a step."""

REMEMBERED = 16
"""Steps over which that share is averaged."""


class Done(NamedTuple):
    """A step that was committed.

    rows: without those whose sequences had left. started, before: when it was begun, and where the time of all steps
    had gone by then. forward: seconds of the model. seconds: of the step, of which none is another step's too; None
    where it ends when it has been told.
    """

    batch: Batch
    rows: list[Row]
    started: float
    before: Phases
    forward: float
    seconds: float | None = None


class _UnderWay(NamedTuple):
    """A step that was launched and is sampled from. launched: when."""

    batch: Batch
    results: Results
    started: float
    before: Phases
    launched: float


class Steps:
    """Schedules, computes and commits one step after the other."""

    def __init__(self, scheduler: Scheduler, runner: Runner, sampler: Sampler, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._sampler = sampler
        self._clock = clock
        self._last: _UnderWay | None = None
        self._arrived = 0.0  # when the tokens of the last step did
        self._jumping = 0.0  # the share of rows behind which a grammar forced tokens

    @property
    def is_under_way(self) -> bool:
        """Whether there is a step whose tokens are still to come."""
        return self._last is not None

    def step(self) -> Iterator[Done]:
        """Compute one batch, if there is one. Says what was committed: that one, or the one before, or both. Raises
        what concerns all: what a device reports when it is waited for is about all that it was asked to do."""
        watch = self._sampler.watch
        started, before = watch.start(), watch.phases
        batch = self._scheduler.schedule(started)
        watch.lap("schedule")
        if self._runner.runs_ahead:
            yield from self._ahead(batch, started, before)
        elif batch is not None:
            yield self._at_once(batch, started, before)

    def _at_once(self, batch: Batch, started: float, before: Phases) -> Done:
        watch = self._sampler.watch
        results = compute(self._runner, self._sampler, batch)
        watch.lap("sample")
        forward = watch.phases.forward - before.forward
        self._scheduler.commit(batch, results, self._clock())
        watch.lap("commit")
        return Done(batch, batch.rows, started, before, forward)

    def _ahead(self, batch: Batch | None, started: float, before: Phases) -> Iterator[Done]:
        """Launch a step; then take what the last one sampled; then have this one sampled."""
        output = None if batch is None else self._launch(batch)
        launched = self._clock()
        done, rows = self._settle(), list[Row]()
        if batch is not None:
            rows = self._make_known(batch)
            results = None if output is None else self._begin(batch, output)
            if results is not None:
                self._last = _UnderWay(batch, results, started, before, launched)
                self._sampler.watch.lap("sample")
        if done is not None:
            yield done
        if self._last is not None:
            assert batch is not None
            if self._may_run_ahead(batch):
                self._scheduler.note_computed(rows)
                self._scheduler.placing.ahead = _rows_of_tokens(batch)
            elif (done := self._settle()) is not None:
                yield done
        elif batch is not None:
            batch.keep([row for row in batch.rows if row.sequence.lease is not None])  # nobody waits for the others
            if batch.rows:
                yield self._at_once(batch, started, before)  # row by row, if it fails again

    def _launch(self, batch: Batch) -> StepOutput | None:
        """None if that fails. Whose trouble that is, is asked when all tokens are known."""
        try:
            return self._runner.forward(batch)
        except Exception:
            return None
        finally:
            self._sampler.watch.lap("forward")

    def _begin(self, batch: Batch, output: StepOutput) -> Results | None:
        try:
            return self._sampler.begin(batch, output)
        except Exception:
            return None

    def _settle(self) -> Done | None:
        """Wait for the tokens of the step under way, and commit it."""
        last, self._last = self._last, None
        self._scheduler.placing.ahead = None
        if last is None:
            return None
        results = last.results()
        self._sampler.watch.lap("forward")
        now, before, self._arrived = self._clock(), self._arrived, self._clock()
        rows = [row for row in last.batch.rows if row.sequence.lease is not None]
        self._scheduler.commit(last.batch, results, now)
        if any(row.sequence.matcher is not None for row in rows):
            num_jumped = sum(len(row.sequence.tokens) > row.start + len(row.tokens) + 1 for row in rows)
            self._jumping += (num_jumped / len(rows) - self._jumping) / REMEMBERED
        self._sampler.watch.lap("commit")
        forward, seconds = now - max(last.launched, before), now - max(last.started, before)
        return Done(last.batch, rows, last.started, last.before, forward, seconds)

    def _make_known(self, batch: Batch) -> list[Row]:
        """The step before is committed: put its tokens where they were missing. Who has ended, or has more tokens by
        now than its row knew of, is not sampled from. Returns the rows as they were launched."""
        launched = [*batch.rows]
        for index, row in enumerate(launched):
            try:
                batch.rows[index] = self._known(row)
            except BaseException as error:
                self._scheduler.fail(row.sequence, error)
        return launched

    def _known(self, row: Row) -> Row:
        """A row of a launched step, now that the step before is committed."""
        sequence = row.sequence
        is_gone = sequence.lease is None
        if row.tokens[0] < 0 and not is_gone:
            row.tokens[0] = sequence.tokens[row.start]
        if row.num_samples and (is_gone or len(sequence.tokens) > row.start + len(row.tokens)):
            return row._replace(sequence=nobody(0), num_samples=row.num_logits)
        return row

    def _may_run_ahead(self, batch: Batch) -> bool:
        """Whether the step behind this one is launched before the tokens of this one are known. It is not where

        - this one verifies drafts, or the next one would: where it begins, and with what, hangs on how many are right.
          A source of drafts is asked now, for what is known; as long as it has nothing to say, nobody waits for it;
        - of this one is read what is not sampled: scores of prompts, poolings;
        - somebody found no room: now one must be preempted, whose blocks must not be under way;
        - grammars force tokens behind more than an eighth of its rows (MOST_JUMPING);
        - the model keeps windows or states: a row that is thrown away would have changed the state that is its
          sequence's mark;
        - it has more rows than a device keeps tokens of.

        Who reaches its `max_tokens` holds up nobody: it has no row in the next step.
        """
        placing, drafter = self._scheduler.placing, self._scheduler.drafter
        lacks_room, placing.lacks_room = placing.lacks_room, False
        if lacks_room or batch.num_drafts or drafter.has_model or self._scheduler.cache.has_marks:
            return False
        if batch.num_samples > MOST_AHEAD or self._jumping > MOST_JUMPING or any(map(_is_read, batch.rows)):
            return False
        return not drafter.may_pay or not any(self._would_draft(row.sequence, batch.num_tokens) for row in batch.rows)

    def _would_draft(self, sequence: Sequence, num_tokens: int) -> bool:
        """Whether something is guessed of what comes behind its known tokens, in a step of so many tokens."""
        if sequence.lease is None or sequence.is_in_prompt:
            return False
        placing, most = self._scheduler.placing, self._scheduler.limits.max_chunk - 1
        try:
            return bool(placing.watch.aside("drafts", placing.drafter.draft, sequence, num_tokens, most))
        except BaseException as error:
            self._scheduler.fail(sequence, error)
            return True


def _is_read(row: Row) -> bool:
    """Whether more is wanted of it than tokens and what is known with them."""
    return row.num_logits > row.num_samples or row.num_hidden > 0


def _rows_of_tokens(batch: Batch) -> dict[int, int]:
    """By id of a sequence, which of the tokens that are sampled is its own."""
    places: dict[int, int] = {}
    first = 0
    for row in batch.rows:
        if row.num_samples and row.sequence.lease is not None:
            places[id(row.sequence)] = first
        first += row.num_samples
    return places
