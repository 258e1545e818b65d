"""A step's rows: which tokens of a running sequence are computed, and room for their KV. Ends and preempts nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stemma.radix import OutOfBlocks, PrefixCache, Segment
from stemma.runtime.core.batch import Batch, Row
from stemma.runtime.core.drafts.drafter import Drafter
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.pace import Pace
from stemma.runtime.core.running import Running
from stemma.runtime.core.sequence import Sequence
from stemma.runtime.core.step_cost import MOST, NOTHING, Load
from stemma.runtime.core.stopwatch import unwatched
from stemma.runtime.core.waiting import DECODE_WEIGHT, Waiting


class Placing:
    """Makes the rows of one step after the other."""

    def __init__(
        self, cache: PrefixCache, limits: Limits, running: Running, waiting: Waiting, drafter: Drafter
    ) -> None:
        self.cache = cache
        self.limits = limits
        self.running = running
        self.waiting = waiting
        self.drafter = drafter
        self.pace = Pace(drafter.cost, limits.tpot, limits.max_chunk, limits.max_batch_tokens)
        self.watch = unwatched()  # told how long drafts take, and whoever commits, how long jumps do
        self._batch = Batch()  # the last that was begun
        self.decodes = NOTHING  # of the step that is being made
        self.prompt_budget = MOST  # tokens of prompts that it may still have
        self.ahead: Mapping[int, int] | None = None  # a step is under way: by id of a sequence, the row of its token
        self.lacks_room = False  # somebody found none in a step that was made ahead

    def begin(self, batch: Batch) -> None:
        """A new step. Its decodes read about as much KV as those of the step before."""
        num_read, self._batch = self._batch.load.num_read, batch
        prompts = sum(len(each.tokens) - each.num_computed for each in self.running.prompts)
        num_prompt = min(prompts, self.prompt_budget, self.limits.max_chunk)
        load = Load(num_prompt, len(self.running.decodes), num_read)
        most = self.pace.most_decoded(num_read)
        self.watch.aside("drafts", self.drafter.begin, load, self.running.decodes, most)

    def begin_prompts(self, batch: Batch) -> None:
        """All that decode have their rows; how many tokens of prompts may stand beside them."""
        self.decodes = batch.load
        context = self.running.prompts[0].num_computed if self.running.prompts else 0
        self.prompt_budget = self.pace.budget(
            self.decodes, context, is_read=self._is_read(), num_drafts=batch.num_drafts, spent=self.drafter.ahead
        )

    def prefill_seconds(self, num_tokens: int, context: int) -> float:
        """Until so many tokens of a prompt, behind others, are computed."""
        return self.pace.prefill_seconds(num_tokens, context, self.decodes, is_read=self._is_read())

    def may_decode(self, num_read: int = 0) -> bool:
        """Whether one more, with so much KV, may decode beside all that run, if there is a target. Those that decode
        nothing make no difference."""
        if not self.pace.has_target:
            return True
        others = [len(each.tokens) for each in self.running if each.request.max_tokens > 1]
        return self.pace.admits(len(others) + 1, num_read + sum(others))

    def _is_read(self) -> bool:
        return any(sequence.is_read for sequence in self.running.decodes)

    def place_decodes(self, batch: Batch, fail: Callable[[Sequence, BaseException], None]) -> bool:
        """A row for each of those that are past their prompts; False where one finds no room. fail: told what goes
        wrong in one of them."""
        may_draft = self.ahead is None and self.drafter.may_pay
        rows: list[Row] = []
        num_read = 0
        for sequence in [*self.running.by_side()]:
            start = sequence.num_computed
            pending = sequence.tokens[start:] or self._unknown(sequence)
            has_room = start < sequence.room_end and len(pending) == 1
            try:
                if has_room and not (may_draft and self._is_guessed(batch, sequence, 1)):  # most rows of most steps
                    rows.append(Row(sequence, start, pending, 0, 1))
                    num_read += start
                    continue
                batch.add_decodes(rows, num_read)
                rows, num_read = [], 0
                is_placed = self._add(batch, sequence, pending) if has_room else self.place(batch, sequence)
                if not is_placed:
                    return False
            except BaseException as error:
                fail(sequence, error)
        batch.add_decodes(rows, num_read)
        return batch.num_tokens < self.limits.max_batch_tokens

    def place(self, batch: Batch, sequence: Sequence) -> bool:
        """Add a row for a sequence with a lease; False if there are no blocks for it."""
        budget = min(self.limits.max_batch_tokens - batch.num_tokens, self.limits.max_chunk)
        in_prompt = sequence.is_in_prompt
        if in_prompt:
            budget = min(budget, self.prompt_budget)
        if budget <= 0:
            return True
        start = sequence.num_computed
        pending = sequence.tokens[start : start + budget] or self._unknown(sequence)
        if not pending:
            return True  # it is likely to end with the step under way
        is_sampled = start + len(pending) >= len(sequence.tokens) and sequence.request.max_tokens > 0
        sequence.drafts = []
        if is_sampled and self.ahead is None:
            self._is_guessed(batch, sequence, len(pending))
        is_placed = self._add(batch, sequence, pending, is_sampled=is_sampled)
        if is_placed and in_prompt:
            self.prompt_budget -= len(pending)
        return is_placed

    def _add(self, batch: Batch, sequence: Sequence, pending: list[int], *, is_sampled: bool = True) -> bool:
        """A row of these tokens and the sequence's drafts, or without these where they find no room."""
        segments = self._reserve(batch, sequence, len(pending), len(sequence.drafts))
        if segments is None and sequence.drafts:
            sequence.drafts = []
            segments = self._reserve(batch, sequence, len(pending), 0)
        if segments is None:
            return False
        drafts = sequence.drafts
        num_samples = 1 + len(drafts) if is_sampled else 0
        batch.add(Row(sequence, sequence.num_computed, pending + drafts, len(drafts), num_samples, segments))
        return True

    def _unknown(self, sequence: Sequence) -> list[int]:
        """The id that stands for the token which is chosen for it in the step under way, unless that is its last."""
        row = None if self.ahead is None else self.ahead.get(id(sequence))
        return [] if row is None or sequence.num_generated + 1 >= sequence.request.max_tokens else [-1 - row]

    def _is_guessed(self, batch: Batch, sequence: Sequence, num_pending: int) -> bool:
        """Whether there is anything to compute behind what is pending: the sequence's drafts, from now on. None where
        one of those behind it in the step would not find room beside them: each takes a slot."""
        num_rows = batch.num_tokens - batch.num_drafts + num_pending
        most = self.limits.max_chunk - num_pending
        drafts = self.watch.aside("drafts", self.drafter.draft, sequence, num_rows, most)
        if drafts and self.cache.has_marks:
            num_needed = len(self.running) - len(batch.rows) + len(drafts)
            if not self.cache.can_advance(num_needed, num_needed):
                drafts = []
        sequence.drafts = drafts
        return bool(drafts)

    def _reserve(self, batch: Batch, sequence: Sequence, num_pending: int, num_drafts: int) -> list[Segment] | None:
        """Room for so many tokens in all pools, or None; what has to be copied for it is the batch's to do."""
        try:
            return self._reserved(batch, sequence, num_pending + num_drafts, num_drafts)
        except OutOfBlocks:
            return None

    def _reserved(self, batch: Batch, sequence: Sequence, num_tokens: int, num_drafts: int) -> list[Segment]:
        lease = sequence.lease
        assert lease is not None
        self.tell_lease(sequence)
        batch.copies += lease.reserve(num_tokens)
        if not self.cache.has_marks:
            sequence.room_end = sequence.num_computed + lease.room
            return []
        advance = lease.advance(num_tokens, num_drafts)
        batch.window_copies += advance.copies
        return advance.segments

    def tell_lease(self, sequence: Sequence) -> None:
        """Its lease hears what was computed since it heard last: seldom, in a decode. Its tenant was given that."""
        lease = sequence.lease
        assert lease is not None
        known = lease.num_tokens
        if known < sequence.num_computed:
            lease.extend(sequence.tokens[known : sequence.num_computed])
            if known >= sequence.num_prompt:
                self.waiting.serve(sequence, DECODE_WEIGHT * (sequence.num_computed - known))
