"""What the tests of the CPU kernels share: the back end, compiled from cold once a session, and the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.reference import ReferenceOps


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def ops(cache_dir: Path) -> CpuOps:
    return CpuOps(num_threads=2, cache_dir=cache_dir)


@pytest.fixture(scope="session")
def reference() -> ReferenceOps:
    return ReferenceOps(torch.device("cpu"), torch.float64)
