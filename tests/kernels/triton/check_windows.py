"""Blocks behind a window: their entries in a block table are 0, and what lies in them, or in block 0, never matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from triton_support import DEVICE, EXACT, filled_kv, metadata_of

from stemma.kernels.ops import AttentionSpec, KVShape
from stemma.kernels.triton.kv import TritonKV
from stemma.kernels.triton.ops import TritonOps

STEPS = {
    "decode": [(700, 1), (255, 1), (530, 1)],
    "drafts": [(700, 7), (300, 2)],
    "prefill": [(530, 90), (0, 33)],
}
SINKS = (0.5, -1.0, 2.0, 0.0, 1.0, -3.0)


def poisoned(kv: TritonKV, held: set[int], value: float) -> None:
    unheld = [block for block in range(kv.shape.num_blocks) if block not in held]
    for tensor in kv.tensors:
        tensor[:, unheld] = torch.tensor(value).to(tensor.dtype)


@pytest.mark.parametrize("kv_type", ["activation", "int8", "fp8"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("window", [1, 20, 300])
def test_what_lies_behind_a_window_is_not_read(kv_type: str, step: str, window: int) -> None:
    ops = TritonOps(DEVICE, EXACT, kv_type)  # type: ignore[arg-type]
    metadata, num_blocks = metadata_of(STEPS[step], 16)
    shape = KVShape(1, num_blocks, 16, 2, 32)
    kv = filled_kv(ops, shape, metadata)
    tables, held = metadata.block_tables.copy(), set()
    for table, (cached, _) in zip(tables, STEPS[step], strict=True):
        unseen = max(0, cached - window + 1) // 16
        table[:unseen] = 0
        held |= set(table[unseen:].tolist()) - {0}
    q = torch.randn(len(metadata.positions), 6, 32).to(DEVICE, EXACT)
    spec = AttentionSpec(0.2, window, 5.0 if window == 20 else None, SINKS if window == 300 else ())
    want = ops.attention(q, kv, 0, ops.plan(metadata, shape), spec)
    behind = replace(metadata, block_tables=tables)
    for value in (300.0, float("nan")):
        poisoned(kv, held, value)
        assert torch.equal(ops.attention(q, kv, 0, ops.plan(behind, shape), spec), want)
