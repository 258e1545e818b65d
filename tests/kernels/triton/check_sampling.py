"""Sampling: the same token as the reference, for every mixture of parameters, with ties."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch
import triton.runtime.interpreter as interpreter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from triton_support import DEVICE, EXACT, INTERPRETED

from stemma.kernels.ops import SamplingRows
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton import sampling_launches
from stemma.kernels.triton.ops import TritonOps

REFERENCE = ReferenceOps(torch.device("cpu"))
JUST_BELOW_1 = float(np.nextafter(1.0, 0.0))
PASSES_BEFORE = 22
"""What bisection over the row took with top-k and top-p: 8 for each search, 3 between them, 3 at the ends."""


def rows_of(*rows: tuple[float, int, float, float, float]) -> SamplingRows:
    columns = list(zip(*rows, strict=True))
    types = (np.float32, np.int32, np.float32, np.float32, np.float64)
    return SamplingRows(*(np.array(column, dtype=kind) for column, kind in zip(columns, types, strict=True)))


@contextmanager
def sizes(part: int, room: int) -> Iterator[None]:
    """Parts and buffers as small as those of a row of many parts, most of whose tokens do not fit the buffer."""
    with mock.patch.object(sampling_launches, "PART", part), mock.patch.object(sampling_launches, "ROOM", room):
        yield


def assert_the_references(logits: torch.Tensor, rows: SamplingRows) -> None:
    """The same tokens; or, where a number or a share is this close to the edge between two tokens, either: sums of a
    whole row are not float64 throughout, and of 1,500 equal tokens 750 are exactly half."""
    wanted = [REFERENCE.sample(logits, rows)]
    for shift in (-2e-6, 2e-6):
        for cut in (-1e-6, 1e-6):
            uniform = np.clip(rows.uniform + shift, 0, JUST_BELOW_1)
            top_p = np.where(rows.top_p < 1, np.clip(rows.top_p.astype(np.float64) + cut, 1e-9, 1 - 1e-9), 1)
            moved = SamplingRows(rows.temperature, rows.top_k, top_p, rows.min_p, uniform)  # type: ignore[arg-type]
            wanted.append(REFERENCE.sample(logits, moved))
    actual = TritonOps(DEVICE, EXACT).sample(logits.to(DEVICE), rows)
    for index, token in enumerate(actual):
        assert token in {each[index] for each in wanted}, (index, token, wanted)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.sampled_from([1, 5, 32, 73, 300, 1000, 1024, 1500, 2100]),
    distinct=st.sampled_from([1, 3, 8, 100_000]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 40, 700, 5000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.07, 1e-6]),
    min_p=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    size=st.sampled_from([(2048, 2048), (256, 64), (64, 128)]),
)
def test_the_same_token_as_the_reference(
    seed: int, vocabulary: int, distinct: int, temperature: float, top_k: int, top_p: float, min_p: float,
    size: tuple[int, int],
) -> None:  # fmt: skip
    """`distinct` values of logits: few of them make ties, at the top, and where top-k and top-p end."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 3, distinct).astype(np.float32)
    logits = torch.from_numpy(values[rng.integers(0, distinct, (3, vocabulary))])
    logits[0, rng.integers(0, vocabulary, vocabulary // 2)] = float("-inf")
    logits[0, rng.integers(0, vocabulary)] = 1.5
    with sizes(*size):
        assert_the_references(logits, rows_of(*((temperature, top_k, top_p, min_p, float(u)) for u in rng.random(3))))


SETTINGS = [
    (0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 3, 1.0, 0.0), (0.7, 0, 0.9, 0.0), (1.5, 0, 1.0, 0.1),
    (0.9, 40, 0.95, 0.05), (1e-20, 0, 1.0, 0.0), (1e-3, 50, 0.9, 0.0), (100.0, 0, 0.5, 0.0), (1.0, 1, 1e-6, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("vocabulary", [32, 73, 1000])
@pytest.mark.parametrize("few", [1, 2, 3])
def test_of_a_masked_row_one_of_the_few_is_sampled(vocabulary: int, few: int) -> None:
    rng = np.random.default_rng(few)
    logits = torch.full((2 * len(SETTINGS), vocabulary), float("-inf"))
    for row in logits:
        row[rng.choice(vocabulary, few, replace=False)] = torch.from_numpy(rng.normal(0, 1, few).astype(np.float32))
    assert_the_references(logits, rows_of(*((*each, u) for each in SETTINGS for u in rng.random(2))))


@pytest.mark.parametrize("vocabulary", [32, 73, 1000])
@pytest.mark.parametrize("size", [(2048, 2048), (64, 64)])
def test_equal_tokens_are_taken_by_id(vocabulary: int, size: tuple[int, int]) -> None:
    logits = torch.full((2 * len(SETTINGS), vocabulary), -0.0)
    logits[:, ::3] = 0.0
    with sizes(*size):
        assert_the_references(logits, rows_of(*((*each, u) for each in SETTINGS for u in (0.123, 0.87))))


@pytest.mark.parametrize("size", [(2048, 2048), (64, 64)])
def test_the_number_that_is_drawn_may_be_at_its_ends(size: tuple[int, int]) -> None:
    """Weights in single precision's range: below 1e-38 of the largest, they are nothing."""
    logits = torch.rand(2 * len(SETTINGS), 1000) * 20
    settings_ = [(max(temperature, 0.3), *others) for temperature, *others in SETTINGS]
    with sizes(*size):
        assert_the_references(logits, rows_of(*((*each, u) for each in settings_ for u in (0.0, JUST_BELOW_1))))


@pytest.mark.parametrize("top_k", [1, 2, 63, 64, 65, 999, 1000, 1001, 2**31 - 1])
def test_top_k_up_to_the_vocabulary(top_k: int) -> None:
    logits = (torch.randn(3, 1000) * 4).round(decimals=1)
    for room in (64, 2048):
        with sizes(128, room):
            assert_the_references(logits, rows_of(*((1.0, top_k, top_p, 0.0, 0.77) for top_p in (1.0, 0.9, 1e-6))))


def test_a_vocabulary_that_is_a_multiple_of_nothing() -> None:
    logits = torch.randn(4, 49_159) * 2
    assert_the_references(logits, rows_of(*((*each, 0.61) for each in SETTINGS[1:6:2]), (0.6, 0, 0.7, 0, 0.2)))


@contextmanager
def loads_counted(tensor: torch.Tensor) -> Iterator[list[int]]:
    """How many numbers of a tensor are loaded, in all."""
    counted, builder = [0], interpreter.interpreter_builder
    first, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    load = type(builder).create_masked_load

    def counting(self: object, pointers: object, mask: object, *others: object) -> object:
        addresses = np.asarray(pointers.data).astype(np.int64)  # type: ignore[attr-defined]
        counted[0] += int(((addresses >= first) & (addresses < end) & mask.data).sum())  # type: ignore[attr-defined]
        return load(self, pointers, mask, *others)

    with mock.patch.object(type(builder), "create_masked_load", counting):
        yield counted


@pytest.mark.skipif(not INTERPRETED, reason="loads are counted in the interpreter")
@pytest.mark.parametrize("setting", [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 50, 1.0, 0.0), (0.8, 0, 0.9, 0.0),
                                     (0.8, 50, 0.9, 0.0), (1.0, 0, 1.0, 0.05)])  # fmt: skip
def test_a_row_is_read_once(setting: tuple[float, int, float, float]) -> None:
    """And what of it is looked at again: a fifth of the passes of a bisection over the row would be too many."""
    logits = torch.randn(1, 128_256) * 3
    with loads_counted(logits) as counted:
        TritonOps(DEVICE, EXACT).sample(logits, rows_of((*setting, 0.5)))
    passes = counted[0] / logits.shape[1]
    assert 1 <= passes < 1.3 < PASSES_BEFORE / 5


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
