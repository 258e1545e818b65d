"""Mixtures of experts: who is chosen, how entries are sorted, products of all experts; and nobody waits for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from check_rows import stored
from torch.utils._python_dispatch import TorchDispatchMode
from triton_support import DEVICE, EXACT, TOLERANCE, assert_close

from stemma.kernels.experts import ExpertsSpec, SharedExpert
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.reference_experts import expert_weights
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.stacking import group

REFERENCE = ReferenceOps(torch.device("cpu"), torch.float64)
SPECS = [
    ExpertsSpec(1), ExpertsSpec(8, renormalise=True), ExpertsSpec(5, "softmax of the chosen", scaling=0.5),
    ExpertsSpec(4, "sigmoid", True, 2.5, 4, 2, "two best"), ExpertsSpec(3, "softmax", False, 16.0, 4, 1),
    ExpertsSpec(3, "sigmoid", groups=3, top_groups=2),
]  # fmt: skip
WAITING = ("item", "_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "is_nonzero")


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("num_experts", [12, 60])
def test_the_chosen_and_their_weights_are_the_references(spec: ExpertsSpec, num_experts: int) -> None:
    if num_experts % spec.groups or num_experts // spec.groups * spec.top_groups < spec.top_k:
        pytest.skip("no such mixture")
    outputs = torch.randn(9, num_experts)
    outputs[3] = outputs[3].round()  # equal ones
    outputs[4] = 0.0
    correction = torch.rand(num_experts).round(decimals=1) if spec.score == "sigmoid" else None
    scales = torch.rand(num_experts) if spec.score == "softmax" else None
    given = [None if each is None else each.to(DEVICE) for each in (outputs, correction, scales)]
    chosen, weights = TritonOps(DEVICE, EXACT)._products.choose(spec, *given)
    assert all(len(set(row)) == spec.top_k for row in chosen.tolist())
    got = torch.zeros(9, num_experts).scatter(1, chosen.cpu().long(), weights.cpu())
    expected = expert_weights(spec, outputs, correction)
    assert_close(got, expected if scales is None else expected * scales, 1e-6)
    assert torch.equal(got != 0, expected != 0)


def test_rows_of_no_numbers_choose_experts_that_exist() -> None:
    """What stands in rows beyond a step's own may be anything, and must not be read as a place."""
    outputs = torch.full((3, 12), float("nan"))
    outputs[1] = float("-inf")
    outputs[2, ::2] = 1.0
    chosen, _ = TritonOps(DEVICE, EXACT)._products.choose(ExpertsSpec(3), outputs.to(DEVICE), None, None)
    assert 0 <= chosen.min() <= chosen.max() < 12


@pytest.mark.parametrize("chosen", [[[0]], [[5, 2], [2, 7], [5, 2]], "one", "random", "many"], ids=str)
def test_entries_are_sorted_and_cut_into_tiles(chosen: Any) -> None:
    random = np.random.default_rng(0)
    if isinstance(chosen, str):
        chosen = {"one": np.full((150, 2), 3), "random": random.integers(0, 9, (40, 3)),
                  "many": random.integers(0, 9, (400, 3))}[chosen]  # fmt: skip
    flat = np.asarray(chosen, dtype=np.int32)
    groups = TritonOps(DEVICE, EXACT)._products.sort_entries(torch.from_numpy(flat).to(DEVICE), 9)
    assert groups.order.tolist() == np.argsort(flat.reshape(-1), kind="stable").tolist()
    full = [tile for tile in groups.tiles.tolist() if tile[2]]
    assert groups.tiles[len(full) :, 2].tolist() == [0] * (len(groups.tiles) - len(full))
    places = [(expert, place) for expert, first, count in full for place in range(first, first + count)]
    assert places == [(int(expert), place) for place, expert in enumerate(np.sort(flat.reshape(-1)))]
    assert all(count <= groups.rows for _, _, count in full)


def mixture(ops: Any, spec: ExpertsSpec, kinds: tuple[str, str], shared: bool, gated: bool) -> Any:
    def linear(kind: str, out: int, inputs: int, seed: int, bias: bool = False) -> Any:
        return ops.linear([stored(kind, out, inputs, seed=seed)], [stored("F32", out, seed=seed)] if bias else ())

    beside = None
    if shared:
        gate = linear("F32", 1, 64, 92) if gated else None
        beside = SharedExpert(linear("F32", 96, 64, 90), linear("F32", 64, 48, 91), gate)
    both = [linear(kinds[seed % 2], 64, 64, seed, True) for seed in range(6)]
    back = [linear(kinds[0], 64, 32, 20 + seed, True) for seed in range(6)]
    return ops.experts(spec, linear("F32", 6, 64, 95), None, both, back, beside)


@pytest.mark.parametrize(
    "kinds",
    [("Q4_0", "Q4_0"), ("Q4_1", "Q4_1"), ("Q8_0", "Q8_0"), ("BF16", "F32"), ("Q4_0", "Q8_0"), ("Q4_1", "F32")],
)
@pytest.mark.parametrize(("rows", "shared", "gated"), [(1, False, False), (70, True, True), (9, True, False)])
def test_experts_in_every_format(kinds: tuple[str, str], rows: int, shared: bool, gated: bool) -> None:
    x, spec, ops = torch.randn(rows, 64).to(EXACT), ExpertsSpec(2, renormalise=True), TritonOps(DEVICE, EXACT)
    expected = REFERENCE.norm_experts_add(
        x.double(), None, mixture(REFERENCE, spec, kinds, shared, gated), x.double(), 0.5
    )
    actual = ops.norm_experts_add(
        x.to(DEVICE), None, mixture(ops, spec, kinds, shared, gated), x.to(DEVICE, copy=True), 0.5
    )
    assert_close(actual, expected, 4 * TOLERANCE[EXACT])


def test_matrices_stay_as_they_are_and_those_of_a_layout_lie_together() -> None:
    ops = TritonOps(DEVICE, EXACT)
    kinds = ("Q4_0", "Q8_0", "F32", "Q4_1", "Q8_0", "F32", "Q4_0")
    linears = [ops.linear([stored(kind, 8, 64, seed=seed)]) for seed, kind in enumerate(kinds)]
    grouped = group(linears, EXACT)
    assert [(each.format, each.minima is not None, len(each.weights)) for each in grouped] == [
        ("four bits", False, 2), ("bytes", False, 2), ("dense", False, 2), ("four bits", True, 1),
    ]  # fmt: skip
    places = [each.places.tolist() for each in grouped if each.places is not None]
    assert places == [
        [0, -1, -1, -1, -1, -1, 1], [-1, 0, -1, -1, 1, -1, -1], [-1, -1, 0, -1, -1, 1, -1], [-1, -1, -1, 0, -1, -1, -1]
    ]  # fmt: skip
    together = sum(each.weights.nbytes + (0 if each.scales is None else each.scales.nbytes) for each in grouped)
    assert together == sum(
        each.weight.nbytes if hasattr(each, "weight") else each.codes.nbytes + each.scales.nbytes for each in linears
    )
    (alone,) = group([linears[0], linears[6]], EXACT)
    assert (alone.format, alone.places) == ("four bits", None)


class Seen(TorchDispatchMode):
    """The names of torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_the_host_waits_for_no_expert() -> None:
    launches: list[str] = []

    def count(kernel: Any, *_: Any) -> None:
        launches.append(kernel.__name__)

    ops = TritonOps(DEVICE, EXACT, launch=count)
    experts = mixture(ops, ExpertsSpec(2), ("Q4_0", "Q4_0"), False, False)
    with Seen() as seen:
        ops.norm_experts_add(torch.randn(5, 64).to(DEVICE, EXACT), ops.norm(stored("F32", 64), 1e-5), experts, None)
    assert set(seen.names).isdisjoint(WAITING)
    assert launches == [
        "norm_kernel", "choose_experts_kernel", "sort_entries_kernel", "grouped_linear_kernel", "gated_kernel",
        "grouped_linear_kernel", "sum_experts_kernel",
    ]  # fmt: skip
