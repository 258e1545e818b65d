"""Models whose layers keep a window or a state: steps of any size give the logits of one, and so does a sequence that
goes on from a mark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from stemma.kernels.ops import Ops
from stemma.runtime.model import Model, ModelConfig
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.parts.decoder import Decoder
from stemma.runtime.model.tiny import tiny_tensors
from stemma.runtime.model.weights import Weights
from tests.kernels.on_tensors import tensor_ops
from tests.runtime.model.family_cases import CASES, SHARED
from tests.runtime.model.running import all_logits, chunked_logits, logits_behind_a_mark, reference_ops

IDS = np.random.default_rng(11).integers(0, 260, 150).tolist()
MARKS = (1, 47, 100)


def config_of(family: str, index: int) -> ModelConfig:
    raw: dict[str, Any] = transformers.CONFIG_MAPPING[family](**{**SHARED, **CASES[family][index]}).to_dict()
    return read_config(raw, family)


def with_marks() -> list[tuple[str, int]]:
    """The first of a family's configurations for each thing that they need to go on."""
    found: dict[Any, tuple[str, int]] = {}
    for family, cases in CASES.items():
        for index in range(len(cases)):
            marks = config_of(family, index).marks
            if marks is not None:
                found.setdefault((family, marks.window is None, marks.has_states), (family, index))
    return list(found.values())


def made(family: str, index: int, ops: Ops) -> Model:
    config = config_of(family, index)
    return Decoder(config, Weights(tiny_tensors(config, 0)), ops)


@pytest.mark.parametrize(("family", "index"), with_marks())
def test_chunks_and_marks_change_nothing(family: str, index: int) -> None:
    model = made(family, index, reference_ops())
    want = all_logits(model, IDS).clone()
    for chunk in (1, 7, 64):
        assert float((chunked_logits(model, IDS, chunk) - want).abs().max()) < 1e-4
    for at in MARKS:
        assert float((logits_behind_a_mark(model, IDS, at) - want[at:]).abs().max()) < 1e-4


@pytest.mark.parametrize(("family", "index"), with_marks())
def test_on_a_cpu_they_do_not_change_a_bit(family: str, index: int) -> None:
    model = made(family, index, tensor_ops())
    want = all_logits(model, IDS).clone()
    for chunk in (1, 7, 64):
        assert torch.equal(chunked_logits(model, IDS, chunk), want)
    for at in MARKS:
        assert torch.equal(logits_behind_a_mark(model, IDS, at), want[at:])
