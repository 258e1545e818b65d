"""Every family against transformers: the same weights, fp32, prompts of 1 to 600 tokens, every switch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from stemma.runtime.model import load
from tests.kernels.on_tensors import tensor_ops
from tests.runtime.model.family_cases import CASES, SHARED
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_chunks import with_marks
from tests.runtime.model.test_logits import save

IDS = np.random.default_rng(7).integers(0, 260, 600).tolist()
LENGTHS = (1, 2, 17, 128, 600)
ALL = [(family, index) for family, cases in CASES.items() for index in range(len(cases))]


def configuration(family: str, index: int) -> transformers.PreTrainedConfig:
    return transformers.CONFIG_MAPPING[family](**{**SHARED, **CASES[family][index]})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring in matrices this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def expected(model: transformers.PreTrainedModel) -> torch.Tensor:
    """Of all prompts: one is the beginning of the next."""
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0]


@pytest.mark.parametrize(("family", "index"), ALL)
def test_logits_are_those_of_transformers(family: str, index: int, tmp_path: Path) -> None:
    theirs = save(tmp_path, configuration(family, index))
    ours: Any = load(tmp_path, reference_ops()).model
    want = expected(theirs)
    assert float(want.std()) > 0.01
    for length in LENGTHS:
        assert float((all_logits(ours, IDS[:length]) - want[:length]).abs().max()) < 1e-3


@pytest.mark.parametrize(("family", "index"), with_marks())
def test_logits_past_every_window(family: str, index: int, tmp_path: Path) -> None:
    """Of a prompt as long as there are, of which most layers remember a part, or a state."""
    ids = np.random.default_rng(5).integers(0, 260, 1500).tolist()
    given = {**SHARED, **CASES[family][index], "max_position_embeddings": 2048}
    theirs = save(tmp_path, transformers.CONFIG_MAPPING[family](**given))
    ours = load(tmp_path, reference_ops())
    ids = ids[: ours.config.context_length]  # that of Ministral 3 ends where queries grow
    with torch.no_grad():
        want = theirs(torch.tensor([ids])).logits[0]
    assert float((all_logits(ours.model, ids) - want).abs().max()) < 1e-3


@pytest.mark.parametrize("family", CASES)
def test_every_switch_changes_the_numbers(family: str) -> None:
    """Else the comparison above would say nothing of it."""
    found = []
    for index in range(len(CASES[family])):
        torch.manual_seed(0)
        found.append(expected(transformers.AutoModelForCausalLM.from_config(configuration(family, index)).eval()))
    for other in found[1:]:
        assert float((found[0] - other).abs().max()) > 1e-3


@pytest.mark.parametrize("family", CASES)
def test_logits_of_the_cpu_kernels(family: str, tmp_path: Path) -> None:
    """Within what 16-bit keys, values and products leave; the reference is exact above."""
    want = expected(save(tmp_path, configuration(family, 0)))[:128]
    found = all_logits(load(tmp_path, tensor_ops()).model, IDS[:128])
    assert float((found - want).abs().max() / want.std()) < 1e-2
