"""Attention against the reference: decode, extend, shared prefixes, mixtures, KV types, awkward shapes, fixed plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    real_values,
    reference_of,
)

from stemma.kernels.ops import AttentionMetadata, KVShape
from stemma.kernels.triton.cut import Cutting, cut
from stemma.kernels.triton.launches import TritonSpec
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.plan import Partials, pack_tables
from stemma.kernels.triton.targets import SM_90, target_of

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


@pytest.mark.parametrize("kv_type", ["int8", "fp8"])
@pytest.mark.parametrize(("heads", "head_dim"), [((1, 1), 8), ((3, 1), 48), ((8, 2), 128), ((4, 1), 256)])
def test_eight_bit_heads(kv_type: str, heads: tuple[int, int], head_dim: int) -> None:
    metadata, num_blocks = metadata_of([(0, 11), (30, 1), (520, 2)], 4)
    compare(TritonOps(DEVICE, EXACT, kv_type), metadata, num_blocks, heads, head_dim, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("kv_type", ["int8", "fp8"])
def test_every_number_of_eight_bits_is_read_exactly(kv_type: str) -> None:
    """A row that sees one token has its values times their scale, which float32 holds."""
    ops = TritonOps(DEVICE, EXACT, kv_type)  # type: ignore[arg-type]
    metadata, num_blocks = metadata_of([(0, 1)], 16)
    shape = KVShape(1, num_blocks, 16, 1, 256)
    kv = filled_kv(ops, shape, metadata)
    codes = torch.arange(256, dtype=torch.uint8).view(kv.values.dtype)
    codes = torch.where(codes.float().isfinite(), codes.float(), 0.0).to(kv.values.dtype)
    block, offset = divmod(int(metadata.slots[0]), 16)
    kv.values[0, block, 0, offset] = codes.to(DEVICE)
    q = torch.randn(1, 1, 256).to(DEVICE, EXACT)
    actual = ops.attention(q, kv, 0, ops.plan(metadata, shape), plain(q))
    expected = real_values(kv)[1][0, int(metadata.slots[0])]
    assert torch.equal(actual.cpu().view(-1), expected.view(-1).to(EXACT))


@pytest.mark.parametrize("kv_type", ["int8", "fp8"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_over_eight_bits_keep_eleven(kv_type: str, dtype: torch.dtype) -> None:
    """Each is rounded by at most 2^-11 of itself, in any activations; outputs are rounded to these."""
    ops = TritonOps(DEVICE, dtype, kv_type)  # type: ignore[arg-type]
    metadata, num_blocks = metadata_of([(90, 40), (700, 1)], 16)
    shape = KVShape(1, num_blocks, 16, 2, 64)
    kv = filled_kv(ops, shape, metadata)
    q = torch.randn(len(metadata.positions), 4, 64).to(dtype)
    reference, reference_kv = reference_of(kv)
    plan = reference.plan(metadata, shape)
    expected = reference.attention(q.double(), reference_kv, 0, plan, plain(q))
    reference_kv.values.abs_()
    largest = reference.attention(q.double(), reference_kv, 0, plan, plain(q))
    actual = ops.attention(q.to(DEVICE), kv, 0, ops.plan(metadata, shape), plain(q)).cpu().double()
    # The interpreter cuts what it makes bfloat16 off, instead of rounding it.
    rounding = torch.finfo(dtype).eps / (1 if INTERPRETED else 2)
    bound = 2.0**-11 * largest + rounding * expected.abs() + 1e-5
    assert ((actual - expected).abs() <= bound).all()


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
    partial_out, all_partials = guarded(pieces.partials.out.shape, torch.float32)
    partial_stats, all_stats = guarded(pieces.partials.stats.shape, torch.float32)
    pieces.partials = Partials(partial_out, partial_stats)
    pieces.arguments.clear()
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


def test_rows_are_the_same_whatever_programs_there_are() -> None:
    """Bit for bit: who computes a rectangle, and when, is in no sum."""
    metadata, num_blocks = metadata_of([(700, 1), (0, 40), (1030, 1), (520, 3), (90, 70)], 16)
    shape = KVShape(1, num_blocks, 16, 2, 32)
    q = torch.randn(len(metadata.positions), 6, 32).to(DEVICE, EXACT)
    results = []
    for multiprocessors in (1, 2, 132):
        ops = TritonOps(DEVICE, EXACT, target=target_of(DEVICE)._replace(multiprocessors=multiprocessors))
        results.append(ops.attention(q, filled_kv(ops, shape, metadata), 0, ops.plan(metadata, shape), plain(q)))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_the_grid_does_not_depend_on_the_step() -> None:
    grids: dict[str, set[tuple[int, ...]]] = {}

    def launch(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], *_: int) -> None:
        grids.setdefault(f"{kernel.__name__} {arguments.get('ROWS')}", set()).add(grid)

    ops = TritonOps(DEVICE, EXACT, target=SM_90, launch=launch)
    for sequences in ([(1, 1)], [(2000, 1)], [(0, 300)], [(600, 2)] * 20, [(0, 40), (5000, 1)]):
        metadata, num_blocks = metadata_of(sequences, 16)
        shape = KVShape(1, num_blocks, 16, 2, 32)
        q = torch.zeros(len(metadata.positions), 6, 32).to(DEVICE, EXACT)
        ops.attention(q, ops.kv(shape), 0, ops.plan(metadata, shape), plain(q))
    assert len(grids) == 3
    assert [len(each) for each in grids.values()] == [1, 1, 1]
    assert all(grid[0] % SM_90.multiprocessors == 0 for each in grids.values() for grid in each)


@pytest.mark.parametrize("step", STEPS)
def test_rectangles_stand_by_length(step: str) -> None:
    """And those of a step are the same pairs of rows and positions, each once."""
    metadata, _ = metadata_of(STEPS[step][0], 16, STEPS[step][1])
    pieces = cut(metadata, Cutting(3, 16, 128, 256, 16))
    seen = np.zeros((len(metadata.positions), int(metadata.context_lens.max())), dtype=int)
    for rectangles in (pieces.narrow, pieces.wide):
        assert (np.diff(rectangles[:, 4] - rectangles[:, 3]) <= 0).all()
        for first, rows, _, start, end, _ in rectangles.tolist():
            seen[first : first + rows, start:end] += 1
    visible = np.arange(seen.shape[1]) <= metadata.positions[:, None]
    assert (seen[visible] == 1).all()


@pytest.mark.parametrize(("width", "ragged"), [(40, False), (500, True)])
def test_tables_are_packed(width: int, ragged: bool) -> None:
    metadata, _ = metadata_of([(600, 1), (620, 1), (0, 9)], 16)
    wide = np.zeros((3, width), dtype=np.int32)
    wide[:, : metadata.block_tables.shape[1]] = metadata.block_tables
    tables, starts = pack_tables(replace(metadata, block_tables=wide), 16)
    assert (len(tables) < wide.size) == ragged
    for table, start, context in zip(wide, starts, metadata.context_lens, strict=True):
        used = -(-int(context) // 16)
        assert (tables[start : start + used] == table[:used]).all()
