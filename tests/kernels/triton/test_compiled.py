"""Every shipped launch, compiled for GPUs that are not here: what the machine code must and must not contain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
KERNELS = {
    "attend_kernel",
    "merge_kernel",
    "rope_write_kernel",
    "norm_kernel",
    "gated_kernel",
    "packed_linear_kernel",
    "choose_experts_kernel",
    "sort_entries_kernel",
    "grouped_linear_kernel",
    "sum_experts_kernel",
    "copy_kernel",
    "embed_kernel",
    "embed_packed_kernel",
    "adjust_kernel",
    "weigh_kernel",
    "report_kernel",
    "survey_kernel",
    "choose_kernel",
    "conv_kernel",
    "delta_kernel",
    "scan_kernel",
    "gate_kernel",
    "gated_norm_kernel",
}
EIGHT_BITS = {"sm_90": {"quantize_kernel", "finish_kernel"}, "sm_100": {"quantize_kernel", "finish_kernel"}}
CELLS = {"cell_kernel", "cells_kernel", "scores_kernel", "scan_cells_kernel"}
PRODUCTS = {"packed_linear_kernel", "grouped_linear_kernel"}

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="triton has no build for this platform"),
    pytest.mark.timeout(1800),
]


def compile_all(target: str) -> list[dict]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = (sys.executable, "-m", "stemma.kernels.triton.proof", target)
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), environment.get("PYTHONPATH", "")))  # another triton's too
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def compiled() -> dict[str, list[dict]]:
    """Two targets at a time: minutes the first time, seconds from Triton's cache after that."""
    with ThreadPoolExecutor(max_workers=2) as threads:
        return dict(zip(TARGETS, threads.map(compile_all, TARGETS), strict=True))


@pytest.fixture(params=TARGETS)
def rows(compiled: dict[str, list[dict]], request: pytest.FixtureRequest) -> list[dict]:
    return compiled[request.param]


def test_every_kernel_is_there(rows: list[dict]) -> None:
    assert {row["kernel"] for row in rows} == KERNELS | CELLS | EIGHT_BITS.get(rows[0]["target"], set())


def test_no_spills_and_no_stack(rows: list[dict]) -> None:
    assert [row for row in rows if row["stack"] or row["spills"]] == []


def test_shared_memory_fits(rows: list[dict]) -> None:
    assert [row for row in rows if row["shared"] > row["shared_limit"]] == []


def test_what_sm_80_runs_fits_the_smaller_chips_that_share_its_tiles(compiled: dict[str, list[dict]]) -> None:
    assert max(row["shared"] for row in compiled["sm_80"]) <= 101_376 - 1024


def test_products_use_the_tensor_cores(rows: list[dict]) -> None:
    with_dots = [row for row in rows if row["dots"]]
    assert {row["kernel"] for row in with_dots} == {"attend_kernel", *PRODUCTS} | CELLS
    assert [row for row in with_dots if not row["tensor_core"]] == []


@pytest.mark.parametrize(
    ("target", "instruction"),
    [("sm_80", "HMMA"), ("sm_90", ("HGMMA", "QGMMA")), ("sm_100", "UTC"), ("gfx942", "v_mfma")],
)
def test_large_tiles_use_the_newest_matrix_instruction(
    compiled: dict[str, list[dict]], target: str, instruction: str | tuple[str, ...]
) -> None:
    large = [
        row for row in compiled[target] if row["dots"] and (" rows 64" in row["title"] or " rows 128" in row["title"])
    ]
    assert len(large) >= 8
    assert [row for row in large if not all(name.startswith(instruction) for name in row["tensor_core"])] == []


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_loops_copy_to_shared_memory_asynchronously(compiled: dict[str, list[dict]], target: str) -> None:
    with_loops = [row for row in compiled[target] if row["dots"] and row["kernel"] != "cell_kernel"]
    assert [row for row in with_loops if row["async_copies"] < 4] == []


def test_loads_of_weights_and_kv_are_wide(rows: list[dict]) -> None:
    """Wavefronts of 64 leave 8 bytes a thread of the smallest 8-bit and 4-bit tiles, and 4 of 16 tokens' keys of 64
    bytes, with which a chunk takes fewer instructions a token, these loads among them, than with 32."""
    least = 64 if rows[0]["target"] == "gfx942" else 128
    narrow = [row for row in rows if row["dots"] and row["widest_load"] < least]
    sixteen = [row for row in narrow if least == 64 and " i16 head_dim 64 rows 64 tokens 16 " in row["title"]]
    assert [row for row in narrow if row not in sixteen] == []
    assert {row["widest_load"] for row in sixteen} <= {32}


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_codes_of_four_bits_are_never_converted(compiled: dict[str, list[dict]], target: str) -> None:
    """They become floats by integer operations on two at a time; conversions have a quarter of the rate or less."""
    few = [row for row in compiled[target] if "four bits" in row["title"] and " rows 8 " in row["title"]]
    assert len(few) >= 4
    assert [row for row in few if row["conversions"] or row["programs"] < 3] == []


def test_decode_attention_fills_the_multiprocessor(rows: list[dict]) -> None:
    """Programs that wait for memory: several on each multiprocessor, so that one loads while others compute."""
    decode = [row for row in rows if row["kernel"] == "attend_kernel" and " rows 16 " in row["title"]]
    assert len(decode) >= 6
    assert min(row["programs"] for row in decode) >= 2
    # Walking through rectangles takes some registers: on gfx942 eight too many for a fourth.
    least = 3 if rows[0]["target"] == "gfx942" else 4
    assert next(row["programs"] for row in decode if "bf16 head_dim 128" in row["title"]) >= least


def test_wide_attention_on_blackwell_has_the_multiprocessor_for_itself(compiled: dict[str, list[dict]]) -> None:
    """One program is launched on each; with room for a second one Triton 3.6's assembler spills."""
    wide = [row for row in compiled["sm_100"] if " i16 head_dim 64 rows 64 " in row["title"]]
    assert len(wide) >= 6
    assert [row for row in wide if row["programs"] != 1] == []


def test_recurrences_fill_the_multiprocessor(rows: list[dict]) -> None:
    """Programs of one warp each, which wait for nobody; two or more for each of four schedulers."""
    recurrences = [row for row in rows if row["kernel"] in ("delta_kernel", "scan_kernel")]
    assert len(recurrences) >= 3
    assert [row for row in recurrences if row["num_warps"] != 1 or row["programs"] < 8] == []


def test_something_runs_on_every_multiprocessor(rows: list[dict]) -> None:
    assert min(row["programs"] for row in rows) >= 1
