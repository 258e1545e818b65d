"""Ids that name tokens of the step before: the rows of the table that those have, in steps and in recorded ones.
Rows of tables that stay packed are the reference's, and the numbers that products take."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_support import DEVICE, EXACT, FLOATS, assert_close

from stemma.kernels.ops import SamplingRows
from stemma.kernels.sampled import MOST_AHEAD
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import DenseLinear, PackedLinear, TritonEmbedding, unpack
from stemma.kernels.weights import FORMATS, dequantize
from tests.kernels.stored import stored


def greedy(count: int) -> SamplingRows:
    zeros = np.zeros(count, np.float32)
    return SamplingRows(zeros, np.zeros(count, np.int32), zeros + 1, zeros, np.zeros(count))


def logits_of(tokens: list[int], vocabulary: int) -> torch.Tensor:
    logits = torch.zeros(len(tokens), vocabulary)
    logits[range(len(tokens)), tokens] = 1.0
    return logits.to(DEVICE)


def embedding_of(table: torch.Tensor) -> TritonEmbedding:
    return TritonEmbedding(DenseLinear(table, None, table.shape[1], table.shape[0]), 1.0)


def assert_each_close(got: torch.Tensor, want: torch.Tensor, part: float) -> None:
    """Each number by itself within a part of it, or of what a sum of two such numbers loses."""
    error = (got.float() - want).abs()
    assert (error <= part * want.abs() + 2**-20 * want.abs().max()).all(), error.max()


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
    embedded = ops.embed(embedding_of(table), np.array(ids, np.int32))
    assert sampled.tokens().tolist() == tokens
    expected = [token if token >= 0 else tokens[-1 - token] for token in ids]
    assert torch.equal(embedded, table[expected])


@pytest.mark.parametrize("kind", sorted(FORMATS.keys() - {"FP8"}))
@pytest.mark.parametrize("scale", [1.0, 15.5])
def test_rows_of_a_packed_table(kind: str, scale: float) -> None:
    """Of all formats; of one block more than are whole words or a whole program's features."""
    width = FORMATS[kind].num_inputs
    for dtype, features in zip(FLOATS, (3 * width, 1024 + width, 256), strict=False):
        ops, weight = TritonOps(DEVICE, dtype), stored(kind, (70, features))
        embedding = ops.embedding(weight, scale)
        assert isinstance(embedding.table, PackedLinear)
        ops.begin_sample(logits_of([69, 5], 70), greedy(2))
        got = ops.embed(embedding, np.array([0, -1, 63, 64, -2, 69], np.int32)).cpu()
        rows = [0, 69, 63, 64, 5, 69]
        multiplied = unpack(embedding.table, torch.float32).weight.cpu()[rows] * scale
        assert got.dtype == dtype
        assert_each_close(got, multiplied, {torch.float32: 2**-20, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype])
        assert_close(multiplied, torch.from_numpy(np.array(dequantize(weight)))[rows] * scale, 2**-10)


def test_tokens_stay_at_one_address_and_results_in_memory_of_their_own() -> None:
    """A recorded step reads the next tokens where it read these; whoever waits late still gets his own."""
    ops, table = TritonOps(DEVICE, EXACT), torch.randn(31, 8).to(DEVICE, EXACT)
    ids = torch.tensor([-1], dtype=torch.int32).to(DEVICE)
    first = ops.begin_sample(logits_of([4, 5], 31), greedy(2))
    assert torch.equal(ops.embed(embedding_of(table), ids), table[[4]])
    second = ops.begin_sample(logits_of([7], 31), greedy(1))
    assert torch.equal(ops.embed(embedding_of(table), ids), table[[7]])
    assert (first.tokens().tolist(), second.tokens().tolist()) == ([4, 5], [7])


def test_what_two_threads_sample_is_each_its_own() -> None:
    """Two engines of one model, whose steps take turns on the device."""
    ops, table = TritonOps(DEVICE, EXACT), torch.randn(31, 8).to(DEVICE, EXACT)
    ids = torch.tensor([-1], dtype=torch.int32).to(DEVICE)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread, token in ((one, 4), (other, 7)):
            thread.submit(lambda token=token: ops.begin_sample(logits_of([token], 31), greedy(1))).result()
        for thread, token in ((one, 4), (other, 7)):
            assert torch.equal(thread.submit(ops.embed, embedding_of(table), ids).result(), table[[token]])


def test_a_step_that_samples_nothing_leaves_nothing() -> None:
    ops = TritonOps(DEVICE, EXACT)
    assert ops.begin_sample(torch.zeros(0, 31).to(DEVICE), greedy(0)).tokens().tolist() == []


@pytest.mark.parametrize("count", [MOST_AHEAD, MOST_AHEAD + 1])
def test_more_tokens_than_can_be_named_are_sampled_all_the_same(count: int) -> None:
    ops = TritonOps(DEVICE, EXACT)
    room = ops.turn.last.room(count)
    assert len(room) == count
    assert (room.data_ptr() == ops.turn.last.tokens.data_ptr()) == (count <= MOST_AHEAD)


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
