"""What other families ask, against the reference: windows, soft caps, sinks; norms, activations and scales; experts;
latent attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from check_rows import stored
from triton_support import DEVICE, EXACT, TOLERANCE, assert_close, filled_kv, metadata_of, reference_of

from stemma.kernels.experts import Activation, ExpertsSpec, SharedExpert
from stemma.kernels.ops import AttentionSpec, HeadNorms, HeadShape, KVShape
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.reference_values import ReferenceKV
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.targets import UnsupportedDevice

REFERENCE = ReferenceOps(torch.device("cpu"), torch.float64)
SINKS = (-3.0, 0.5, 2.0, 8.0)
SPECS = [
    AttentionSpec(0.3, 5), AttentionSpec(0.2, 300), AttentionSpec(0.2, 5000), AttentionSpec(0.4, None, 3.0),
    AttentionSpec(0.2, None, None, SINKS), AttentionSpec(0.3, 40, 5.0, SINKS),
]  # fmt: skip
EXPERTS = [
    ExpertsSpec(2), ExpertsSpec(2, "sigmoid", True, 1.5, 4, 2, "two best"), ExpertsSpec(3, "softmax of the chosen"),
    ExpertsSpec(2, "sigmoid", True, activation="relu2", gated=False),
]  # fmt: skip
STEPS = {
    "mixed": ([(0, 70), (300, 1), (60, 9), (3, 1)], ()),
    "decode over pieces": ([(700, 1), (1030, 1)], ()),
    "shared": ([(1040, 1), (1060, 1), (1100, 3)], ((0, 3, 64),)),
}


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("step", STEPS)
def test_attention(step: str, spec: AttentionSpec) -> None:
    ops = TritonOps(DEVICE, EXACT)
    metadata, num_blocks = metadata_of(STEPS[step][0], 16, STEPS[step][1])
    shape = KVShape(1, num_blocks, 16, 2, 32)
    kv = filled_kv(ops, shape, metadata)
    q = torch.randn(len(metadata.positions), 4, 32).to(ops.dtype)
    reference, reference_kv = reference_of(kv)
    expected = reference.attention(q.double(), reference_kv, 0, reference.plan(metadata, shape), spec)
    actual = ops.attention(q.to(DEVICE), kv, 0, ops.plan(metadata, shape), spec)
    assert_close(actual, expected, TOLERANCE[EXACT])


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "relu2", "clamped_silu"])
def test_activations(activation: Activation) -> None:
    ops, x, weight = TritonOps(DEVICE, EXACT), torch.randn(3, 64).to(EXACT), stored("F32", 80, 64)
    names = ("norm_gated",) if activation == "clamped_silu" else ("norm_gated", "norm_activated")
    for name in names:
        expected = getattr(REFERENCE, name)(x.double(), None, REFERENCE.linear([weight]), activation)
        assert_close(
            getattr(ops, name)(x.to(DEVICE), None, ops.linear([weight]), activation), expected, TOLERANCE[EXACT]
        )


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_norms_and_scales(kind: str, with_bias: bool) -> None:
    x, residual, rows = torch.randn(5, 64).to(EXACT), torch.randn(5, 40).to(EXACT), np.array([4, 0], dtype=np.int32)

    def results(ops: Any, x: torch.Tensor, residual: torch.Tensor) -> list[torch.Tensor]:
        bias = stored("F32", 64, seed=3) if with_bias else None
        before, behind = ops.layer_norm(stored("F32", 64), bias, 1e-5), ops.norm(stored("F32", 40, seed=4), 1e-5)
        linear = ops.linear([stored(kind, 40, 64)], [stored("F32", 40, seed=5)] if with_bias else [])
        return [
            ops.norm_linear(x, before, linear), ops.linear_add(x, linear, residual.clone(), 0.3),
            ops.linear_norm_add(x, linear, behind, residual.clone(), 0.3), ops.logits(x, rows, before, linear, 2.0),
            ops.embed(ops.embedding(stored("F32", 20, 64), 5.0), rows),
            ops.norm_add(x, ops.norm(stored("F32", 16), 1e-5), x.clone(), 0.3, 0.7),
            ops.norm_add(residual, behind, None),
        ]  # fmt: skip

    expected = results(REFERENCE, x.double(), residual.double())
    for actual, want in zip(
        results(TritonOps(DEVICE, EXACT), x.to(DEVICE), residual.to(DEVICE)), expected, strict=True
    ):
        assert_close(actual, want, 4 * TOLERANCE[EXACT])


def tables(ops: Any, half: int) -> Any:
    angles = np.outer(np.arange(2000), 10.0 ** -np.arange(half)).astype(np.float32)
    return ops.rope(np.cos(angles), np.sin(angles))


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("norms", ["none", "behind", "together", "each", "values"])
def test_heads(rotated: bool, norms: str) -> None:
    metadata, num_blocks = metadata_of([(0, 5), (7, 1)], 16)
    shape, heads = KVShape(1, num_blocks, 16, 2, 32), HeadShape(4, 2, 32)
    qkv, results = torch.randn(6, 8 * 32), []
    for ops, dtype in ((TritonOps(DEVICE, EXACT), EXACT), (REFERENCE, torch.float64)):
        sizes = (4 * 32, 2 * 32) if norms in ("together", "each") else (32, 32)
        weights = [stored("F32", size, seed=size) for size in sizes]
        pair = [ops.layer_norm(weight, None, 1e-5) if norms == "each" else ops.norm(weight, 1e-5) for weight in weights]
        values = ops.norm(stored("F32", 32, seed=9), 1e-5) if norms == "values" else None
        asked = None if norms == "none" else HeadNorms(*pair, norms == "behind", values)
        kv, plan = ops.kv(shape), ops.plan(metadata, shape)
        rope = tables(ops, 16) if rotated else None
        q = ops.rope_write(qkv.clone().to(dtype).to(ops.device), heads, rope, asked, kv, 0, plan)
        results.append(ops.attention(q, kv, 0, plan, AttentionSpec(0.2)))
        queries, alone = qkv[:, : 4 * 32].contiguous().to(dtype).to(ops.device), heads._replace(num_kv_heads=0)
        own = None if asked is None else HeadNorms(asked.q, None, asked.after_rope)
        q = ops.rope_write(queries.clone(), alone, rope, own, kv, 0, plan)  # of a layer that reads this one's KV
        assert_close(ops.attention(q, kv, 0, plan, AttentionSpec(0.2)), results[-1].cpu().double(), 1e-6)
    assert_close(results[0], results[1], 4 * TOLERANCE[EXACT])


def test_norms_without_kernels_are_refused() -> None:
    metadata, num_blocks = metadata_of([(0, 5)], 16)
    shape, ops = KVShape(1, num_blocks, 16, 2, 32), TritonOps(DEVICE, EXACT)

    norms = HeadNorms(ops.norm(stored("F32", 128), 1e-5), None, after_rope=True)
    qkv, kv, plan = torch.randn(5, 256).to(DEVICE, EXACT), ops.kv(shape), ops.plan(metadata, shape)
    with pytest.raises(UnsupportedDevice, match="behind the rotation"):
        ops.rope_write(qkv, HeadShape(4, 2, 32), None, norms, kv, 0, plan)


@pytest.mark.parametrize("spec", EXPERTS, ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_experts(spec: ExpertsSpec, shared: bool) -> None:
    x = torch.randn(7, 64).to(EXACT)

    def result(ops: Any, x: torch.Tensor) -> torch.Tensor:
        def linear(out: int, inputs: int, seed: int) -> Any:
            return ops.linear([stored("F32", out, inputs, seed=seed)])

        wide = 2 if spec.gated else 1
        beside = SharedExpert(linear(48 * wide, 64, 90), linear(64, 48, 91), linear(1, 64, 92)) if shared else None
        correction = stored("F32", 8, seed=93) if spec.score == "sigmoid" else None
        scales = stored("F32", 8, seed=94) if spec.score == "softmax" else None
        matrices = [
            [linear(32 * wide, 64, seed) for seed in range(8)],
            [linear(64, 32, 20 + seed) for seed in range(8)],
        ]
        experts = ops.experts(spec, linear(8, 64, 95), correction, *matrices, beside, scales)
        stream = None if shared else x.clone()
        return ops.norm_experts_add(x, ops.norm(stored("F32", 64), 1e-5), experts, stream, 0.5)

    assert_close(result(TritonOps(DEVICE, EXACT), x.to(DEVICE)), result(REFERENCE, x.double()), 4 * TOLERANCE[EXACT])


@pytest.mark.parametrize("kv_type", ["activation", "int8"])
def test_latent_attention(kv_type: Any) -> None:
    metadata, num_blocks = metadata_of([(0, 9), (0, 33)], 16)
    shape, results = KVShape(1, num_blocks, 16, 1, 40, 32), []
    latent, q = torch.randn(42, 40), torch.randn(42, 3 * 24)
    written = None
    for ops, dtype in ((TritonOps(DEVICE, EXACT, kv_type), EXACT), (REFERENCE, torch.float64)):
        kv, plan, rope = ops.kv(shape), ops.plan(metadata, shape), tables(ops, 4)
        ops.latent_write(latent.to(dtype).to(ops.device), ops.norm(stored("F32", 32), 1e-5), rope, kv, 0, plan)
        if kv_type == "int8" and written is not None:  # what was rounded both read, and it was rounded right
            rounded = reference_of(written)[1].keys
            assert_close(rounded[:, metadata.slots], kv.keys[:, metadata.slots], 1 / 127)
            kv = ReferenceKV(shape, rounded, rounded[..., : shape.value_dim])
        written = kv
        keys = ops.head_linear([stored("F32", 32, 16, seed=head) for head in range(3)])
        queries = ops.latent_queries(q.to(dtype).to(ops.device), keys, rope, plan)
        out = ops.attention(queries, kv, 0, plan, AttentionSpec(0.3))
        results.append(ops.multiply_heads(out, ops.head_linear([stored("F32", 10, 32, seed=h) for h in range(3)])))
    assert_close(results[0], results[1], 4 * TOLERANCE[EXACT])
