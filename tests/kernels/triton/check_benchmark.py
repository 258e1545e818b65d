"""benchmarks/kernels.py: the model of bytes against its bound. And stages of first_hour.py that run kernels."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import hour_kernels
import hour_layouts
import numpy as np
import pytest
from hour_lines import Lines, read_lines
from triton_support import DEVICE

from stemma.kernels.ops import KVShape
from stemma.kernels.triton.cut import Cutting, cut
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
    metadata, shape = hour_layouts.decode_layout(1, 700, 16), KVShape(1, 44, 16, 2, 8)
    moved = attention_traffic(metadata, cut(metadata, Cutting(3, 16, 128, 512, 16)), shape, 6, 2)
    assert moved.kv == 2 * 700 * 2 * 8 * 2
    assert moved.scales == 0
    assert moved.queries == 2 * 6 * 8 * 2
    assert moved.outputs == 6 * 8 * 2
    assert moved.partials == 2 * 2 * 6 * (8 + 2) * 4
    assert moved.control == 4 * 2 * (7 * 2 + 2 * 2 + 32 + 12) + 4 * 6 * 3


def test_a_shared_prefix_is_read_once(benchmark: ModuleType) -> None:
    shape, cutting = KVShape(1, 1, 16, 8, 128), Cutting(4, 16, 128, 512, 16)
    shared, plain = (hour_layouts.decode_layout(16, 4096 + 64, 16, num) for num in (256, 0))
    once, often = (attention_traffic(metadata, cut(metadata, cutting), shape, 32, 2) for metadata in (shared, plain))
    assert once.kv == (4096 + 16 * 64) * 2 * 8 * 128 * 2
    assert often.kv == 16 * (4096 + 64) * 2 * 8 * 128 * 2


def test_every_kernel_of_the_first_hour_is_measured(tmp_path: Path) -> None:
    """In the interpreter, on tiny sizes: no case fails, and what cannot be run says why."""
    path = tmp_path / "lines.jsonl"
    sizes = hour_kernels.TINY._replace(kv_types=("activation",), extend=((0, 20),), rows=(1,))
    hour_kernels.measure(Lines("kernels", path), DEVICE, sizes)
    lines = read_lines(path)
    assert [line for line in lines if line.get("passed") is False] == []
    assert all(line.get("skipped", "a time") for line in lines)
    names = {line.get("peer_name") for line in lines}
    assert {"SDPA", "FlexAttention", "copy on the device", "without sharing", "16-bit weights", "torch.sort"} <= names
    assert all(np.isfinite(line["ours"]) for line in lines if "ours" in line)


def test_json_has_the_rows(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--model", "--json", str(file)])
    benchmark.main()
    rows = json.loads(file.read_text())["rows"]
    assert set(rows[0]) == {"case", "metric", "ours", "peer", "peer_name", "ratio"}
