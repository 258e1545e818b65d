"""Changes to logits and log-probabilities: arrays as tensors, and both by their formulas."""

from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stemma.kernels.changes import LARGEST_LOGIT, NOTHING_ADDED, Changes, LogProbs, Masks, Places, change_array
from stemma.kernels.cpu.rows.arrays import array_log_probs
from stemma.kernels.reference import ReferenceOps

REFERENCE = ReferenceOps(torch.device("cpu"))
NUMBERS = st.floats(-(2.0**90), 2.0**90, width=32)


def places_of(rows: list[tuple[int, int, float, float, float]]) -> Places:
    kinds = (np.int32, np.int32, np.float32, np.float32, np.float32)
    return Places(*(np.array(column, dtype=kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)))


@given(
    values=st.lists(NUMBERS, min_size=4, max_size=4), bias=st.floats(-100, 100, width=32),
    factor=st.sampled_from([1.0, 1e-38, 0.5, 1.3, 100.0]), added=st.sampled_from([NOTHING_ADDED, -0.7, 2.0, -np.inf]),
)  # fmt: skip
def test_places_of_arrays_are_those_of_tensors(values: list[float], bias: float, factor: float, added: float) -> None:
    one = np.array(values, dtype=np.float32).reshape(2, 2)
    other = torch.from_numpy(one.copy())
    places = places_of([(1, 0, bias, factor, added), (0, 1, NOTHING_ADDED, 1.0, NOTHING_ADDED)])
    before = one.copy()
    change_array(one, places)
    REFERENCE.adjust(other, Changes(places, Masks.none(2)))
    np.testing.assert_allclose(one, other.numpy(), rtol=1e-6)
    wanted = np.float32(before[1, 0]) + np.float32(bias)
    if factor != 1:
        scaled = float(wanted) / factor if wanted > 0 else float(wanted) * factor
        wanted = min(scaled, LARGEST_LOGIT)
    np.testing.assert_allclose(one[1, 0], np.float32(wanted) + np.float32(added), rtol=1e-5)
    assert np.array_equal(one[0], before[0])
    assert np.array_equal(np.delete(one[1], 0), np.delete(before[1], 0))


def test_what_adds_nothing_leaves_the_sign_of_zero() -> None:
    logits = np.array([[-0.0, 0.0]], dtype=np.float32)
    change_array(logits, places_of([(0, t, NOTHING_ADDED, 1.0, NOTHING_ADDED) for t in range(2)]))
    assert np.signbit(logits).tolist() == [[True, False]]


def both(logits: npt.NDArray[np.float32], tokens: npt.NDArray[np.int32], count: int) -> tuple[LogProbs, LogProbs]:
    return array_log_probs(logits, tokens, count), REFERENCE.log_probs(torch.from_numpy(logits), tokens, count)


@pytest.mark.parametrize("count", [0, 1, 5, 200])
def test_log_probabilities_are_those_of_the_formula(count: int) -> None:
    draw = np.random.default_rng(count)
    logits = 4 * draw.standard_normal((70, 200), dtype=np.float32)
    tokens = draw.integers(0, 200, 70).astype(np.int32)
    wide = logits.astype(np.float64)
    want = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    for found in both(logits, tokens, count):
        np.testing.assert_allclose(found.own, want[np.arange(70), tokens], rtol=2e-6, atol=2e-6)
        assert found.ids == np.argsort(-logits, axis=1)[:, :count].tolist()
        np.testing.assert_allclose(found.values, -np.sort(-want, axis=1)[:, :count], rtol=2e-6, atol=2e-6)


def test_a_rows_log_probabilities_do_not_hang_on_its_company() -> None:
    logits = 4 * np.random.default_rng(0).standard_normal((17, 4099), dtype=np.float32)
    tokens = np.arange(17, dtype=np.int32)
    together = array_log_probs(logits, tokens, 3)
    alone = [array_log_probs(logits[at : at + 1], tokens[at : at + 1], 3) for at in range(17)]
    for part, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert part == [*chain.from_iterable(parts)]
