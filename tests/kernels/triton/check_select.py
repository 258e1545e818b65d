"""How the Triton back end is chosen: by name, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from triton_support import DEVICE, EXACT, INTERPRETED

from stemma.kernels.ops import KVShape
from stemma.kernels.select import UnknownBackend, select_ops
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.triton.ops import TritonOps

NAME = str(EXACT).removeprefix("torch.")


@pytest.mark.parametrize(("kv_dtype", "num_bytes"), [("auto", EXACT.itemsize), (NAME, EXACT.itemsize), ("int8", 1)])
def test_by_name(kv_dtype: str, num_bytes: int) -> None:
    ops = select_ops(device=str(DEVICE), backend="triton", dtype=NAME, kv_dtype=kv_dtype)
    assert ops.name == "triton"
    scales = 2 if num_bytes == 1 else 0
    assert ops.kv(KVShape(1, 2, 4, 2, 16)).num_bytes == 2 * 2 * 4 * 2 * (16 * num_bytes + scales)


@pytest.mark.parametrize("options", [{"kv_dtype": "int3"}, {"dtype": "float64"}])
def test_what_there_is_not_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(UnknownBackend):
        select_ops(**{"device": str(DEVICE), "backend": "triton", "dtype": NAME, **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes Triton unasked")
def test_without_the_interpreter_a_cpu_is_refused() -> None:
    assert INTERPRETED
    script = """from stemma.kernels.select import select_ops, UnknownBackend
try: select_ops(backend="triton")
except UnknownBackend as error: print(error)"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run((sys.executable, "-c", script), env=environment, capture_output=True, text=True, check=True)
    assert "use the CPU back end or a GPU" in done.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_triton() -> None:
    assert select_ops(device="cuda").name == "triton"


@pytest.mark.parametrize("graphs", [True, False])
def test_without_graphs_every_operation_is_launched_by_itself(monkeypatch: pytest.MonkeyPatch, graphs: bool) -> None:
    """On a GPU, which the device is only called here."""
    monkeypatch.setattr("stemma.kernels.triton.ops.GraphExecutor", lambda *given: "graphs")
    monkeypatch.setattr("stemma.kernels.triton.ops.CudaRecorder", lambda *given: None)
    ops: Any = TritonOps(DEVICE, EXACT, graphs=graphs)
    ops.device = torch.device("cuda", 0)
    executor = ops.executor(None, 4, None)
    assert executor == "graphs" if graphs else isinstance(executor, EagerExecutor)
