"""Masks and sampling: the same token as the reference, for every mixture of parameters, with ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from triton_support import DEVICE, EXACT, assert_guards, guarded

from stemma.kernels.ops import SamplingRows
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton.ops import TritonOps

REFERENCE = ReferenceOps(torch.device("cpu"))


def rows_of(*rows: tuple[float, int, float, float, float]) -> SamplingRows:
    columns = list(zip(*rows, strict=True))
    types = (np.float32, np.int32, np.float32, np.float32, np.float64)
    return SamplingRows(*(np.array(column, dtype=kind) for column, kind in zip(columns, types, strict=True)))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.sampled_from([1, 5, 32, 300, 1024, 1500]),
    distinct=st.sampled_from([1, 3, 8, 100_000]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 2, 5, 40, 5000]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.07]),
    min_p=st.sampled_from([0.0, 0.02, 0.3]),
)
def test_the_same_token_as_the_reference(
    seed: int, vocabulary: int, distinct: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    """`distinct` values of logits: few of them make ties, at the top, and where top-k and top-p end."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 3, distinct).astype(np.float32)
    logits = torch.from_numpy(values[rng.integers(0, distinct, (3, vocabulary))])
    logits[0, rng.integers(0, vocabulary, vocabulary // 2)] = float("-inf")
    logits[0, rng.integers(0, vocabulary)] = 1.5
    uniforms = rng.random(3)
    rows = rows_of(*((temperature, top_k, top_p, min_p, float(uniform)) for uniform in uniforms))
    expected = REFERENCE.sample(logits, rows)
    # A number or a share this close to the edge between two tokens may fall on either side: sums are not float64
    # throughout, and of 1,500 equal tokens 750 are exactly half.
    edges = [REFERENCE.sample(logits, rows_of(*(
        (temperature, top_k, min(top_p + cut, 1.0), min_p, min(max(float(u) + shift, 0.0), 1 - 1e-9)) for u in uniforms
    ))) for shift in (-2e-6, 2e-6) for cut in (-1e-6, 1e-6)]  # fmt: skip
    actual = TritonOps(DEVICE, EXACT).sample(logits.to(DEVICE), rows)
    for index in range(3):
        assert actual[index] in {expected[index], *(edge[index] for edge in edges)}


def test_every_row_has_its_own_parameters() -> None:
    logits = torch.randn(5, 700)
    rows = rows_of(
        (0, 0, 1, 0, 0.5), (1, 3, 1, 0, 0.7), (0.7, 0, 0.8, 0, 0.2), (1, 0, 1, 0.1, 0.9), (2, 9, 0.9, 0, 0.4)
    )
    actual = TritonOps(DEVICE, EXACT).sample(logits.to(DEVICE), rows)
    assert actual.dtype == np.int32
    assert actual.tolist() == REFERENCE.sample(logits, rows).tolist()


def test_a_row_samples_the_same_in_any_batch() -> None:
    logits = torch.randn(6, 1100)
    rows = [(0.8, 20, 0.95, 0.0, 0.1 + 0.13 * i) for i in range(6)]
    ops = TritonOps(DEVICE, EXACT)
    together = ops.sample(logits.to(DEVICE), rows_of(*rows)).tolist()
    assert together == [int(ops.sample(logits[i : i + 1].to(DEVICE), rows_of(rows[i]))[0]) for i in range(6)]


def test_greedy_takes_the_lowest_of_the_largest() -> None:
    logits = torch.zeros(2, 2500)
    logits[0, [1300, 1299, 2400]] = 4.0
    tokens = TritonOps(DEVICE, EXACT).sample(logits.to(DEVICE), rows_of((0, 0, 1, 0, 0.9), (0, 0, 1, 0, 0.9)))
    assert tokens.tolist() == [1299, 0]


def test_the_ends_of_the_unit_interval() -> None:
    logits = torch.full((2, 1500), float("-inf"))
    logits[:, [7, 1400]] = 1.0
    tokens = TritonOps(DEVICE, EXACT).sample(
        logits.to(DEVICE), rows_of((1, 0, 1, 0, 0.0), (1, 0, 1, 0, float(np.nextafter(1.0, 0.0))))
    )
    assert tokens.tolist() == [7, 1400]


def test_no_rows_no_tokens() -> None:
    empty = SamplingRows(*(np.zeros(0, t) for t in (np.float32, np.int32, np.float32, np.float32, np.float64)))
    assert TritonOps(DEVICE, EXACT).sample(torch.zeros(0, 8, device=DEVICE), empty).shape == (0,)


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 1000, 2049])
def test_mask_matches_the_reference_and_writes_nothing_else(vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    mask = rng.integers(0, 2**32, (2, -(-vocabulary // 32)), dtype=np.uint32)
    logits, whole = guarded((4, vocabulary), torch.float32)
    logits.copy_(torch.randn(4, vocabulary))
    expected = logits.cpu().clone()
    chosen = np.array([3, 1], dtype=np.int32)
    REFERENCE.apply_mask(expected, mask, chosen)
    TritonOps(DEVICE, EXACT).apply_mask(logits, mask, chosen)
    assert torch.equal(logits.cpu(), expected)
    assert_guards(whole)
