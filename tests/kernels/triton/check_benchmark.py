"""benchmarks/kernels.py: the model of bytes against its bound, and every case of the device run, on tiny sizes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from triton_support import DEVICE, FLOATS, INTERPRETED

from stemma.kernels.ops import KVShape
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.plan import Cutting, cut
from stemma.kernels.triton.traffic import attention_traffic

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "kernels.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernels_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_decode_moves_at_most_a_twentieth_more_than_it_must(benchmark: ModuleType) -> None:
    rows = list(benchmark.byte_rows())
    assert len(rows) == len(benchmark.MODEL_HEADS) * 2 * len(benchmark.CONTEXTS)
    assert [row for row in rows if not 1.0 <= row.ours <= 1.05] == []


def test_traffic_of_a_step_counted_by_hand(benchmark: ModuleType) -> None:
    """700 tokens in pieces of 512: 2 KV heads of 8, 3 query heads each, fp16, blocks of 16."""
    metadata, shape = benchmark.decode_layout(1, 700, 16), KVShape(1, 44, 16, 2, 8)
    moved = attention_traffic(metadata, cut(metadata, Cutting(3, 16, 128, 512, 16)), shape, 6, 2)
    assert moved.kv == 2 * 700 * 2 * 8 * 2
    assert moved.scales == 0
    assert moved.queries == 2 * 6 * 8 * 2
    assert moved.outputs == 6 * 8 * 2
    assert moved.partials == 2 * 2 * 6 * (8 + 2) * 4
    assert moved.control == 4 * 2 * (7 * 2 + 2 * 2 + 32 + 12) + 4 * 6 * 3


def test_a_shared_prefix_is_read_once(benchmark: ModuleType) -> None:
    shape, cutting = KVShape(1, 1, 16, 8, 128), Cutting(4, 16, 128, 512, 16)
    shared, plain = (benchmark.decode_layout(16, 4096 + 64, 16, num) for num in (256, 0))
    once, often = (attention_traffic(metadata, cut(metadata, cutting), shape, 32, 2) for metadata in (shared, plain))
    assert once.kv == (4096 + 16 * 64) * 2 * 8 * 128 * 2
    assert often.kv == 16 * (4096 + 64) * 2 * 8 * 128 * 2


def test_every_case_runs(benchmark: ModuleType) -> None:
    def call(function: object) -> float:
        function()  # type: ignore[operator]
        return 1.0

    sizes = benchmark.Sizes(
        heads=(4, 2, 16), decode=((2, 40),), extend=((0, 20), (20, 12)), shared=((2, 512),), linear=((64, 32),),
        rows=(1, 20), vocabulary=1200, samples=(2,),
    )  # fmt: skip
    for kv_type in ("activation", "int8"):
        device = benchmark.Device(TritonOps(DEVICE, FLOATS[0], kv_type), call, lambda function: function)
        rows = list(benchmark.device_rows(device, sizes))
        names = {row.peer_name for row in rows}
        assert {"torch SDPA", "FlexAttention", "copy on the device", "without sharing", "torch.sort"} <= names
        assert all(np.isfinite(row.as_dict()["ratio"]) for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    assert INTERPRETED
    done = subprocess.run((sys.executable, str(SCRIPT)), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "there is no GPU here" in done.stderr


def test_json_has_the_rows(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--model", "--json", str(file)])
    benchmark.main()
    rows = json.loads(file.read_text())["rows"]
    assert set(rows[0]) == {"case", "metric", "ours", "peer", "peer_name", "ratio"}
