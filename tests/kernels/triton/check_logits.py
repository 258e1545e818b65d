"""Changes to logits in one launch, and log-probabilities in two: as the reference, and nothing else is written."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from triton_support import DEVICE, EXACT, assert_guards, guarded

from stemma.kernels.changes import Changes, Masks, Places
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton import sampling_launches
from stemma.kernels.triton.launches import run
from stemma.kernels.triton.ops import TritonOps

REFERENCE = ReferenceOps(torch.device("cpu"))


def places_in(rows: list[int], vocabulary: int, each: int, seed: int) -> Places:
    """Some places of these rows, each with a bias, a penalty, or something added, or all."""
    rng = np.random.default_rng(seed)
    parts = []
    for row in rows:
        tokens = rng.permutation(vocabulary)[:each].astype(np.int32)
        bias, added = (rng.choice(np.float32([-0.0, 1.5, -2.0, -np.inf]), len(tokens)) for _ in range(2))
        factor = rng.choice(np.float32([1.0, 1.3, 1e-38]), len(tokens))
        parts.append(Places(np.full(len(tokens), row, dtype=np.int32), tokens, bias, factor, added))
    return Places.joined(parts)


def masks_of(rows: list[int], vocabulary: int, seed: int) -> Masks:
    words = np.random.default_rng(seed).integers(0, 2**32, (len(rows), -(-vocabulary // 32)), dtype=np.uint32)
    return Masks(words, np.array(rows, dtype=np.int32))


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 1000, 2049])
@pytest.mark.parametrize(("changed", "masked"), [([], [3, 1]), ([0, 3], []), ([2, 1, 0], [0, 2]), ([1], [1])])
def test_changes_are_the_references_in_one_launch(vocabulary: int, changed: list[int], masked: list[int]) -> None:
    launched: list[str] = []

    def launch(kernel: Any, *others: Any) -> None:
        launched.append(kernel.__name__)
        run(kernel, *others)

    logits, whole = guarded((4, vocabulary), torch.float32)
    logits.copy_(torch.randn(4, vocabulary))
    expected = logits.cpu().clone()
    changes = Changes(places_in(changed, vocabulary, 1100, 5), masks_of(masked, vocabulary, 6))
    REFERENCE.adjust(expected, changes)
    with mock.patch.object(sampling_launches, "upload", side_effect=sampling_launches.upload) as upload:
        TritonOps(DEVICE, EXACT, launch=launch).adjust(logits, changes)
    torch.testing.assert_close(logits.cpu(), expected, rtol=1e-6, atol=0)
    assert_guards(whole)
    assert (launched, upload.call_count) == (["adjust_kernel"], 1)


def test_no_changes_no_launch() -> None:
    launched: list[Any] = []
    ops = TritonOps(DEVICE, EXACT, launch=lambda *given: launched.append(given))
    ops.adjust(torch.zeros(2, 64, device=DEVICE), Changes(Places.none(), Masks.none(64)))
    assert not launched


def rows_with_ties(vocabulary: int) -> torch.Tensor:
    """Noise; few different ones; all alike; three that are not -inf."""
    logits = torch.randn(4, vocabulary) * 5
    logits[1] = logits[1].round()
    logits[2] = -1.25
    logits[3, torch.arange(vocabulary) % max(vocabulary // 3, 1) != 0] = float("-inf")
    return logits


@pytest.mark.parametrize("vocabulary", [21, 73, 1000, 5003])
@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize("room", [64, 512])
def test_log_probabilities_are_those_of_a_sort(vocabulary: int, count: int, room: int) -> None:
    logits, tokens = rows_with_ties(vocabulary), np.array([0, 20, 3, 0], dtype=np.int32)
    wanted = torch.log_softmax(logits.double(), -1)
    own = wanted[torch.arange(4), torch.from_numpy(tokens).long()]
    with mock.patch.object(sampling_launches, "REPORTED", room), mock.patch.object(sampling_launches, "PART", 256):
        found = TritonOps(DEVICE, EXACT).log_probs(logits.to(DEVICE), tokens, count)
    np.testing.assert_allclose(found.own, own, rtol=1e-5, atol=2e-6)
    best = wanted.sort(descending=True, stable=True)
    assert found.ids == best.indices[:, :count].tolist()
    np.testing.assert_allclose(found.values, best.values[:, :count], rtol=1e-5, atol=2e-6)


def test_long_prompts_are_scored_slice_by_slice_and_read_once() -> None:
    logits, tokens = torch.randn(7, 300), np.arange(7, dtype=np.int32)
    ops = TritonOps(DEVICE, EXACT)
    together = ops.log_probs(logits.to(DEVICE), tokens, 2)
    with mock.patch.object(sampling_launches, "REPORTED_ROWS", 3):
        assert ops.log_probs(logits.to(DEVICE), tokens, 2) == together
    assert ops.log_probs(logits[:0].to(DEVICE), tokens[:0], 2) == ([], [], [])
