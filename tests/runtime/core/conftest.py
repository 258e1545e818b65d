"""A model without tensors: its KV holds the tokens themselves, the next token is a hash of what the block table shows.

Any wrong block, slot, copy or order changes its output."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from stemma.runtime.core.attention_metadata import make_attention_metadata
from stemma.runtime.core.batch import Batch, RowResult
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import Sequence

VOCABULARY = 50


def next_token(context: list[int]) -> int:
    digest = hashlib.blake2b(np.array(context, dtype=np.int32).tobytes(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % VOCABULARY


class FakeModel:
    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.kv = [-1] * (num_blocks * block_size)
        self.num_computed = 0

    def forward(self, batch: Batch) -> list[RowResult]:
        size = self.block_size
        for copy in batch.copies:
            for offset in range(copy.num_tokens):
                self.kv[copy.destination * size + offset] = self.kv[copy.source * size + offset]
        metadata = make_attention_metadata(batch, size)
        tokens = [token for row in batch.rows for token in row.tokens]
        for slot, token in zip(metadata.slots, tokens, strict=True):
            self.kv[slot] = token
        self.num_computed += len(tokens)
        return [self._sample(row, table) for row, table in zip(batch.rows, metadata.block_tables, strict=True)]

    def _sample(self, row, table) -> RowResult:
        end = row.start + len(row.tokens)
        context = [self.kv[table[at // self.block_size] * self.block_size + at % self.block_size] for at in range(end)]
        positions = range(end - row.num_samples + 1, end + 1)
        return RowResult([next_token(context[:position]) for position in positions])


def answers(batch: Batch) -> list[RowResult]:
    """What a model says that computes nothing."""
    return [RowResult([(row.start + at) % VOCABULARY for at in range(row.num_samples)]) for row in batch.rows]


def expected(prompt: list[int], max_tokens: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(max_tokens):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


def run(scheduler: Scheduler, model: FakeModel, check: bool = True, max_steps: int = 10_000) -> list[Sequence]:
    """Step until idle; every invariant of the cache holds after each step."""
    ended: list[Sequence] = []
    for _ in range(max_steps):
        batch = scheduler.schedule()
        if batch is not None:
            scheduler.commit(batch, model.forward(batch))
        if check:
            scheduler.cache.check()
        ended += scheduler.take_ended()
        if scheduler.is_idle:
            return ended
    raise AssertionError("the scheduler never became idle")


@pytest.fixture(scope="session")
def fake() -> SimpleNamespace:
    return SimpleNamespace(Model=FakeModel, answers=answers, expected=expected, run=run, next_token=next_token)
