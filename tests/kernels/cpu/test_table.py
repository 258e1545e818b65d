"""Rows of embeddings, masks and sampling against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.kernels.changes import Changes, Masks, Places
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.rows.sampling import sample_row
from stemma.kernels.ops import SamplingRows
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.weights import StoredWeight

REFERENCE = ReferenceOps(torch.device("cpu"))


def sampling(
    temperature: list[float], top_k: int = 0, top_p: float = 1, min_p: float = 0, seed: int = 0
) -> SamplingRows:
    count = len(temperature)
    return SamplingRows(
        np.array(temperature, dtype=np.float32),
        np.full(count, top_k, dtype=np.int32),
        np.full(count, top_p, dtype=np.float32),
        np.full(count, min_p, dtype=np.float32),
        np.random.default_rng(seed).random(count),
    )


@pytest.mark.parametrize("vocabulary", [3, 64, 1000, 4097])
def test_greedy_takes_the_lowest_id_among_the_largest(ops: CpuOps, vocabulary: int) -> None:
    logits = torch.randn(7, vocabulary).round(decimals=1)
    logits[5] = float("-inf")
    logits[6, vocabulary - 1] = 100
    got = ops.sample(logits, sampling([0.0] * 7))
    want = [int(torch.nonzero(row == row.max())[0]) for row in logits]
    assert got.tolist() == want


@pytest.mark.parametrize("vocabulary", [3, 64, 1000, 4097])
def test_masks(ops: CpuOps, vocabulary: int) -> None:
    random = np.random.default_rng(vocabulary)
    logits = torch.randn(6, vocabulary)
    mask = random.integers(0, 2**32, (3, -(-vocabulary // 32)), dtype=np.uint32)
    rows = np.array([4, 0, 5], dtype=np.int32)
    want = logits.clone()
    changes = Changes(Places.none(), Masks(mask, rows))
    REFERENCE.adjust(want, changes)
    ops.adjust(logits, changes)
    assert torch.equal(logits, want)


@pytest.mark.parametrize(
    "options",
    [{}, {"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.05}, {"top_k": 40, "top_p": 0.9, "min_p": 0.1}, {"top_p": 0.999}],
)
@pytest.mark.parametrize("seed", range(3))
def test_sampling_is_the_references(ops: CpuOps, options: dict[str, float], seed: int) -> None:
    logits = torch.randn(6, 2000, generator=torch.Generator().manual_seed(seed)) * 3
    logits[3, 100:] = float("-inf")
    rows = sampling([0.7, 0.0, 1.0, 1.3, 0.2, 5.0], **options, seed=seed)  # type: ignore[arg-type]
    assert ops.sample(logits, rows).tolist() == REFERENCE.sample(logits, rows).tolist()


@settings(max_examples=200, deadline=None)
@given(
    levels=st.lists(st.integers(-3, 3), min_size=1, max_size=12), top_k=st.integers(0, 14),
    top_p=st.sampled_from([0.01, 0.3, 0.5, 0.9, 1.0]), min_p=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    uniform=st.floats(0, 0.999),
)  # fmt: skip
def test_sampling_among_equals(levels: list[int], top_k: int, top_p: float, min_p: float, uniform: float) -> None:
    """Ties everywhere: the same token, or one whose bound the sums reach within rounding."""
    logits = np.array(levels, dtype=np.float32)
    got = sample_row(logits, 1.0, top_k, np.float32(top_p), np.float32(min_p), uniform)
    wants = set()
    for nudge in (-1e-9, 0.0, 1e-9):
        rows = sampling([1.0], top_k, top_p * (1 + nudge), min_p)
        rows = SamplingRows(
            *(getattr(rows, name) for name in ("temperature", "top_k")),
            np.float64([top_p * (1 + nudge)]),
            np.float64([min_p * (1 - abs(nudge))]),
            np.array([min(max(uniform + nudge, 0), 0.999999)]),
        )  # type: ignore[arg-type]
        wants.add(REFERENCE.sample(torch.from_numpy(logits)[None], rows).tolist()[0])
    assert got in wants


def test_a_table_of_any_type_can_be_read(ops: CpuOps) -> None:
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (20, 2, 210), dtype=np.uint8)
    blocks[:, :, 208:] = np.full((20, 2, 1), 0.01, dtype=np.float16).view(np.uint8)
    table = StoredWeight("Q6_K", (20, 512), blocks.reshape(20, -1))
    odd = StoredWeight("F32", (20, 7), random.normal(size=(20, 7)).astype(np.float32))
    ids = np.array([19, 3], dtype=np.int32)
    for weight in (table, odd):
        assert torch.equal(ops.embed(ops.embedding(weight), ids), REFERENCE.embed(REFERENCE.embedding(weight), ids))
