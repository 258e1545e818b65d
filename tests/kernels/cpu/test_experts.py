"""Experts and matrices of heads against the reference: any router, any rows; only what is hit is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.products.pack import MismatchedWeights
from stemma.kernels.experts import ExpertsSpec, SharedExpert
from stemma.kernels.reference import ReferenceOps
from tests.kernels.cpu.test_linear import stored, vector
from tests.kernels.on_tensors import tensor_ops

HIDDEN, INNER, NUMBER = 64, 48, 12
TOLERANCE = {"Q4_0": 1e-3, "Q8_0": 1e-3, "BF16": 3e-6, "F32": 3e-6}
SPECS = [
    ExpertsSpec(4), ExpertsSpec(4, renormalise=True, scaling=2.5), ExpertsSpec(1, "sigmoid"),
    ExpertsSpec(3, "softmax of the chosen", activation="clamped_silu"),
    ExpertsSpec(4, "sigmoid", True, 1.5, 4, 2, "two best"), ExpertsSpec(2, "softmax", False, 1.0, 3, 1, "best", "gelu"),
    ExpertsSpec(12, "sigmoid"), ExpertsSpec(3, "sigmoid", activation="relu2", gated=False),
]  # fmt: skip


def layer(
    ops: Any, spec: ExpertsSpec, kind: str = "F32", biases: bool = False, shared: bool = False, gated: bool = False,
    scales: bool = False,
) -> Any:  # fmt: skip
    def linear(outputs: int, inputs: int, seed: int, parts: int = 1) -> Any:
        weights = [stored(kind, (outputs, inputs), seed + part) for part in range(parts)]
        return ops.linear(weights, [vector(outputs, seed + 7 + part) for part in range(parts)] if biases else ())

    router = ops.linear([stored("F32", (NUMBER, HIDDEN), 5)])
    correction = vector(NUMBER, 9) if spec.score == "sigmoid" else None
    wide = 2 if spec.gated else 1
    gate_up = [linear(INNER, HIDDEN, 100 * e, wide) for e in range(NUMBER)]
    down = [linear(HIDDEN, INNER, 100 * e + 50) for e in range(NUMBER)]
    beside = None
    if shared:
        gate = ops.linear([stored("F32", (1, HIDDEN), 77)]) if gated else None
        beside = SharedExpert(linear(80, HIDDEN, 2000, wide), linear(HIDDEN, 80, 2010), gate)
    return ops.experts(spec, router, correction, gate_up, down, beside, vector(NUMBER, 11) if scales else None)


def run(ops: Any, experts: Any, x: torch.Tensor, scale: float = 1.0, with_norm: bool = True) -> torch.Tensor:
    norm = ops.norm(vector(HIDDEN, 3), 1e-5) if with_norm else None
    return ops.norm_experts_add(x, norm, experts, x.clone(), scale).clone()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_scales_of_experts_and_no_stream(ops: CpuOps, reference: ReferenceOps, spec: ExpertsSpec) -> None:
    x = torch.randn(40, HIDDEN)
    got, want = (
        o.norm_experts_add(rows, o.norm(vector(HIDDEN, 3), 1e-5), layer(o, spec, scales=True), None, 0.7)
        for o, rows in ((ops, x), (reference, x.double()))
    )
    assert float((got - want).norm() / want.norm()) < 2e-6


def error(got: torch.Tensor, want: torch.Tensor, x: torch.Tensor) -> float:
    return float((got.double() - want).norm() / (want - x.double()).norm())


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_equals_the_reference(ops: CpuOps, reference: ReferenceOps, spec: ExpertsSpec, rows: int) -> None:
    x = torch.randn(rows, HIDDEN)
    got, want = run(ops, layer(ops, spec), x, 0.7), run(reference, layer(reference, spec), x.double(), 0.7)
    assert error(got, want, x) < 2e-6


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "BF16"])
@pytest.mark.parametrize("rows", [1, 150])
def test_packed_weights(ops: CpuOps, reference: ReferenceOps, kind: str, rows: int) -> None:
    x = torch.randn(rows, HIDDEN)
    spec = ExpertsSpec(2, renormalise=True)
    got = run(ops, layer_of_blocks(ops, spec, kind), x)
    want = run(reference, layer_of_blocks(reference, spec, kind), x.double())
    assert error(got, want, x) < TOLERANCE[kind]


def layer_of_blocks(ops: Any, spec: ExpertsSpec, kind: str) -> Any:
    """Experts 64 wide, as blocks of 32 want them."""
    router = ops.linear([stored("F32", (NUMBER, HIDDEN), 5)])
    gate_up = [ops.linear([stored(kind, (64, HIDDEN), 9 * e + p) for p in range(2)]) for e in range(NUMBER)]
    return ops.experts(
        spec, router, None, gate_up, [ops.linear([stored(kind, (HIDDEN, 64), e)]) for e in range(NUMBER)]
    )


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("biases", [False, True])
def test_biases_and_a_shared_expert(ops: CpuOps, reference: ReferenceOps, biases: bool, gated: bool) -> None:
    x = torch.randn(9, HIDDEN)
    asked = (ExpertsSpec(3), "F32", biases, True, gated)
    got = run(ops, layer(ops, *asked), x, with_norm=False)
    want = run(reference, layer(reference, *asked), x.double(), with_norm=False)
    assert error(got, want, x) < 2e-6


@pytest.mark.parametrize("kind", ["Q8_0", "F32"])
def test_a_row_does_not_depend_on_its_company(ops: CpuOps, kind: str) -> None:
    """Also across the rows that one call takes."""
    experts = layer_of_blocks(ops, ExpertsSpec(3), kind)
    x = torch.randn(700, HIDDEN)
    whole = run(ops, experts, x)
    for first, last in ((0, 1), (5, 9), (510, 520), (90, 400)):
        assert torch.equal(run(ops, experts, x[first:last].contiguous()), whole[first:last])


def test_only_experts_that_are_hit_are_read(ops: CpuOps) -> None:
    """The addresses of all others may lead nowhere."""
    experts, x = layer(ops, ExpertsSpec(2)), torch.randn(2, HIDDEN)
    want = run(ops, experts, x)
    norm = torch.from_numpy(np.asarray(vector(HIDDEN, 3).data))
    scores = (x * norm) @ torch.from_numpy(np.asarray(stored("F32", (NUMBER, HIDDEN), 5).data)).T
    hit = set(scores.topk(2).indices.flatten().tolist())
    for words in experts.first_words:
        words[[expert for expert in range(NUMBER) if expert not in hit]] = 0
    assert torch.equal(run(ops, experts, x), want)


def test_lesser_instruction_sets_give_the_same_bits(lesser: Target, ops: CpuOps) -> None:
    other, x = tensor_ops(lesser, 2, cache_dir=ops.cache_dir), torch.randn(30, HIDDEN)
    one, two = (run(o, layer_of_blocks(o, ExpertsSpec(3), "Q8_0"), x) for o in (ops, other))
    assert torch.equal(one, two)


@pytest.mark.parametrize("inner", [24, 40])
def test_widths_without_kernels_are_refused(ops: CpuOps, inner: int) -> None:
    gate_up = [ops.linear([stored("F32", (inner, HIDDEN), seed) for seed in (0, 1)])] * 2
    down = [ops.linear([stored("F32", (HIDDEN, inner), 0)])] * 2
    with pytest.raises(MismatchedWeights, match="multiple of 16"):
        ops.experts(ExpertsSpec(1), ops.linear([stored("F32", (2, HIDDEN), 0)]), None, gate_up, down)


@pytest.mark.parametrize("kind", ["F32", "BF16", "Q8_0"])
@pytest.mark.parametrize("rows", [1, 17, 600])
def test_matrices_of_heads(ops: CpuOps, reference: ReferenceOps, kind: str, rows: int) -> None:
    weights = [stored(kind, (40, 64), head) for head in range(5)]
    x = torch.randn(rows, 5 * 64)
    got = ops.multiply_heads(x, ops.head_linear(weights))
    want = reference.multiply_heads(x.double(), reference.head_linear(weights))
    assert float((got - want).norm() / want.norm()) < TOLERANCE[kind]
    alone = got[-1:].clone()
    assert torch.equal(ops.multiply_heads(x[-1:].contiguous(), ops.head_linear(weights)), alone)
