"""Attention against the reference: decode, extend, shared prefixes, mixtures, KV types, awkward shapes, fixed plans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from triton_support import (
    DEVICE,
    EXACT,
    FLOATS,
    INTERPRETED,
    TOLERANCE,
    assert_close,
    assert_guards,
    filled_kv,
    guarded,
    metadata_of,
    plain,
    reference_of,
)

from stemma.kernels.ops import AttentionMetadata, KVShape
from stemma.kernels.triton.launches import TritonSpec
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.plan import Capacity, CapacityError

STEPS = {
    "one token": ([(0, 1)], ()),
    "decode": ([(5, 1), (255, 1), (256, 1), (16, 1)], ()),
    "decode over pieces": ([(700, 1), (1030, 1)], ()),
    "prompts": ([(0, 33), (0, 1), (0, 7)], ()),
    "cached prompts": ([(40, 50), (129, 3)], ()),
    "a few tokens over pieces": ([(1022, 5), (530, 20)], ()),
    "mixed": ([(0, 70), (300, 1), (60, 9), (3, 1)], ()),
    "shared decode": ([(1040, 1), (1060, 1), (1100, 1)], ((0, 3, 64),)),
    "shared extend": ([(1024, 6), (1040, 30), (1024, 1)], ((0, 3, 64),)),
    "two shared groups": ([(1030, 1), (1031, 1), (3, 1), (1025, 2), (1040, 1)], ((0, 2, 64), (3, 5, 64))),
    "too short to share": ([(100, 1), (100, 1)], ((0, 2, 6),)),
}
EIGHT_BIT_STEPS = {"long": ([(2040, 9), (2050, 1)], ()), "long shared": ([(2060, 1), (2090, 5)], ((0, 2, 128),))}
HEADS = [(1, 1), (3, 1), (6, 2), (8, 1), (20, 1)]


def compare(
    ops: TritonOps, metadata: AttentionMetadata, num_blocks: int, heads: tuple[int, int], head_dim: int, bs: int
) -> None:
    num_heads, num_kv_heads = heads
    shape = KVShape(2, num_blocks, bs, num_kv_heads, head_dim)
    kv = filled_kv(ops, shape, metadata)
    q = torch.randn(len(metadata.positions), num_heads, head_dim).to(ops.dtype)
    reference, reference_kv = reference_of(kv)
    expected = reference.attention(q.double(), reference_kv, 1, reference.plan(metadata, shape), plain(q))
    actual = ops.attention(q.to(DEVICE), kv, 1, ops.plan(metadata, shape), plain(q))
    assert_close(actual, expected, TOLERANCE[ops.dtype])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_step_matches_the_reference(step: str, dtype: torch.dtype) -> None:
    metadata, num_blocks = metadata_of(STEPS[step][0], 16, STEPS[step][1])
    compare(TritonOps(DEVICE, dtype), metadata, num_blocks, (6, 2), 64, 16)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("head_dim", [8, 48, 128])
def test_heads(heads: tuple[int, int], head_dim: int) -> None:
    metadata, num_blocks = metadata_of([(0, 11), (30, 1), (520, 2)], 16)
    compare(TritonOps(DEVICE, EXACT), metadata, num_blocks, heads, head_dim, 16)


@pytest.mark.parametrize("block_size", [1, 3, 4, 32, 128])
def test_block_sizes(block_size: int) -> None:
    metadata, num_blocks = metadata_of([(0, 11), (130, 1)], block_size)
    compare(TritonOps(DEVICE, EXACT), metadata, num_blocks, (4, 2), 32, block_size)


@pytest.mark.parametrize("kv_type", ["int8", "fp8"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("step", ["mixed", "long shared", "long"])
def test_eight_bit_kv(kv_type: str, dtype: torch.dtype, step: str) -> None:
    sequences, shared = (STEPS | EIGHT_BIT_STEPS)[step]
    metadata, num_blocks = metadata_of(sequences, 16, shared)
    compare(TritonOps(DEVICE, dtype, kv_type), metadata, num_blocks, (6, 2), 32, 16)  # type: ignore[arg-type]


def test_nothing_is_written_outside_the_outputs() -> None:
    ops = TritonOps(DEVICE, EXACT)
    metadata, num_blocks = metadata_of([(700, 1), (0, 40), (520, 3)], 16)
    shape = KVShape(1, num_blocks, 16, 2, 32)
    kv = filled_kv(ops, shape, metadata)
    before = [tensor.clone() for tensor in kv.tensors]
    q = torch.randn(len(metadata.positions), 6, 32).to(DEVICE, EXACT)
    plan = ops.plan(metadata, shape)
    expected = ops.attention(q, kv, 0, plan, plain(q))
    pieces = plan.attention[6]
    pieces.partial_out, all_partials = guarded(pieces.partial_out.shape, torch.float32)
    pieces.partial_stats, all_stats = guarded(pieces.partial_stats.shape, torch.float32)
    out, all_out = guarded(q.shape, EXACT)
    ops._kernels.attend(q, kv, 0, plan.positions, pieces, TritonSpec.of(plain(q), DEVICE), out)
    assert torch.equal(out.view(len(q), -1), expected)
    for whole in (all_partials, all_stats, all_out):
        assert_guards(whole)
    for tensor, old in zip(kv.tensors, before, strict=True):
        assert torch.equal(tensor.nan_to_num(0.0), old.nan_to_num(0.0))


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Bit for bit: pieces begin at multiples of a constant and are merged in order of position."""
    ops = TritonOps(DEVICE, EXACT)
    metadata, num_blocks = metadata_of([(700, 1), (0, 40), (1030, 1), (520, 3)], 16)
    shape = KVShape(1, num_blocks, 16, 2, 32)
    kv = filled_kv(ops, shape, metadata)
    q = torch.randn(len(metadata.positions), 6, 32).to(DEVICE, EXACT)
    together = ops.attention(q, kv, 0, ops.plan(metadata, shape), plain(q))
    for index in range(len(metadata.context_lens)):
        rows = slice(metadata.query_starts[index], metadata.query_starts[index + 1])
        alone = AttentionMetadata(
            metadata.positions[rows],
            metadata.slots[rows],
            np.array([0, rows.stop - rows.start], dtype=np.int32),
            metadata.context_lens[index : index + 1],
            metadata.block_tables[index : index + 1],
        )
        assert torch.equal(ops.attention(q[rows], kv, 0, ops.plan(alone, shape), plain(q)), together[rows])


def test_chunks_of_a_prompt_give_the_rows_of_the_whole() -> None:
    ops = TritonOps(DEVICE, EXACT)
    metadata, num_blocks = metadata_of([(0, 150)], 16)
    shape = KVShape(1, num_blocks, 16, 1, 32)
    kv = filled_kv(ops, shape, metadata)
    q = torch.randn(150, 2, 32).to(DEVICE, EXACT)
    whole = ops.attention(q, kv, 0, ops.plan(metadata, shape), plain(q))
    for start, end in ((0, 70), (70, 150)):
        chunk = AttentionMetadata(
            metadata.positions[start:end],
            metadata.slots[start:end],
            np.array([0, end - start], dtype=np.int32),
            np.array([end], dtype=np.int32),
            metadata.block_tables,
        )
        rows = ops.attention(q[start:end], kv, 0, ops.plan(chunk, shape), plain(q))
        assert_close(rows, whole[start:end], 2e-6 if INTERPRETED else TOLERANCE[EXACT])


def test_a_fixed_plan_serves_step_after_step() -> None:
    """What a captured graph does: the same buffers and grids, other contents, fewer sequences than they hold."""
    ops = TritonOps(DEVICE, EXACT)
    steps = [metadata_of([(700, 1), (20, 1), (1030, 1)], 16)[0], metadata_of([(3, 1), (900, 1)], 16)[0]]
    shape = KVShape(1, 120, 16, 2, 32)
    capacity = Capacity(num_tokens=4, num_table_entries=4 * 80, num_narrow=16, num_wide=0, num_partials=16)
    plan = ops.fixed_plan(steps[0], shape, 6, capacity)
    addresses = [plan.attention[6].uploads[name].data_ptr() for name in ("narrow", "tables", "counts")]
    for metadata in (*steps, steps[0]):
        kv = filled_kv(ops, shape, metadata)
        num_rows = len(metadata.positions)
        q = torch.randn(4, 6, 32).to(DEVICE, EXACT)
        plan.refill(metadata)
        expected = ops.attention(q[:num_rows], kv, 0, ops.plan(metadata, shape), plain(q))
        assert torch.equal(ops.attention(q, kv, 0, plan, plain(q))[:num_rows], expected)
    assert addresses == [plan.attention[6].uploads[name].data_ptr() for name in ("narrow", "tables", "counts")]
    assert plan.slots.tolist()[3:] == [-1]


@pytest.mark.parametrize("sequences", [[(0, 1)] * 5, [(100_000, 1)], [(0, 30)]])
def test_a_step_too_large_for_a_fixed_plan_is_refused(sequences: list[tuple[int, int]]) -> None:
    ops = TritonOps(DEVICE, EXACT)
    shape = KVShape(1, 120, 16, 2, 32)
    capacity = Capacity(num_tokens=4, num_table_entries=4 * 80, num_narrow=16, num_wide=0, num_partials=16)
    plan = ops.fixed_plan(metadata_of([(3, 1)], 16)[0], shape, 6, capacity)
    with pytest.raises(CapacityError, match="plan of its own"):
        plan.refill(metadata_of(sequences, 16)[0])
