"""The input of one step, and what came out of it. Plain values; the runner turns a batch into tensors."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import NamedTuple

from stemma.radix import BlockCopy, Segment
from stemma.runtime.core.pooling import Vector
from stemma.runtime.core.running import side
from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.core.sequence import Sequence
from stemma.runtime.core.step_cost import NOTHING, Load


class Row(NamedTuple):
    """One sequence's part of a step.

    start: position of the first token that is computed; `lease.num_tokens` of its KV exists before.
    tokens: what is computed: pending tokens of the sequence, then `num_drafts` drafts.
    num_samples: how many of the last positions are sampled: 0 inside a prompt, else 1 + num_drafts.
    segments: the slots between which layers with a state compute them; () in a model without such layers.
    """

    sequence: Sequence
    start: int
    tokens: list[int]
    num_drafts: int
    num_samples: int
    segments: Items[Segment] = ()

    @property
    def num_logits(self) -> int:
        """How many of the last positions need logits: those sampled, and those that predict a scored prompt token."""
        request = self.sequence.request
        if request.pooling is not None and not request.pooling.reads_hidden:
            return int(self._ends_prompt)
        if request.prompt_logprobs is None or self.start >= self.sequence.num_prompt:
            return self.num_samples
        first = max(self.start, request.scored_from - 1)
        return max(self.start + len(self.tokens) - first, self.num_samples)

    @property
    def num_hidden(self) -> int:
        """How many of the last positions need their hidden states themselves."""
        pooling = self.sequence.request.pooling
        if pooling is None or not pooling.reads_hidden:
            return 0
        return len(self.tokens) if pooling.kind == "mean" else int(self._ends_prompt)

    @property
    def _ends_prompt(self) -> bool:
        return self.start + len(self.tokens) >= self.sequence.num_prompt


@dataclass(slots=True)
class Batch:
    """One step: rows to compute, after copying blocks in order. copies, window_copies: those that are still to be made,
    of the pool of full layers and of that of layers with a window.

    num_tokens: that the model computes. num_prompt_tokens: of prompts that are computed by many tokens at once.
    num_seen: positions that all rows see, all together: what attention reads and multiplies.
    num_single: rows of which nothing is wanted but one token, if that.
    """

    rows: list[Row] = field(default_factory=list)
    copies: list[BlockCopy] = field(default_factory=list)
    window_copies: list[BlockCopy] = field(default_factory=list)
    num_tokens: int = 0
    num_samples: int = 0
    num_drafts: int = 0
    num_prompt_tokens: int = 0
    num_seen: int = 0
    num_single: int = 0
    load: Load = NOTHING

    @property
    def is_decode(self) -> bool:
        """Whether each row is a token behind a prompt, from which the next one is chosen; so for most steps."""
        return self.load.num_decoded == self.num_tokens == self.num_samples == len(self.rows)

    @property
    def is_single(self) -> bool:
        """Whether nothing is wanted of any row but one token, or none inside a prompt; so for nearly all steps."""
        return self.num_single == len(self.rows)

    def add(self, row: Row) -> None:
        """Put a row into the step."""
        self.rows.append(row)
        self._count(row)

    def add_decodes(self, rows: list[Row], num_read: int) -> None:
        """Put rows of one token each, which is sampled, into the step. num_read: tokens before them."""
        self.rows += rows
        self.num_tokens += len(rows)
        self.num_samples += len(rows)
        self.num_single += len(rows)
        self.num_seen += num_read + len(rows)
        load = self.load
        self.load = load._replace(num_decoded=load.num_decoded + len(rows), num_read=load.num_read + num_read)

    def _count(self, row: Row) -> None:
        count, start, load = len(row.tokens), row.start, self.load
        self.num_tokens += count
        self.num_samples += row.num_samples
        self.num_drafts += row.num_drafts
        self.num_single += row.num_logits == row.num_samples <= 1 and not row.num_hidden
        self.num_seen += count * start + count * (count + 1) // 2
        num_left = row.sequence.num_prompt - start
        if num_left > 1:
            self.num_prompt_tokens += count
        if num_left > 0:
            pairs = load.num_pairs + count * (start + count / 2)
            self.load = load._replace(num_prompt=load.num_prompt + count, num_pairs=pairs)
        else:
            self.load = load._replace(num_decoded=load.num_decoded + count, num_read=load.num_read + start)

    def drop_rows(self) -> None:
        """Leave out all rows; what has to be copied for them still has to be."""
        self.rows = []
        self.num_tokens = self.num_samples = self.num_drafts = self.num_prompt_tokens = self.num_seen = 0
        self.num_single = 0
        self.load = NOTHING

    def drop_finished(self) -> bool:
        """Leave out the rows of sequences that ended after they were put in; whether there were any."""
        if all(row.sequence.finish_reason is None for row in self.rows):
            return False
        self.keep([row for row in self.rows if not row.sequence.is_finished])
        return True

    def put_side_by_side(self, num_sorted: int) -> None:
        """Those of one adapter, and with a common beginning. num_sorted: how many of the first stand so already."""
        others = self.rows[num_sorted:]
        del self.rows[num_sorted:]
        for row in others:
            insort(self.rows, row, key=lambda row: side(row.sequence))

    def keep(self, rows: Items[Row]) -> None:
        """Leave out all other rows."""
        self.drop_rows()
        for row in rows:
            self.add(row)


@dataclass(slots=True)
class RowResult:
    """What the sampler says of one row.

    tokens: one for each sampled position. logprobs: likewise, if asked for. prompt_logprobs: of the prompt tokens that
    follow each computed position, if asked for. pooled: what these positions add to what is read off the prompt.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: Items[TokenLogprob] = ()
    prompt_logprobs: Items[TokenLogprob] = ()
    pooled: Vector | None = None
