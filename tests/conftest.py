from __future__ import annotations

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.model import LoadedModel
from stemma.runtime.model.tiny import tiny


@pytest.fixture(scope="session")
def tiny_loaded() -> LoadedModel:
    """A tiny model in float64, so that no matrix product's last bit depends on the batch."""
    return tiny(ReferenceOps(torch.device("cpu"), torch.float64))


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """What a test draws from torch without a generator of its own is the same in each run."""
    torch.manual_seed(0)
