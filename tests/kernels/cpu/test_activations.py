"""Activations to a few units in the last place, gated and not; norms, scales and soft caps against the reference."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.experts import Activation, GatedActivation
from stemma.kernels.reference import ACTIVATIONS, ReferenceOps
from stemma.kernels.weights import StoredWeight
from tests.kernels.on_tensors import tensor_ops

PLAIN: tuple[Activation, ...] = get_args(Activation)
GATED: tuple[GatedActivation, ...] = get_args(GatedActivation)
SIZES = [16, 24, 48]  # whole strips, and outputs that stand over the edge of one


def stored(*shape: int, seed: int = 0, kind: str = "F32") -> StoredWeight:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    if kind == "BF16":
        return StoredWeight(kind, shape, (values.view(np.uint32) >> 16).astype(np.uint16))
    return StoredWeight(kind, shape, values)


def identity(size: int, times: int) -> list[StoredWeight]:
    return [StoredWeight("F32", (size, size), np.eye(size, dtype=np.float32))] * times


@pytest.mark.parametrize("activation", PLAIN)
def test_activations_are_right_in_the_last_places(ops: CpuOps, activation: Activation) -> None:
    x = torch.cat((torch.linspace(-9, 9, 3200), torch.logspace(-6, 1.5, 1600), -torch.logspace(-6, 0.9, 1600)))
    x = x.reshape(-1, 16).contiguous()
    got = ops.norm_activated(x, None, ops.linear(identity(16, 1)), activation)
    want = ACTIVATIONS[activation](x.double())
    last_place = torch.from_numpy(np.spacing(want.abs().float().numpy())).double()
    assert bool(((got.double() - want).abs() <= 6 * last_place + 1e-8).all())


@pytest.mark.parametrize("x", [-1e30, -200.0, -0.0, 0.0, 200.0, 1e18])
def test_activations_of_extreme_numbers(ops: CpuOps, x: float) -> None:
    row = torch.full((1, 16), x)
    linear = ops.linear(identity(16, 1))
    for activation in PLAIN:
        got = ops.norm_activated(row, None, linear, activation)
        assert torch.allclose(got, ACTIVATIONS[activation](row), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("activation", GATED)
@pytest.mark.parametrize("features", SIZES)
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_gated(ops: CpuOps, reference: ReferenceOps, activation: GatedActivation, features: int, rows: int) -> None:
    parts, norm = [stored(features, 64, seed=seed) for seed in (0, 1)], stored(64)
    x = torch.randn(rows, 64)
    got = ops.norm_gated(x, ops.norm(norm, 1e-5), ops.linear(parts), activation)
    want = reference.norm_gated(x.double(), reference.norm(norm, 1e-5), reference.linear(parts), activation)
    assert float((got - want).norm() / want.norm()) < 1e-6


@pytest.mark.parametrize("activation", PLAIN)
@pytest.mark.parametrize("features", SIZES)
@pytest.mark.parametrize("with_norm", [False, True])
def test_activated(
    ops: CpuOps, reference: ReferenceOps, activation: Activation, features: int, with_norm: bool
) -> None:
    weight, bias, x = stored(features, 64), stored(features), torch.randn(9, 64)

    def of(o: Any, values: torch.Tensor) -> torch.Tensor:
        norm = o.layer_norm(stored(64, seed=2), None, 1e-5) if with_norm else None
        return o.norm_activated(values, norm, o.linear([weight], [bias]), activation)

    got, want = of(ops, x), of(reference, x.double())
    assert float((got - want).norm() / want.norm()) < 1e-6


def test_lesser_instruction_sets_give_the_same_bits(lesser: Target, ops: CpuOps) -> None:
    other = tensor_ops(lesser, 2, cache_dir=ops.cache_dir)
    x = torch.randn(9, 64) * 3
    for activation in GATED:
        one, two = (o.norm_gated(x, None, o.linear([stored(32, 64)]), activation) for o in (ops, other))
        assert torch.equal(one, two)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("width", [16, 50, 64, 200])
def test_layer_norms(ops: CpuOps, reference: ReferenceOps, with_bias: bool, width: int) -> None:
    weight, bias = stored(width), stored(width, seed=3) if with_bias else None
    x = torch.randn(11, width) * 5 + 3
    for kind in ("F32", "BF16"):
        parts = [stored(40, width, seed=1, kind=kind)]
        got = ops.norm_linear(x, ops.layer_norm(weight, bias, 1e-5), ops.linear(parts))
        want = reference.norm_linear(x.double(), reference.layer_norm(weight, bias, 1e-5), reference.linear(parts))
        assert float((got - want).norm() / want.norm()) < 1e-6


def test_without_a_norm_rows_are_multiplied_as_they_are(ops: CpuOps) -> None:
    x, weight = torch.randn(5, 64), stored(48, 64)
    want = F.linear(x, torch.from_numpy(np.asarray(weight.data)))
    assert torch.allclose(ops.norm_linear(x, None, ops.linear([weight])), want, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 6, 40])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.22])
def test_a_product_is_normed_then_added(
    ops: CpuOps, reference: ReferenceOps, rows: int, centred: bool, scale: float
) -> None:
    weight, gains, bias = stored(50, 64), stored(50, seed=2), stored(50, seed=3)
    x, residual = torch.randn(rows, 64), torch.randn(rows, 50)

    def of(o: Any, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        norm = o.layer_norm(gains, bias, 1e-5) if centred else o.norm(gains, 1e-5)
        return o.linear_norm_add(x, o.linear([weight]), norm, residual, scale)

    got, want = of(ops, x, residual.clone()), of(reference, x.double(), residual.double())
    assert float((got - want).norm() / want.norm()) < 1e-6
    last = of(ops, x[-1:].contiguous(), residual[-1:].clone())
    assert torch.equal(last, got[-1:])


@pytest.mark.parametrize("rows", [1, 6, 40])
@pytest.mark.parametrize("width", [96, 48, 24])
def test_norms_are_added_to_a_scaled_stream(ops: CpuOps, reference: ReferenceOps, rows: int, width: int) -> None:
    """A narrow norm is that of each part of a row, and without a stream there is the norm alone, whatever was there."""
    x, residual = torch.randn(rows, 96), torch.randn(rows, 96)

    def of(o: Any, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        return o.norm_add(x, o.norm(stored(width, seed=2), 1e-5), residual, 0.4, 0.3)

    for stream in (residual, None, residual, None):
        got = of(ops, x, None if stream is None else stream.clone())
        want = of(reference, x.double(), None if stream is None else stream.double())
        assert float((got - want).norm() / want.norm()) < 1e-6
        got.fill_(float("nan"))


@pytest.mark.parametrize("features", SIZES)
def test_scaled_sums(ops: CpuOps, reference: ReferenceOps, features: int) -> None:
    weight, bias = stored(features, 64), stored(features)
    x, residual = torch.randn(21, 64), torch.randn(21, features)
    got = ops.linear_add(x, ops.linear([weight], [bias]), residual.clone(), 0.31)
    want = reference.linear_add(x.double(), reference.linear([weight], [bias]), residual.double(), 0.31)
    assert float((got - want).norm() / want.norm()) < 1e-6


@pytest.mark.parametrize("vocabulary", [16, 300])
def test_soft_caps_of_logits(ops: CpuOps, reference: ReferenceOps, vocabulary: int) -> None:
    head, norm, rows = stored(vocabulary, 96), stored(96), np.array([19, 0, 7], dtype=np.int32)
    x = torch.randn(20, 96)
    got = ops.logits(x, rows, ops.norm(norm, 1e-5), ops.linear([head]), 30.0)
    want = reference.logits(x.double(), rows, reference.norm(norm, 1e-5), reference.linear([head]), 30.0)
    assert float((got - want).norm() / want.norm()) < 1e-6
    assert float(got.abs().max()) > 15.0


@pytest.mark.parametrize("width", [64, 40])
def test_scaled_rows_of_an_embedding(ops: CpuOps, reference: ReferenceOps, width: int) -> None:
    """Of a width that compiled code reads, and of another one."""
    table, ids = stored(60, width, kind="BF16"), np.array([3, 59, 0, 3], dtype=np.int32)
    got, want = (o.embed(o.embedding(table, 7.5), ids) for o in (ops, reference))
    assert torch.equal(got, want.float())
