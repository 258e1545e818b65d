"""Runs each check_*.py of this folder in a process of its own: on a GPU, or else in Triton's interpreter.

The interpreter must be chosen before triton is imported, and no other test may notice: hence the processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CHECKS = sorted(path.stem for path in HERE.glob("check_*.py"))

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="triton has no build for this platform"),
    pytest.mark.timeout(1800),
]


def run(check: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = (str(ROOT), str(HERE), os.environ.get("PYTHONPATH", ""))  # the last may name another triton
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    command = (sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", str(HERE / f"{check}.py"))
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def results() -> dict[str, subprocess.CompletedProcess[str]]:
    with ThreadPoolExecutor(max_workers=2) as threads:
        return dict(zip(CHECKS, threads.map(run, CHECKS), strict=True))


@pytest.mark.parametrize("check", CHECKS)
def test_check(check: str, results: dict[str, subprocess.CompletedProcess[str]]) -> None:
    assert results[check].returncode == 0, results[check].stdout + results[check].stderr
