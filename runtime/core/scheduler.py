"""Which tokens are computed next, and what becomes of a sequence after each step. Pure Python: no tensors, no I/O.

    add -> waiting --admit--> running --commit--> finished
              ^                  |
              +---- preempt -----+   its computed KV stays in the tree, evictable, and is found again on the way back

A waiting sequence whose prefix a running one is computing waits for those blocks instead of computing them again.
What is raised while something is done for one sequence ends that one, with its blocks given back; the cache is then
proved to be whole, for if it is not, that concerns all.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

from stemma.radix import Lease, NextUse, OutOfBlocks, PrefixCache, Segment
from stemma.runtime.core.acceptance import accept_samples, jump_forward
from stemma.runtime.core.admission import Admission
from stemma.runtime.core.batch import Batch, Row, RowResult
from stemma.runtime.core.drafts.drafter import Drafter
from stemma.runtime.core.failures import as_stemma_error, release_lease, typed_pin_error
from stemma.runtime.core.sequence import FinishReason, Sequence
from stemma.runtime.errors import PoolExhausted, PromptTooLong, StemmaError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step may hold.

    max_running: sequences that hold KV at once. max_batch_tokens: tokens computed in a step, of all sequences.
    max_chunk: tokens of one prompt computed in a step (chunked prefill). reuse: look prefixes up and keep them.
    jump_forward: append what grammar matchers force.
    """

    max_running: int = 64
    max_batch_tokens: int = 1024
    max_chunk: int = 1024
    reuse: bool = True
    jump_forward: bool = True


class Scheduler:
    """`add` and `abort` sequences; `schedule` a batch, compute it, `commit` what was sampled; again."""

    def __init__(self, cache: PrefixCache, limits: Limits, drafter: Drafter | None = None) -> None:
        self.cache = cache
        self.limits = limits
        self.admission = Admission(cache, limits.reuse, limits.max_chunk)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.drafter = drafter or Drafter({}, limits.max_batch_tokens)
        self._ended: list[Sequence] = []
        self.num_preempted = 0
        self._num_arrived = 0

    @property
    def capacity(self) -> int:
        """Tokens that the whole pool can hold."""
        return self.cache.num_blocks * self.cache.block_size

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
        insort(self.waiting, sequence, key=_order)
        if self.limits.jump_forward and sequence.request.max_tokens > 0:
            jump_forward(sequence)  # what the output must begin with is computed with the prompt
        self._settle(sequence)

    def _check_pin(self, sequence: Sequence, num_tokens: int) -> None:
        """Nothing is computed for a pin that could not be kept. Raises PinRefused."""
        if sequence.retained is not None:
            with typed_pin_error():
                self.cache.check_pin(sequence.retained, num_tokens)

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

    def schedule(self) -> Batch | None:
        """The next step: running sequences first (decodes before prompts), then whoever can be admitted."""
        batch = Batch()
        decoding = [sequence for sequence in self.running if not sequence.is_in_prompt]
        self.drafter.begin(sum(self._num_pending(sequence) for sequence in self.running), decoding)
        for sequence in sorted(self.running, key=lambda item: (item.is_in_prompt, *_order(item))):
            if sequence.lease is not None:  # else it was preempted by one before it
                try:
                    self._place_running(batch, sequence)
                except BaseException as error:
                    self.fail(sequence, error)
        self._admit(batch)
        batch.drop_finished()
        batch.rows.sort(key=_side)  # those of one adapter, and with a common beginning, stand side by side
        return batch if batch.rows else None

    def commit(self, batch: Batch, results: Iterable[RowResult]) -> None:
        """Take what a step computed and sampled: extend leases, jump, finish, publish prefixes in the tree."""
        for row, result in zip(batch.rows, results, strict=True):
            try:
                self._commit_row(row, result)
            except BaseException as error:
                self.fail(row.sequence, error)

    def take_ended(self) -> list[Sequence]:
        """The sequences that ended since the last call: finished, aborted, or failed with an error."""
        ended, self._ended = self._ended, []
        return ended

    # Placing rows ----------------------------------------------------------------
    def _place_running(self, batch: Batch, sequence: Sequence) -> None:
        while not self._place(batch, sequence):
            if self.cache.give_up_one():
                continue
            placed = {id(row.sequence) for row in batch.rows}
            victims = [item for item in self.running if id(item) not in placed]
            victim = max(victims, key=lambda item: (not item.is_overdue, *_order(item)))
            if victim is sequence and not batch.rows and len(self.running) == 1:
                if sequence.goes_alone:
                    self._exhausted(sequence)
                    return
                sequence.goes_alone = True
            self._preempt(victim)
            if victim is sequence:
                return

    def _place(self, batch: Batch, sequence: Sequence) -> bool:
        """Add a row for a sequence with a lease; False if there are no blocks for it."""
        assert sequence.lease is not None
        budget = min(self.limits.max_batch_tokens - batch.num_tokens, self.limits.max_chunk)
        if budget <= 0:
            return True
        start = sequence.lease.num_tokens
        pending = sequence.tokens[start : start + budget]
        is_sampled = start + len(pending) == len(sequence.tokens) and sequence.request.max_tokens > 0
        sequence.drafts = self._drafts(batch, sequence, len(pending)) if is_sampled else []
        segments = self._reserve(batch, sequence.lease, len(pending), len(sequence.drafts))
        if segments is None and sequence.drafts:
            sequence.drafts = []
            segments = self._reserve(batch, sequence.lease, len(pending), 0)
        if segments is None:
            return False
        drafts = sequence.drafts
        num_samples = 1 + len(drafts) if is_sampled else 0
        batch.add(Row(sequence, start, pending + drafts, len(drafts), num_samples, segments))
        return True

    def _num_pending(self, sequence: Sequence) -> int:
        """Tokens that the next step computes of a running sequence."""
        assert sequence.lease is not None
        return min(len(sequence.tokens) - sequence.lease.num_tokens, self.limits.max_chunk)

    def _drafts(self, batch: Batch, sequence: Sequence, num_pending: int) -> list[int]:
        """None where one of those behind it in the step would not find room beside them: each takes a slot."""
        num_rows = batch.num_tokens - batch.num_drafts + num_pending
        drafts = self.drafter.draft(sequence, num_rows, self.limits.max_chunk - num_pending)
        if drafts and self.cache.has_marks:
            num_needed = len(self.running) - len(batch.rows) + len(drafts)
            if not self.cache.can_advance(num_needed, num_needed):
                return []
        return drafts

    def _reserve(self, batch: Batch, lease: Lease, num_pending: int, num_drafts: int) -> list[Segment] | None:
        """Room for so many tokens in all pools, or None; what has to be copied for it is the batch's to do."""
        try:
            return self._reserved(batch, lease, num_pending + num_drafts, num_drafts)
        except OutOfBlocks:
            return None

    def _reserved(self, batch: Batch, lease: Lease, num_tokens: int, num_drafts: int) -> list[Segment]:
        copies = lease.reserve(num_tokens)
        batch.copies += copies
        if not self.cache.has_marks:
            return []
        advance = lease.advance(num_tokens, num_drafts)
        batch.window_copies += advance.copies
        return advance.segments

    def _preempt(self, sequence: Sequence) -> None:
        try:
            self._let_go(sequence, NextUse.SOON)
        except BaseException as error:
            self.fail(sequence, error)
            return
        self.running.remove(sequence)
        self.num_preempted += 1
        insort(self.waiting, sequence, key=_order)

    # Admission ----------------------------------------------------------------
    def _admit(self, batch: Batch) -> None:
        if not self.waiting or self._is_full(batch):
            return
        last_arrival = 0
        considered = self.admission.considered(self.waiting)
        for sequence, hit_len in self.admission.candidates(considered):
            if self._is_full(batch):
                break
            try:
                if not self._admit_one(batch, sequence, hit_len):
                    break
            except BaseException as error:
                self.fail(sequence, error)
            if sequence.lease is not None:
                last_arrival = max(last_arrival, sequence.arrival)
        for sequence in considered:
            sequence.num_overtaken += sequence.lease is None and sequence.arrival < last_arrival

    def _admit_one(self, batch: Batch, sequence: Sequence, hit_len: int) -> bool:
        """Start it, if it need not wait for another's blocks; False if nobody may be started after it."""
        if sequence.error is not None:
            self.fail(sequence, sequence.error)
            return True
        if self.admission.is_being_computed(sequence, hit_len, self.running):
            return True
        while not (started := self._start(sequence)) and self.cache.give_up_one():
            pass
        if not started:
            if self.running:
                return False  # nobody smaller overtakes it: blocks will come free
            self._exhausted(sequence)
            return True
        if not self._place(batch, sequence):
            self._preempt(sequence)
            return False
        return True

    def _is_full(self, batch: Batch) -> bool:
        return len(self.running) >= self.limits.max_running or batch.num_tokens >= self.limits.max_batch_tokens

    def _start(self, sequence: Sequence) -> bool:
        """Lease what is cached of it if there is room for the rest; False leaves everything as it was."""
        lease = self.admission.acquire(sequence, self.running)
        if lease is None:
            return False
        sequence.lease = lease
        if not self._shares(sequence):
            lease.want_none()  # nobody would find them
        sequence.prompt_logprobs.clear()
        sequence.pooled.clear()
        found, matched = (min(length, sequence.num_prompt) for length in (lease.num_tokens, lease.match_len))
        if not sequence.num_computed_once:
            sequence.num_replayed, sequence.replayed_until = matched - found, lease.match_len
        sequence.num_cached += max(0, found - sequence.num_computed_once)
        sequence.num_computed_once = max(sequence.num_computed_once, lease.match_len)
        self.waiting.remove(sequence)
        self.running.append(sequence)
        return True

    # After a step ----------------------------------------------------------------
    def _commit_row(self, row: Row, result: RowResult) -> None:
        sequence = row.sequence
        if sequence.error is not None:  # it may not have been computed
            self.fail(sequence, sequence.error)
            return
        assert sequence.lease is not None
        was_in_prompt = sequence.is_in_prompt
        sequence.prompt_logprobs += result.prompt_logprobs
        if result.pooled is not None:
            sequence.pooled.append(result.pooled)
        num_before = len(sequence.tokens)
        num_accepted = accept_samples(row, result)
        self.drafter.observe(sequence, sequence.tokens[num_before:], row.num_drafts, num_accepted)
        self._extend(sequence, row.start, len(row.tokens) - row.num_drafts + num_accepted)
        if was_in_prompt and self._shares(sequence):
            sequence.lease.commit()
        if self.limits.jump_forward and result.tokens and sequence.error is None:
            jump_forward(sequence)
        if sequence.request.max_tokens == 0 and sequence.lease.num_tokens == sequence.num_prompt:
            sequence.finish_reason = FinishReason.LENGTH
        self._settle(sequence)

    def _settle(self, sequence: Sequence) -> None:
        """End it if it has an error or a reason to."""
        if sequence.error is not None:
            self.fail(sequence, sequence.error)
        elif sequence.finish_reason is not None:
            self._finish(sequence, sequence.finish_reason)

    def _extend(self, sequence: Sequence, start: int, num_tokens: int) -> None:
        assert sequence.lease is not None
        end = start + num_tokens
        sequence.lease.extend(sequence.tokens[start:end])
        sequence.num_recomputed += max(0, min(sequence.num_computed_once, end) - max(start, sequence.replayed_until))
        sequence.num_computed_once = max(sequence.num_computed_once, end)

    def _shares(self, sequence: Sequence) -> bool:
        return self.limits.reuse and not sequence.goes_alone

    def _let_go(self, sequence: Sequence, next_use: NextUse) -> None:
        if sequence.lease is None:
            return
        if self._shares(sequence):
            sequence.lease.mark()
            sequence.lease.commit()
        lease, sequence.lease = sequence.lease, None
        release_lease(lease, next_use)

    def _hand_over(self, sequence: Sequence) -> None:
        if sequence.retained is not None and sequence.lease is not None and self._shares(sequence):
            sequence.lease.mark()
            with typed_pin_error():
                sequence.lease.retain(sequence.retained)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish_reason = reason
        try:
            if reason in (FinishReason.STOP, FinishReason.LENGTH):
                self.admission.ended(sequence)
            self._hand_over(sequence)
            self._let_go(sequence, sequence.request.next_use)
        except BaseException as error:
            self.fail(sequence, error)
        else:
            self._leave(sequence)

    def _leave(self, sequence: Sequence) -> None:
        """It stands in no queue any more, and once among those that ended."""
        for queue in (self.waiting, self.running):
            if sequence in queue:
                queue.remove(sequence)
        if sequence not in self._ended:
            self._ended.append(sequence)
        self.drafter.forget(sequence)

    def _exhausted(self, sequence: Sequence) -> None:
        cache = self.cache
        found, option = f"{cache.available} blocks of {cache.block_size}", "kv_tokens"
        if cache.has_marks:
            found += f", {cache.available_window_blocks} of windows and {cache.available_slots} states"
            option += " or memory"
        error = PoolExhausted(
            f"the sequence needs {len(sequence.tokens)} tokens of KV; only {found} can be had, pins and sessions hold "
            f"the rest: release some or raise {option}"
        )
        self.fail(sequence, error)


def _order(sequence: Sequence) -> tuple[int, int]:
    return (-sequence.request.priority, sequence.arrival)


def _side(row: Row) -> tuple[str, array[int]]:
    assert row.sequence.lease is not None
    return row.sequence.request.lora or "", row.sequence.lease.blocks
