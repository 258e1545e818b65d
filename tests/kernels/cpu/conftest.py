"""What the tests of the CPU kernels share: the back end, compiled from cold once a session, and the reference."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from stemma.kernels.cpu.machine import target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.reference import ReferenceOps
from tests.kernels.on_tensors import tensor_ops


def lesser_targets() -> list[target.Target]:
    """Every instruction set of this machine but the best one."""
    host, flags, machine = target.host_target(), target.host_flags(), platform.machine()
    sets = target.ARM_FLAGS if host.is_arm else target.X86_FLAGS
    names = [name for name, needed in sets.items() if all(flags.get(flag) for flag in needed)]
    return [target.choose(machine, flags, host.cpu, host.triple, name) for name in names if name != host.name]


@pytest.fixture(params=lesser_targets(), ids=lambda target: target.name)
def lesser(request: pytest.FixtureRequest) -> target.Target:
    return request.param


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty when the tests begin, and shared by all processes that run them: what one has compiled the others take."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent / "kernels" if own.name.startswith("popen-") else own / "kernels"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def ops(cache_dir: Path) -> CpuOps:
    return tensor_ops(num_threads=2, cache_dir=cache_dir)


@pytest.fixture(scope="session")
def reference() -> ReferenceOps:
    return ReferenceOps(torch.device("cpu"), torch.float64)
