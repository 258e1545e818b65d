"""The KV pool: RoPE with the write, head norms, quantisation, copies, snapshots, what must stay untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_support import (
    DEVICE,
    EXACT,
    FLOATS,
    INTERPRETED,
    TOLERANCE,
    assert_close,
    assert_guards,
    clone_kv,
    filled_kv,
    guarded,
    metadata_of,
    real_values,
)

from stemma.kernels.ops import BlockCopy, HeadNorms, HeadShape, KVShape
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.reference_values import ReferenceKV
from stemma.kernels.triton.kv import waves
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.weights import StoredWeight


def tables(positions: int, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    angles = np.outer(np.arange(positions), 0.7 ** np.arange(head_dim // 2)).astype(np.float32)
    return np.cos(angles), np.sin(angles)


def head_norm(ops: object, head_dim: int, seed: int) -> object:
    weight = np.random.default_rng(seed).normal(1.0, 0.2, head_dim).astype(np.float32)
    return ops.norm(StoredWeight("F32", (head_dim,), weight), 1e-5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("heads", [(4, 2, 16), (9, 3, 64), (2, 2, 48), (7, 1, 8)])
@pytest.mark.parametrize("norms", ["none", "both", "keys"])
def test_rope_write_matches_the_reference(dtype: torch.dtype, heads: tuple[int, int, int], norms: str) -> None:
    shape_of_heads = HeadShape(*heads)
    metadata, num_blocks = metadata_of([(5, 3), (0, 9), (17, 1)], 4)
    shape = KVShape(2, num_blocks, 4, heads[1], heads[2])
    ops, reference = TritonOps(DEVICE, dtype), ReferenceOps(torch.device("cpu"), torch.float64)
    kv, expected_kv = ops.kv(shape), reference.kv(shape)
    qkv = torch.randn(13, (heads[0] + 2 * heads[1]) * heads[2]).to(dtype)
    results = []
    for back_end, pool, x in ((ops, kv, qkv.to(DEVICE)), (reference, expected_kv, qkv.double())):
        q_norm = head_norm(back_end, heads[2], 1) if norms == "both" else None
        k_norm = head_norm(back_end, heads[2], 2) if norms != "none" else None
        rope, plan = back_end.rope(*tables(64, heads[2])), back_end.plan(metadata, shape)
        results.append(back_end.rope_write(x, shape_of_heads, rope, HeadNorms(q_norm, k_norm), pool, 1, plan))  # type: ignore
    assert_close(results[0], results[1], TOLERANCE[dtype])
    keys, values = real_values(kv)
    assert_close(keys, expected_kv.keys, TOLERANCE[dtype])
    assert torch.equal(values, expected_kv.values)


@pytest.mark.parametrize("kv_type", ["int8", "fp8"])
def test_quantised_kv_is_within_its_rounding(kv_type: str) -> None:
    heads = HeadShape(4, 2, 32)
    metadata, num_blocks = metadata_of([(0, 40)], 8)
    shape = KVShape(1, num_blocks, 8, 2, 32)
    ops, reference = TritonOps(DEVICE, EXACT, kv_type), ReferenceOps(torch.device("cpu"), torch.float64)  # type: ignore
    kv, expected = ops.kv(shape), reference.kv(shape)
    torch.manual_seed(0)
    spread = torch.logspace(-4, 2, 40)[:, None]
    qkv = (torch.randn(40, 8 * 32) * spread).to(EXACT)
    qkv[7] = 0.0
    for back_end, pool, x in ((ops, kv, qkv.to(DEVICE)), (reference, expected, qkv.double())):
        plan, rope = back_end.plan(metadata, shape), back_end.rope(*tables(64, 32))
        back_end.rope_write(x, heads, rope, None, pool, 0, plan)  # type: ignore[arg-type]
    for actual, wanted in zip(real_values(kv), (expected.keys, expected.values), strict=True):
        largest = wanted.abs().amax(-1, keepdim=True)
        # int8: half a step of 1/127. e4m3: 1/16 of each value, for its three bits; below, half the least subnormal.
        bound = (
            largest / 254
            if kv_type == "int8"
            else torch.maximum(wanted.abs() / 16, largest / 448 / 64 / (1 if INTERPRETED else 8))
        )
        wrong = (actual - wanted).abs() > bound * 1.01 + 2.0**-20
        if kv_type == "fp8" and INTERPRETED:
            # The interpreter knows no fp8 subnormals and loses the carry where a value rounds up to a power of two.
            assert wrong.double().mean() < 0.03
            wrong = (actual - wanted).abs() > torch.maximum(wanted.abs() * 0.51, bound) + 2.0**-20
        assert not wrong.any()


def test_only_the_slots_of_the_step_are_written() -> None:
    heads = HeadShape(4, 2, 16)
    metadata, num_blocks = metadata_of([(5, 3), (17, 1)], 4)
    shape = KVShape(3, num_blocks, 4, 2, 16)
    for kv_type in ("activation", "int8"):
        ops = TritonOps(DEVICE, EXACT, kv_type)  # type: ignore[arg-type]
        kv = filled_kv(ops, shape, metadata)
        before = clone_kv(kv)
        qkv = torch.randn(5, 8 * 16).to(DEVICE, EXACT)
        plan = ops.plan(metadata, shape)
        slots = plan.slots.clone()
        slots = torch.cat((slots, torch.tensor([-1], dtype=torch.int32, device=DEVICE)))
        positions = torch.cat((plan.positions, plan.positions[:1]))
        q, whole = guarded((5, 4, 16), EXACT)
        ops._kernels.rope_write(
            qkv, heads, ops.rope(*tables(64, 16)), HeadNorms(None, None), kv, 1, (positions, slots), q
        )
        assert_guards(whole)
        written = torch.zeros(num_blocks, 4, dtype=torch.bool)
        written.view(-1)[torch.from_numpy(metadata.slots.astype(np.int64))] = True
        for tensor, old in zip(kv.tensors, before, strict=True):
            changed = (tensor != old) & ~(tensor.isnan() & old.isnan())
            changed = changed.flatten(4).any(-1) if changed.dim() == 5 else changed
            assert not changed[[0, 2]].any()
            assert (changed[1].any(1).cpu() == written).all()


def test_copies_run_in_order_in_every_layer() -> None:
    copies = [BlockCopy(1, 2, 4), BlockCopy(3, 4, 2), BlockCopy(2, 5, 3), BlockCopy(6, 1, 4), BlockCopy(4, 4, 4)]
    for kv_type in ("activation", "int8", "fp8"):
        ops = TritonOps(DEVICE, EXACT, kv_type)  # type: ignore[arg-type]
        shape = KVShape(3, 9, 4, 2, 10)
        metadata, _ = metadata_of([(0, 28)], 4)
        kv = filled_kv(ops, shape, metadata)
        expected = [tensor.clone() for tensor in kv.tensors]
        for tensor in expected:
            for source, destination, num_tokens in copies:
                tensor[:, destination, :, :num_tokens] = tensor[:, source, :, :num_tokens].clone()
        ops.copy_blocks(kv, copies)
        for tensor, wanted in zip(kv.tensors, expected, strict=True):
            assert torch.equal(tensor.view(torch.uint8), wanted.view(torch.uint8))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.builds(BlockCopy, st.integers(0, 6), st.integers(0, 6), st.integers(1, 4)), max_size=12))
def test_waves_keep_the_order_of_what_depends(copies: list[BlockCopy]) -> None:
    split = waves(copies)
    assert [copy for wave in split for copy in wave] == copies
    for wave in split:
        for index, copy in enumerate(wave):
            for other in wave[:index]:
                assert copy.source != other.destination
                assert copy.destination not in (other.source, other.destination)


@pytest.mark.parametrize("kv_type", ["activation", "int8", "fp8"])
def test_snapshots_go_around(kv_type: str) -> None:
    ops = TritonOps(DEVICE, EXACT, kv_type)  # type: ignore[arg-type]
    shape = KVShape(2, 9, 4, 2, 16)
    metadata, _ = metadata_of([(0, 28)], 4)
    kv, other = filled_kv(ops, shape, metadata), ops.kv(shape)
    blocks = np.array([3, 1, 7], dtype=np.int32)
    data = ops.read_blocks(kv, blocks)
    assert len(data) == kv.num_bytes // 9 * 3
    ops.write_blocks(other, np.array([2, 8, 4], dtype=np.int32), data)
    for tensor, copy in zip(kv.tensors, other.tensors, strict=True):
        for source, destination in ((3, 2), (1, 8), (7, 4)):
            assert torch.equal(tensor[:, source].view(torch.uint8), copy[:, destination].view(torch.uint8))
        assert not copy[:, [0, 1, 3, 5, 6, 7]].view(torch.uint8).any()
    with pytest.raises(ValueError, match="another model"):
        ops.write_blocks(other, blocks, data[:-1])


def test_a_pool_of_no_layer_goes_around() -> None:
    """Models without full layers have one."""
    ops, blocks = TritonOps(DEVICE, EXACT), np.array([1], dtype=np.int32)
    kv = ops.kv(KVShape(0, 3, 4, 2, 16))
    assert ops.read_blocks(kv, blocks) == b""
    ops.write_blocks(kv, blocks, b"")


def test_a_pool_too_large_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="fewer blocks"):
        TritonOps(DEVICE, EXACT).kv(KVShape(1000, 2**31, 16, 64, 128))


def test_the_reference_pool_is_untouched_by_what_is_compared() -> None:
    """`real_values` is the metadata that the comparisons above rest on."""
    ops = TritonOps(DEVICE, EXACT)
    shape = KVShape(1, 3, 4, 2, 8)
    kv = ops.kv(shape)
    kv.keys[0, 2, 1, 3, 5] = 7.0
    reference = ReferenceKV(shape, *real_values(kv))
    assert reference.keys[0, 2 * 4 + 3, 1, 5] == 7.0
    assert reference.keys.sum() == 7.0
