"""What is done to rows beside the kernels: arrays as tensors, and both by their formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from stemma.kernels.cpu.rows.arrays import ArrayRows
from stemma.kernels.tensors import TensorRows

ROWS = pytest.mark.parametrize(
    ("ops", "made"), [(ArrayRows(), np.array), (TensorRows(), torch.tensor)], ids=["numpy", "torch"]
)


def numbers(*shape: int) -> npt.NDArray[np.float32]:
    return 4 * np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


@ROWS
def test_log_probabilities_are_those_of_the_formula(ops: Any, made: Any) -> None:
    given = numbers(3, 1001)
    wide = given.astype(np.float64)
    want = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ops.log_softmax(made(given)).tolist(), want, rtol=2e-6, atol=2e-6)


def test_log_probabilities_of_a_row_do_not_hang_on_its_company() -> None:
    given = numbers(17, 4099)
    together = ArrayRows().log_softmax(given)
    assert all(np.array_equal(ArrayRows().log_softmax(given[at : at + 1])[0], together[at]) for at in range(17))


@ROWS
def test_a_masked_vocabulary_has_log_probabilities(ops: Any, made: Any) -> None:
    own = ops.log_softmax(made(np.array([[0.0, -math.inf, 0.0]], dtype=np.float32))).tolist()[0]
    assert own == pytest.approx([math.log(0.5), -math.inf, math.log(0.5)])


@ROWS
def test_a_copy_stays(ops: Any, made: Any) -> None:
    rows = made(numbers(2, 3))
    kept, before = ops.copy(rows), rows.tolist()
    rows[:] = 0
    assert kept.tolist() == before


@ROWS
def test_ones_stand_behind_each_row(ops: Any, made: Any) -> None:
    given = numbers(2, 3)
    assert ops.with_ones(made(given)).tolist() == [[*row, 1, 1, 1] for row in given.tolist()]


@ROWS
def test_a_cap_is_a_tangent(ops: Any, made: Any) -> None:
    given = numbers(2, 3)
    np.testing.assert_allclose(ops.cap(made(given), 2.5).tolist(), 2.5 * np.tanh(given / 2.5), rtol=1e-6)


@ROWS
def test_what_is_no_number_is_seen(ops: Any, made: Any) -> None:
    given = numbers(2, 3)
    assert ops.are_finite(made(given))
    for bad in (math.nan, math.inf, -math.inf):
        given[1, 2] = bad
        assert not ops.are_finite(made(given))


@ROWS
def test_totals_are_in_double_precision(ops: Any, made: Any) -> None:
    given = np.array([[1e8], [1.0], [-1e8]], dtype=np.float32)
    assert ops.total(made(given)).tolist() == [1.0]


@ROWS
def test_rows_are_taken_into_memory_of_their_own(ops: Any, made: Any) -> None:
    rows = made(numbers(4, 3))
    taken = ops.take(rows, np.array([3, 1], dtype=np.int32))
    assert taken.tolist() == rows[[3, 1]].tolist()
    taken[:] = 0
    assert rows.tolist() == numbers(4, 3).tolist()
