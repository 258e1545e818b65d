"""What the tests of the CPU kernels share: the back end, compiled from cold once a session, and the reference."""

from __future__ import annotations

from pathlib import Path

import llvmlite.binding as llvm
import pytest
import torch

from stemma.kernels.cpu.machine import target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.reference import ReferenceOps
from tests.kernels.on_tensors import tensor_ops


def lesser_targets() -> list[target.Target]:
    """Every instruction set of this machine but the best one."""
    host = target.host_target()
    flags = dict(llvm.get_host_cpu_features())
    names = [name for name, needed in target.X86_FLAGS.items() if all(flags.get(flag) for flag in needed)]
    every = (target.choose("x86_64", dict.fromkeys(target.X86_FLAGS[n], True), host.cpu, host.triple) for n in names)
    return [other for other in every if other.name != host.name and host.name != "neon"]


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
