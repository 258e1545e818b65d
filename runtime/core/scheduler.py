"""Which tokens are computed next, and what becomes of a sequence after each step. Pure Python: no tensors, no I/O.

    add -> waiting --admit--> running --commit--> finished
              ^                  |
              +---- preempt -----+   its computed KV stays in the tree, evictable, and is found again on the way back

A waiting sequence whose prefix a running one is computing waits for those blocks instead of computing them again.
Who of the waiting goes next is `Waiting`'s to say; how much of prompts a step computes is `Pace`'s.
What is raised while something is done for one sequence ends that one alone, if the cache is proved whole behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from stemma.radix import NextUse, PrefixCache
from stemma.runtime.core.acceptance import accept_samples, jump_forward
from stemma.runtime.core.admission import Admission
from stemma.runtime.core.batch import Batch, Row, RowResult
from stemma.runtime.core.deadlines import Deadlines, missed_deadline
from stemma.runtime.core.drafts.drafter import Drafter
from stemma.runtime.core.failures import as_stemma_error, release_lease, typed_pin_error
from stemma.runtime.core.holding import Holding
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.order import ORDERS
from stemma.runtime.core.placing import Placing
from stemma.runtime.core.running import Running
from stemma.runtime.core.sequence import FinishReason, Sequence
from stemma.runtime.core.waiting import Look, Waiting
from stemma.runtime.errors import PromptTooLong, StemmaError

MAX_LOOKS = 64
"""Waiting sequences that are looked at in one step, beside those that are started."""


class Scheduler:
    """`add` and `abort` sequences; `schedule` a batch, compute it, `commit` what was sampled; again. Or one step ahead
    (`ahead.py`): `placing.ahead` says that a step is under way, and `note_computed` what of it is sure.

    Has no clock: whoever calls it says what time it is, which matters to deadlines alone.
    """

    def __init__(self, cache: PrefixCache, limits: Limits, drafter: Drafter | None = None) -> None:
        self.cache = cache
        self.limits = limits
        self.admission = Admission(cache, limits.reuse, limits.max_chunk)
        self.waiting = Waiting(ORDERS[limits.order])
        self.running = Running()
        guesses = drafter or Drafter({}, limits.max_batch_tokens)
        self.placing = Placing(cache, limits, self.running, self.waiting, guesses)
        self._holding = Holding(limits, self.placing, self.admission)
        self._deadlines = Deadlines()
        self._ended: dict[int, Sequence] = {}  # by id
        self.num_preempted = 0
        self._num_arrived = 0

    @property
    def capacity(self) -> int:
        """Tokens that the whole pool can hold."""
        return self.cache.num_blocks * self.cache.block_size

    @property
    def drafter(self) -> Drafter:
        return self.placing.drafter

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.running

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises PromptTooLong if the pool can never hold it; it is not queued then."""
        longest = sequence.num_prompt + sequence.request.max_tokens
        if longest > self.capacity:
            raise PromptTooLong(
                f"the prompt ({sequence.num_prompt} tokens) and max_tokens ({sequence.request.max_tokens}) need "
                f"{longest} tokens of KV; the pool holds {self.capacity}: lower max_tokens or raise kv_tokens",
                param="max_tokens",
            )
        self._check_pin(sequence, longest)
        self._num_arrived += 1
        sequence.arrival = self._num_arrived
        self._wait(sequence)
        self._deadlines.add(sequence)
        request = sequence.request
        if self.limits.jump_forward and request.max_tokens > 0 and not request.reads_prompt:
            jump_forward(sequence)  # computed with the prompt; if it is the whole output, neither is computed
        self._settle(sequence)

    def _check_pin(self, sequence: Sequence, num_tokens: int) -> None:
        """Nothing is computed for a pin that could not be kept. Raises PinRefused."""
        if sequence.retained is not None:
            with typed_pin_error():
                self.cache.check_pin(sequence.retained, num_tokens)

    def _wait(self, sequence: Sequence) -> None:
        """It must start for its deadline when half of its time is gone, or twice what its prompt takes is left."""
        hit_len, urgent_from = self.admission.hit_len(sequence), math.inf
        seconds = self.placing.prefill_seconds(len(sequence.tokens) - hit_len, hit_len)
        if sequence.request.ttft is not None:
            urgent_from = sequence.deadline - max(2 * seconds, sequence.request.ttft / 2)
        self.waiting.add(sequence, self.admission.beginning(sequence), hit_len, urgent_from)
        self.admission.ask_beneath(sequence, hit_len, seconds)

    def abort(self, sequence: Sequence) -> None:
        """End a sequence now, wherever it is. What it computed stays cached."""
        if not sequence.is_finished:
            self._finish(sequence, FinishReason.ABORT)

    def fail(self, sequence: Sequence, error: BaseException) -> None:
        """End a sequence, wherever it is, with what went wrong in it. What it computed last is not kept.

        Raises AssertionError if the cache is broken.
        """
        sequence.error = sequence.error or as_stemma_error(error)
        sequence.finish_reason = FinishReason.ERROR
        lease, sequence.lease = sequence.lease, None
        self._leave(sequence)
        if lease is not None:
            release_lease(lease)
        if not isinstance(error, StemmaError):
            self.cache.check()

    def schedule(self, now: float = 0.0) -> Batch | None:
        """The next step: running sequences first (decodes before prompts), then whoever can be admitted."""
        self.admission.changed()
        batch = Batch()
        self.placing.begin(batch)
        num_sorted = len(batch.rows) if self._place_decodes(batch) else 0
        if self.running.prompts or self.waiting:
            self.placing.begin_prompts(batch)
            if self._deadlines:
                self._refuse_late(now)
            for sequence in [*self.running.prompts]:
                self._place_or_fail(batch, sequence)
            self._admit(batch, now)
        if self._ended and batch.drop_finished():
            num_sorted = 0
        batch.put_side_by_side(num_sorted)
        return batch if batch.rows else None

    def commit(self, batch: Batch, results: Iterable[RowResult], now: float = 0.0) -> None:
        """Take what a step computed and sampled: extend leases, jump, finish, publish prefixes in the tree."""
        for row, result in zip(batch.rows, results, strict=True):
            try:
                if row.sequence.lease is not None:  # else it left while the step was under way
                    self._commit_row(row, result, now)
            except BaseException as error:
                self.fail(row.sequence, error)

    def note_computed(self, rows: Iterable[Row]) -> None:
        """Of a step that was launched, before what is sampled in it is known: all that is launched later finds the KV
        of its tokens."""
        for row in rows:
            try:
                if row.sequence.lease is not None:
                    self._computed(row, len(row.tokens))
            except BaseException as error:
                self.fail(row.sequence, error)

    def take_ended(self) -> list[Sequence]:
        """The sequences that ended since the last call: finished, aborted, or failed with an error."""
        ended, self._ended = self._ended, {}
        return [*ended.values()]

    # Time ----------------------------------------------------------------
    def _refuse_late(self, now: float) -> None:
        for sequence in self._deadlines.missed(now, self._seconds_left):
            self.fail(sequence, missed_deadline(sequence))

    def _seconds_left(self, sequence: Sequence) -> float:
        """Until its prompt is computed."""
        known = self.waiting.known(sequence) if sequence.lease is None else sequence.num_computed
        return self.placing.prefill_seconds(sequence.num_prompt - known, known)

    # Placing rows ----------------------------------------------------------------
    def _place_decodes(self, batch: Batch) -> bool:
        """Whether they stand side by side already: all found room."""
        if not self.cache.has_marks and self.placing.place_decodes(batch, self.fail):
            return True
        batch.drop_rows()
        for sequence in [*self.running.decodes]:
            self._place_or_fail(batch, sequence)
        return False

    def _place_or_fail(self, batch: Batch, sequence: Sequence) -> None:
        if sequence.lease is None:
            return  # it was preempted by one before it
        try:
            self._place_running(batch, sequence)
        except BaseException as error:
            self.fail(sequence, error)

    def _place_running(self, batch: Batch, sequence: Sequence) -> None:
        while not self.placing.place(batch, sequence):
            if self.placing.ahead is not None:
                self.placing.lacks_room = True  # whoever is under way holds what it writes to
                return
            if self.cache.give_up_one():
                continue
            victim = self.running.last({id(row.sequence) for row in batch.rows})
            if victim is sequence and not batch.rows and len(self.running) == 1:
                if sequence.goes_alone:
                    self.fail(sequence, self.admission.exhausted(sequence))
                    return
                sequence.goes_alone = True
            self._preempt(victim)
            if victim is sequence:
                return

    def _preempt(self, sequence: Sequence) -> None:
        try:
            self._holding.let_go(sequence, NextUse.SOON)
            self.running.remove(sequence)
            self.waiting.moved(sequence)
            self.num_preempted += 1
            self._wait(sequence)
        except BaseException as error:
            self.fail(sequence, error)

    # Admission ----------------------------------------------------------------
    def _admit(self, batch: Batch, now: float) -> None:
        if not self.waiting or self._is_full(batch):
            return
        is_lacking = self.waiting.is_lacking and self.running
        room = self.cache.available - self.admission.num_promised(self.running) if is_lacking else None
        for loaded in self.admission.beneath.arrived():
            self.waiting.moved(loaded)
        self.waiting.begin_round(room)
        num_looks, look = 0, Look.STARTED
        while look is not Look.LAST and num_looks < MAX_LOOKS and not self._is_full(batch):
            sequence = self.waiting.next(now)
            if sequence is None:
                break
            try:
                look = self._look(batch, sequence)
            except BaseException as error:
                look = Look.WAITS
                self.fail(sequence, error)
            num_looks += look is not Look.STARTED
        self.waiting.end_round()

    def _look(self, batch: Batch, sequence: Sequence) -> Look:
        """Start it, if it need not wait."""
        if sequence.error is not None:
            self.fail(sequence, sequence.error)
            return Look.WAITS
        hit_len = self.admission.hit_len(sequence)
        if self.waiting.learn(sequence, hit_len):
            return Look.AGAIN
        blocker = self.admission.blocker(sequence, hit_len, self.running.prompts)
        if blocker is not None:
            self.waiting.wait_behind(sequence, blocker.sequence, None if self.cache.has_marks else blocker.depth)
            return Look.WAITS
        if sequence.request.max_tokens > 1 and not self.placing.may_decode(len(sequence.tokens)):
            return self._pass_over(sequence)
        while not (started := self._start(sequence, hit_len)) and self.cache.give_up_one():
            pass
        if not started:
            return self._no_room(sequence)
        if not self.placing.place(batch, sequence):
            self._preempt(sequence)
            return Look.LAST
        self.admission.joined(sequence)
        return Look.STARTED

    def _no_room(self, sequence: Sequence) -> Look:
        """Others that need less go first; but if it is overdue, what comes free is kept for it."""
        if not self.running:
            self.fail(sequence, self.admission.exhausted(sequence))
            return Look.WAITS
        if sequence.is_overdue:
            return self._pass_over(sequence)
        self.waiting.lack_room(sequence, self.admission.num_lacked)
        return Look.WAITS

    def _pass_over(self, sequence: Sequence) -> Look:
        self.waiting.pass_over(sequence)
        return Look.LAST if sequence.is_overdue else Look.WAITS

    def _is_full(self, batch: Batch) -> bool:
        is_computing_enough = batch.num_tokens >= self.limits.max_batch_tokens or self.placing.prompt_budget <= 0
        return is_computing_enough or len(self.running) >= self.limits.max_running or not self.placing.may_decode()

    def _start(self, sequence: Sequence, hit_len: int) -> bool:
        """Lease what is cached of it if there is room for the rest; False leaves everything as it was."""
        lease = self.admission.acquire(sequence, self.running, hit_len)
        if lease is None:
            return False
        sequence.lease, sequence.num_computed, sequence.room_end = lease, lease.num_tokens, 0
        if not self._holding.shares(sequence):
            lease.want_none()  # nobody would find them
        sequence.prompt_logprobs.clear()
        sequence.pooled.clear()
        found, matched = (min(length, sequence.num_prompt) for length in (lease.num_tokens, lease.match_len))
        if not sequence.num_computed_once:
            sequence.num_replayed, sequence.replayed_until = matched - found, lease.match_len
        sequence.num_cached += max(0, found - sequence.num_computed_once)
        sequence.num_computed_once = max(sequence.num_computed_once, lease.match_len)
        self.waiting.started(sequence, sequence.num_prompt - found)
        self.running.add(sequence)
        return True

    # After a step ----------------------------------------------------------------
    def _commit_row(self, row: Row, result: RowResult, now: float) -> None:
        sequence = row.sequence
        if sequence.error is not None:  # it may not have been computed
            self.fail(sequence, sequence.error)
            return
        if result.prompt_logprobs:
            sequence.prompt_logprobs += result.prompt_logprobs
        if result.pooled is not None:
            sequence.pooled.append(result.pooled)
        num_before = len(sequence.tokens)
        num_accepted = accept_samples(row, result, jumps=self.limits.jump_forward)
        if self.drafter.is_asked:
            came = sequence.tokens[num_before:]
            self.placing.watch.aside("drafts", self.drafter.observe, sequence, came, row.num_drafts, num_accepted)
        if sequence.num_computed == row.start:  # else that was noted
            self._computed(row, len(row.tokens) - row.num_drafts + num_accepted)
        if row.start < sequence.num_prompt and not sequence.is_in_prompt:
            self._end_prompt(sequence, now)
        if sequence.matcher is not None and self.limits.jump_forward and result.tokens and sequence.error is None:
            self.placing.watch.aside("jumps", jump_forward, sequence)
        if sequence.error is not None or sequence.finish_reason is not None:
            self._settle(sequence)

    def _end_prompt(self, sequence: Sequence, now: float) -> None:
        if now > sequence.deadline:
            sequence.error = sequence.error or missed_deadline(sequence)
        if sequence.request.max_tokens == 0:
            sequence.finish_reason = FinishReason.LENGTH

    def _computed(self, row: Row, num_tokens: int) -> None:
        was_in_prompt = row.sequence.is_in_prompt
        self._extend(row.sequence, row.start, num_tokens)
        if was_in_prompt:
            self._publish_prompt(row.sequence)

    def _publish_prompt(self, sequence: Sequence) -> None:
        """What was computed of it can be found by others, who may have waited for that."""
        assert sequence.lease is not None
        self.placing.tell_lease(sequence)
        if self._holding.shares(sequence):
            self._holding.publish(sequence)
            sequence.room_end = 0
        self.waiting.moved(sequence)
        if not sequence.is_in_prompt:
            self.running.finished_prompt(sequence)
            self._deadlines.discard(sequence)

    def _settle(self, sequence: Sequence) -> None:
        """End it if it has an error or a reason to."""
        if sequence.error is not None:
            self.fail(sequence, sequence.error)
        elif sequence.finish_reason is not None:
            self._finish(sequence, sequence.finish_reason)

    def _extend(self, sequence: Sequence, start: int, num_tokens: int) -> None:
        """So many more of its tokens have their KV. The lease is told when it must know: seldom, in a decode."""
        end = sequence.num_computed = start + num_tokens
        if self.cache.has_marks:
            self.placing.tell_lease(sequence)
        if start >= sequence.num_computed_once:
            sequence.num_computed_once = end
            return
        sequence.num_recomputed += max(0, min(sequence.num_computed_once, end) - max(start, sequence.replayed_until))
        sequence.num_computed_once = max(sequence.num_computed_once, end)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish_reason = reason
        try:
            if reason in (FinishReason.STOP, FinishReason.LENGTH):
                self.admission.ended(sequence)
            self._holding.hand_over(sequence)
            self._holding.let_go(sequence, sequence.request.next_use)
        except BaseException as error:
            self.fail(sequence, error)
        else:
            self._leave(sequence)

    def _leave(self, sequence: Sequence) -> None:
        """It stands in no queue any more, and once among those that ended."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        elif sequence in self.running:
            self.running.remove(sequence)
        self.waiting.moved(sequence)
        self.admission.beneath.forget(sequence)
        self._deadlines.discard(sequence)
        self._ended[id(sequence)] = sequence
        self.drafter.forget(sequence)
