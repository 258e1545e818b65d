"""Ids that name tokens of the step before: the rows of the table that those have, in steps and in recorded ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_support import DEVICE, EXACT, FLOATS

from stemma.kernels.ops import SamplingRows
from stemma.kernels.sampled import MOST_AHEAD
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import TritonEmbedding


def greedy(count: int) -> SamplingRows:
    zeros = np.zeros(count, np.float32)
    return SamplingRows(zeros, np.zeros(count, np.int32), zeros + 1, zeros, np.zeros(count))


def logits_of(tokens: list[int], vocabulary: int) -> torch.Tensor:
    logits = torch.zeros(len(tokens), vocabulary)
    logits[range(len(tokens)), tokens] = 1.0
    return logits.to(DEVICE)


@settings(deadline=None, max_examples=15)
@given(
    dtype=st.sampled_from(FLOATS),
    features=st.sampled_from([8, 576, 1030]),
    tokens=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    data=st.data(),
)
def test_an_id_below_zero_is_the_token_of_that_row(
    dtype: torch.dtype, features: int, tokens: list[int], data: st.DataObject
) -> None:
    ops, table = TritonOps(DEVICE, dtype), torch.randn(31, features).to(DEVICE, dtype)
    sampled = ops.begin_sample(logits_of(tokens, 31), greedy(len(tokens)))
    ids = data.draw(st.lists(st.integers(-len(tokens), 30), min_size=1, max_size=5))
    embedded = ops.embed(TritonEmbedding(table, 1.0), np.array(ids, np.int32))
    assert sampled.tokens().tolist() == tokens
    expected = [token if token >= 0 else tokens[-1 - token] for token in ids]
    assert torch.equal(embedded, table[expected])


def test_tokens_stay_at_one_address_and_results_in_memory_of_their_own() -> None:
    """A recorded step reads the next tokens where it read these; whoever waits late still gets his own."""
    ops, table = TritonOps(DEVICE, EXACT), torch.randn(31, 8).to(DEVICE, EXACT)
    ids = torch.tensor([-1], dtype=torch.int32).to(DEVICE)
    first = ops.begin_sample(logits_of([4, 5], 31), greedy(2))
    assert torch.equal(ops.embed(TritonEmbedding(table, 1.0), ids), table[[4]])
    second = ops.begin_sample(logits_of([7], 31), greedy(1))
    assert torch.equal(ops.embed(TritonEmbedding(table, 1.0), ids), table[[7]])
    assert (first.tokens().tolist(), second.tokens().tolist()) == ([4, 5], [7])


def test_a_step_that_samples_nothing_leaves_nothing() -> None:
    ops = TritonOps(DEVICE, EXACT)
    assert ops.begin_sample(torch.zeros(0, 31).to(DEVICE), greedy(0)).tokens().tolist() == []


@pytest.mark.parametrize("count", [MOST_AHEAD, MOST_AHEAD + 1])
def test_more_tokens_than_can_be_named_are_sampled_all_the_same(count: int) -> None:
    ops = TritonOps(DEVICE, EXACT)
    room = ops._last.room(count)
    assert len(room) == count
    assert (room.data_ptr() == ops._last.tokens.data_ptr()) == (count <= MOST_AHEAD)


@pytest.mark.parametrize("rows", [[0, 1, 2], [2], [0, 2]])
def test_log_probabilities_of_tokens_that_nobody_has_read(rows: list[int]) -> None:
    """Of all rows or some, the same as when the tokens are known; the tokens themselves are there too."""
    ops = TritonOps(DEVICE, EXACT)
    logits = torch.randn(3, 31, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    own = logits[rows].clone()
    sampled = ops.begin_sample(logits, greedy(3))
    late = ops.begin_log_probs(own, sampled, np.array(rows, dtype=np.int32), 2)
    ops.begin_sample(logits_of([4, 5, 6], 31), greedy(3))  # the next step's tokens take their place
    tokens = logits.argmax(1).int().cpu().numpy()
    assert late.log_probs() == ops.log_probs(own, tokens[rows], 2)
    assert sampled.tokens().tolist() == tokens.tolist()
