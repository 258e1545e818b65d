"""Whose trouble it is when a step fails: one row's, found by computing each alone, or everybody's."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from weakref import WeakSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.radix import Segment
from stemma.runtime.core.batch import Batch, RowResult
from stemma.runtime.core.computing import compute
from stemma.runtime.core.pooling import Pooling
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.stopwatch import unwatched
from stemma.runtime.errors import OutOfDeviceMemory, RequestFailed
from tests.runtime.core.making import Words, row, sequence


class Device:
    """Runner and sampler in one: a row's token is the sum of what it computes. Fails with those that are bad."""

    def __init__(self, bad=(), stage="forward", is_broken=False):
        self.watch = unwatched()
        self.bad, self.stage, self.is_broken = list(bad), stage, is_broken
        self.computed: list[Batch] = []

    def forward(self, batch):
        self.computed.append(batch)
        self._fail("forward", batch)
        batch.copies.clear()
        return batch

    def sample(self, batch, logits):
        assert logits is batch
        self._fail("sample", batch)
        return [RowResult([sum(made.tokens)]) for made in batch.rows]

    def _fail(self, stage, batch):
        if stage == self.stage and (self.is_broken or any(made.sequence in self.bad for made in batch.rows)):
            raise OSError(f"in {stage}")


def batch_of(num_rows):
    """Rows of one to `num_rows` tokens."""
    batch = Batch()
    for number in range(num_rows):
        batch.add(row(sequence([number] * (number + 1)), 0, [number] * (number + 1)))
    batch.copies.append("a copy")
    return batch


def test_a_step_without_trouble_is_computed_once():
    device, batch = Device(), batch_of(3)
    assert [result.tokens for result in compute(device, device, batch)] == [[0], [2], [6]]
    assert device.computed == [batch]


@given(st.integers(1, 5), st.data())
def test_who_cannot_be_computed_has_an_error_and_the_others_their_results(num_rows, data):
    batch = batch_of(num_rows)
    items = [made.sequence for made in batch.rows]
    bad = data.draw(st.sets(st.sampled_from(range(num_rows)), min_size=1))
    device = Device([items[number] for number in bad], data.draw(st.sampled_from(["forward", "sample"])))
    results = compute(device, device, batch)
    for number, (item, result) in enumerate(zip(items, results, strict=True)):
        assert result.tokens == ([] if number in bad else [number * (number + 1)])
        assert (item.error is None) == (number not in bad)
        if item.error is not None:
            assert type(item.error) is RequestFailed
            assert str(item.error.__cause__) == f"in {device.stage}"


@pytest.mark.parametrize("stage", ["forward", "sample"])
def test_what_fails_for_a_sequence_that_asks_for_nothing_concerns_all(stage):
    device, batch = Device(stage=stage, is_broken=True), batch_of(3)
    with pytest.raises(OSError, match=f"in {stage}"):
        compute(device, device, batch)
    assert [made.sequence.error for made in batch.rows] == [None] * 3


def test_the_trial_computes_one_token_in_the_first_ones_place_with_the_copies():
    item = sequence([5, 6, 7], sampling=Sampling(temperature=1.0, logprobs=3), matcher=Words([1]), prompt_logprobs=1)
    item.lease = object()
    batch = Batch([row(item, 1, [6, 7])], ["a copy"], num_tokens=2)
    device = Device([item])
    compute(device, device, batch)
    first, trial, alone = device.computed
    (made,) = trial.rows
    assert (made.start, made.tokens, made.num_drafts, made.num_samples) == (1, [6], 0, 1)
    assert made.sequence.lease is item.lease
    assert made.sequence.matcher is None
    assert made.sequence.request.sampling == Sampling()
    assert made.sequence.request.prompt_logprobs is None
    assert first is batch
    assert alone.rows == batch.rows
    assert batch.copies == alone.copies == []  # made by the trial, and not again


def test_who_had_an_error_before_is_not_computed_again():
    batch = batch_of(3)
    device = Device([batch.rows[0].sequence])
    batch.rows[2].sequence.error = known = RequestFailed("before")
    results = compute(device, device, batch)
    assert [result.tokens for result in results] == [[], [2], []]
    assert batch.rows[2].sequence.error is known
    assert [len(made.rows) for made in device.computed] == [3, 1, 1, 1]


def test_a_wish_to_end_the_process_is_not_looked_into():
    device, batch = Device(), batch_of(2)
    device.forward = lambda batch: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        compute(device, device, batch)


class OutOfMemory(RuntimeError):
    """As torch.OutOfMemoryError."""


class Small(Device):
    """Has room for steps of so many tokens and logits. held: what the failed calls have in their variables."""

    def __init__(self, most_tokens, most_logits=1 << 20):
        super().__init__()
        self.most_tokens, self.most_logits = most_tokens, most_logits
        self.model = SimpleNamespace(ops=SimpleNamespace(free_unused=self._free))
        self.held, self.freed = WeakSet(), []

    def _free(self):
        gc.collect()
        self.freed.append(len(self.held))

    def _fail(self, stage, batch):
        num_logits = sum(made.num_logits for made in batch.rows)
        if sum(len(made.tokens) for made in batch.rows) > self.most_tokens or num_logits > self.most_logits:
            activations = Device()
            self.held.add(activations)
            raise OutOfMemory("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")


def test_a_step_without_room_is_computed_in_parts_when_what_it_held_is_let_go():
    item, other = sequence(range(200)), sequence([7])
    batch = Batch()
    batch.add(row(item, 0, list(range(200))))
    batch.add(row(other, 0, [7]))
    device = Small(60)
    first, last = compute(device, device, batch)
    assert (first.tokens, last.tokens) == ([sum(range(150, 200))], [7])
    assert [(made.rows[0].start, len(made.rows[0].tokens)) for made in device.computed] == [
        (0, 200), (0, 1), (0, 200), (0, 100), (0, 50), (50, 50), (100, 100), (100, 50), (150, 50), (0, 1),
    ]  # fmt: skip
    assert item.error is other.error is None
    assert device.freed == [0] * 4


def test_scores_of_a_prompt_in_parts_stand_one_behind_the_other():
    item = sequence(range(64), prompt_logprobs=0)
    device = Small(32)
    device.sample = lambda batch, output: [
        RowResult([], prompt_logprobs=[f"of {token}" for token in made.tokens]) for made in batch.rows
    ]
    batch = Batch()
    batch.add(row(item, 0, list(range(64))))
    (found,) = compute(device, device, batch)
    assert found.prompt_logprobs == [f"of {token}" for token in range(64)]


@pytest.mark.parametrize("cannot", ["drafts", "segments", "pooling", "few tokens"])
def test_who_has_no_room_alone_is_told_what_to_lower_and_the_others_go_on(cannot):
    count = 20 if cannot == "few tokens" else 40
    item = sequence(range(count), pooling=Pooling("mean") if cannot == "pooling" else None)
    made = row(item, 0, list(range(count)), num_drafts=int(cannot == "drafts"))
    if cannot == "segments":
        made = made._replace(segments=[Segment(0, count, 0, 1)])
    batch, device = Batch(), Small(10)
    batch.add(row(sequence([7]), 0, [7]))
    batch.add(made)
    first, _ = compute(device, device, batch)
    assert first.tokens == [7]
    assert type(item.error) is OutOfDeviceMemory
    assert "memory_share" in str(item.error)
    assert "2.00 GiB" not in str(item.error)
    gc.collect()
    assert not device.held, "the error that the caller gets keeps nothing"


def test_no_room_for_one_token_concerns_all():
    device, batch = Small(0), batch_of(2)
    with pytest.raises(OutOfMemory):
        compute(device, device, batch)
    assert [made.sequence.error for made in batch.rows] == [None] * 2
