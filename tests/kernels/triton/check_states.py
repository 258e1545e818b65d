"""Layers with a state against the reference: pieces, slots, columns of wider products; what is not theirs stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from check_rows import stored
from triton_support import DEVICE, EXACT, FLOATS, TOLERANCE, assert_close, assert_guards, guarded

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.states import ZEROS, DeltaRuleSpec, LayerState, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.state_launches import DeltaInputs, Slots
from stemma.kernels.triton.states import TritonStates

REFERENCE = ReferenceOps(torch.device("cpu"), torch.float64)
NUM_SLOTS = 12
MIXED = ((0, (3, 1, 5)), (ZEROS, (6,)), (2, (1,)), (0, (1, 1)))
"""Sequences: the slot that each begins with, and the tokens of its pieces."""


def pieces_of(sequences: Sequence[tuple[int, Sequence[int]]]) -> StateMetadata:
    """Each piece is written to a slot of its own, from slot 3 on."""
    lengths = [length for _, pieces in sequences for length in pieces]
    targets = np.arange(3, 3 + len(lengths), dtype=np.int32)
    rows = np.cumsum([0, *(len(pieces) for _, pieces in sequences)]).astype(np.int32)
    sources = np.concatenate(([ZEROS], targets[:-1])).astype(np.int32)
    sources[rows[:-1]] = [origin for origin, _ in sequences]
    return StateMetadata(rows, np.cumsum([0, *lengths]).astype(np.int32), sources, targets)


def columns(width: int, *sizes: int, tokens: int, seed: int = 0) -> list[torch.Tensor]:
    """Column slices of one product, in float64, with some columns that are nobody's."""
    generator = torch.Generator().manual_seed(seed)
    product = torch.randn(tokens, width + sum(sizes) + 3, generator=generator, dtype=torch.float64)
    return list(product.split([width, *sizes, 3], dim=1)[1:-1])


def together(parts: Sequence[torch.Tensor], dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    """The same parts as column slices of a product of another type and device."""
    whole = torch.cat(list(parts), dim=1)
    moved = torch.cat((whole[:, :5], whole), dim=1).to(dtype).to(device)
    return list(moved.split([5, *(part.shape[1] for part in parts)], dim=1)[1:])


class Both:
    """The reference in float64 and the kernels, with equal slots."""

    def __init__(self, layer: LayerState, dtype: torch.dtype = EXACT) -> None:
        self.dtype, self.shape = dtype, StateShape(NUM_SLOTS, (layer, layer))
        self.ops = TritonOps(DEVICE, dtype).states
        self.states: TritonStates = self.ops.allocate(self.shape)
        self.expected = REFERENCE.states.allocate(self.shape)
        for mine, theirs in zip((*self.states.conv, *self.states.recurrent), self.tensors_expected, strict=True):
            theirs.normal_(generator=torch.Generator().manual_seed(mine.numel()))
            mine.copy_(theirs)

    @property
    def tensors_expected(self) -> tuple[torch.Tensor, ...]:
        return *self.expected.conv, *self.expected.recurrent

    def compare(self, name: str, inputs: Sequence[torch.Tensor], handles: tuple[Any, Any], metadata: StateMetadata,
                *more: Any) -> torch.Tensor:  # fmt: skip
        """One operation on the second layer: what it returns, the slots it writes, and that it writes no other."""
        rounded = [part.to(self.dtype).double() for part in inputs]
        before = [tensor.clone() for tensor in (*self.states.conv, *self.states.recurrent)]
        want = getattr(REFERENCE.states, name)(
            *rounded, handles[0], *more, self.expected, 1, REFERENCE.states.plan(metadata, self.shape)
        )
        got = getattr(self.ops, name)(
            *together(inputs, self.dtype, DEVICE), handles[1], *more, self.states, 1,
            self.ops.plan(metadata, self.shape),
        )  # fmt: skip
        assert got.dtype == self.dtype
        assert_close(got, want, TOLERANCE[self.dtype])
        untouched = [slot for slot in range(NUM_SLOTS) if slot not in metadata.targets]
        now = (*self.states.conv, *self.states.recurrent)
        for mine, theirs, old in zip(now, self.tensors_expected, before, strict=True):
            if not mine.numel():
                continue
            assert_close(mine, theirs, TOLERANCE[EXACT])
            assert torch.equal(mine[untouched], old[untouched])
        return got


def both_handles(both: Both, name: str, *arguments: Any) -> tuple[Any, Any]:
    return getattr(REFERENCE.states, name)(*arguments), getattr(both.ops, name)(*arguments)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("taps", "channels", "bias"), [(4, 150, False), (3, 32, True), (2, 17, False)])
@pytest.mark.parametrize("activation", ["silu", "none"])
def test_short_convolution(dtype: torch.dtype, taps: int, channels: int, bias: bool, activation: str) -> None:
    both = Both(LayerState((channels, taps - 1)), dtype)
    handles = both_handles(both, "conv", stored("F32", channels, taps), stored("F32", channels) if bias else None)
    metadata = pieces_of(MIXED)
    both.compare("short_conv", columns(2, channels, tokens=18), handles, metadata, activation)


DELTAS = [
    DeltaRuleSpec(2, 4, 16, 32), DeltaRuleSpec(2, 4, 16, 32, "tile"), DeltaRuleSpec(1, 1, 24, 40),
    DeltaRuleSpec(1, 2, 64, 64),
]  # fmt: skip


@pytest.mark.parametrize("spec", DELTAS, ids=str)
def test_delta_rule(spec: DeltaRuleSpec) -> None:
    both = Both(LayerState((0, 0), (spec.value_heads, spec.key_dim, spec.value_dim)))
    weights = stored("F32", spec.value_heads, seed=1), stored("F32", spec.value_heads, seed=2)
    handles = both_handles(both, "delta_rule", spec, *weights)
    inputs = columns(1, spec.width, spec.value_heads, spec.value_heads, tokens=18)
    both.compare("gated_delta", inputs, handles, pieces_of(MIXED))


SCANS = [
    Mamba2Spec(4, 16, 2, 32), Mamba2Spec(2, 24, 1, 20, 0.01, 0.9), Mamba2Spec(1, 64, 1, 64),
]  # fmt: skip


@pytest.mark.parametrize("spec", SCANS, ids=str)
def test_scan(spec: Mamba2Spec) -> None:
    both = Both(LayerState((0, 0), (spec.heads, spec.head_dim, spec.state)))
    weights = [stored("F32", spec.heads, seed=seed) for seed in (1, 2, 3)]
    handles = both_handles(both, "mamba2", spec, *weights)
    both.compare("selective_scan", columns(1, spec.width, spec.heads, tokens=18), handles, pieces_of(MIXED))


@pytest.mark.parametrize("dtype", FLOATS[1:])
def test_recurrences_of_short_types_keep_float32_states(dtype: torch.dtype) -> None:
    spec = DeltaRuleSpec(1, 2, 16, 16)
    both = Both(LayerState((0, 0), (2, 16, 16)), dtype)
    handles = both_handles(both, "delta_rule", spec, stored("F32", 2), stored("F32", 2))
    both.compare("gated_delta", columns(1, spec.width, 2, 2, tokens=3), handles, pieces_of([(1, (2, 1))]))
    scan = Mamba2Spec(2, 16, 1, 16)
    handles = both_handles(both, "mamba2", scan, *[stored("F32", 2, seed=seed) for seed in (1, 2, 3)])
    both.compare("selective_scan", columns(1, scan.width, 2, tokens=3), handles, pieces_of([(1, (2, 1))]))
    assert all(tensor.dtype == torch.float32 for tensor in both.states.recurrent)


CUTS = ((9,), (4, 5), (1,) * 9)


def test_pieces_and_steps_do_not_change_a_bit() -> None:
    """One piece, several, and steps of one token: what a state becomes is the same number."""
    spec, scan = DeltaRuleSpec(1, 2, 16, 16), Mamba2Spec(2, 16, 1, 16)
    ops = TritonOps(DEVICE, EXACT).states
    shape = StateShape(NUM_SLOTS, (LayerState((spec.width, 3), (2, 16, 16)), LayerState((0, 0), (2, 16, 16))))
    conv = ops.conv(stored("F32", spec.width, 4), None)
    rule = ops.delta_rule(spec, stored("F32", 2), stored("F32", 2, seed=1))
    mamba = ops.mamba2(scan, *[stored("F32", 2, seed=seed) for seed in (1, 2, 3)])
    qkv, beta, step, x = (part.to(EXACT).to(DEVICE) for part in columns(0, spec.width, 2, 2, scan.width, tokens=9))

    def ran(states: TritonStates, rows: slice, metadata: StateMetadata) -> torch.Tensor:
        plan = ops.plan(metadata, shape)
        mixed = ops.short_conv(qkv[rows], conv, "silu", states, 0, plan)
        first = ops.gated_delta(mixed, beta[rows], step[rows], rule, states, 0, plan)
        return torch.cat((first, ops.selective_scan(x[rows], step[rows], mamba, states, 1, plan)), dim=1)

    results = []
    for cut in CUTS:
        states = ops.allocate(shape)
        metadata = pieces_of([(ZEROS, cut)])
        results.append((ran(states, slice(0, 9), metadata), ops.read(states, metadata.targets[-1:].tolist())))
    states, parts = ops.allocate(shape), []
    for first, last, source, target in ((0, 2, ZEROS, 1), (2, 8, 1, 2), (8, 9, 2, 3)):
        ends = np.array([0, last - first], dtype=np.int32)
        single = StateMetadata(
            np.array([0, 1], dtype=np.int32), ends, np.array([source], np.int32), np.array([target], np.int32)
        )
        parts.append(ran(states, slice(first, last), single))
    results.append((torch.cat(parts), ops.read(states, [3])))
    for out, state in results[1:]:
        assert torch.equal(out, results[0][0])
        assert state == results[0][1]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("features", "groups", "whole"), [(96, 1, True), (96, 3, False), (1100, 2, True), (40, 5, True)]
)
@pytest.mark.parametrize("gate_first", [False, True])
def test_gated_norm(dtype: torch.dtype, features: int, groups: int, whole: bool, gate_first: bool) -> None:
    ops = TritonOps(DEVICE, dtype)
    weight = stored("F32", features if whole else features // groups)
    x, gate = columns(1, features, features, tokens=3)
    want = REFERENCE.states.gated_norm(
        x.to(dtype).double(), gate.to(dtype).double(), REFERENCE.norm(weight, 1e-5), groups, gate_first=gate_first
    )
    mine = together([x, gate], dtype, DEVICE)
    got = ops.states.gated_norm(mine[0], mine[1], ops.norm(weight, 1e-5), groups, gate_first=gate_first)
    assert got.dtype == dtype
    assert_close(got, want, TOLERANCE[dtype])


@pytest.mark.parametrize("activation", ["none", "sigmoid", "silu"])
def test_gate(activation: Literal["none", "sigmoid", "silu"]) -> None:
    ops = TritonOps(DEVICE, EXACT).states
    x, gate = columns(1, 1030, 1030, tokens=3)
    want = REFERENCE.states.gate(x.to(EXACT).double(), gate.to(EXACT).double(), activation)
    assert_close(ops.gate(*together([x, gate], EXACT, DEVICE), activation), want, TOLERANCE[EXACT])


def guarded_states(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    states, whole = guarded(size, torch.float32)
    states.zero_()
    return states, whole


def test_outputs_and_slots_are_all_that_is_written() -> None:
    ops = TritonOps(DEVICE, EXACT).states
    spec, scan = DeltaRuleSpec(1, 2, 24, 20), Mamba2Spec(2, 20, 1, 24)
    plan = ops.plan(pieces_of([(0, (1, 1)), (ZEROS, (1,))]), StateShape(6, ()))
    qkv, beta, x, gate = (part.to(EXACT).to(DEVICE) for part in columns(0, spec.width, 2, scan.width, 40, tokens=3))
    conv = ops.conv(stored("F32", spec.width, 4), None)
    rule = ops.delta_rule(spec, stored("F32", 2), stored("F32", 2))
    mamba = ops.mamba2(scan, *[stored("F32", 2)] * 3)
    norm = TritonOps(DEVICE, EXACT).norm(stored("F32", 8), 1e-5)
    inputs = DeltaInputs(qkv, beta, beta)
    runs = [
        ((6, 3, spec.width), spec.width, lambda s, out: ops._kernels.conv(qkv, conv, Slots(s, plan), out, silu=True)),
        ((6, 2, 24, 20), 40, lambda s, out: ops._kernels.delta(inputs, rule, Slots(s, plan), out)),
        ((6, 2, 20, 24), 40, lambda s, out: ops._kernels.scan(x, beta, mamba, Slots(s, plan), out)),
        ((1,), 40, lambda _, out: ops._kernels.gated_norm(gate, gate, norm, 5, out, gate_first=True)),
        ((1,), 40, lambda _, out: ops._kernels.gate(gate, gate, "silu", out)),
    ]  # fmt: skip
    for size, width, launch in runs:
        states, around = guarded_states(*size)
        out, whole = guarded((3, width), EXACT)
        out.fill_(torch.nan)
        launch(states, out)
        assert_guards(whole)
        assert_guards(around)
        assert torch.isfinite(out).all()


def test_slots_come_back_in_other_pools() -> None:
    ops = TritonOps(DEVICE, EXACT).states
    shape = StateShape(5, (LayerState((7, 3), (2, 4, 8)), LayerState((6, 2))))
    first, second = ops.allocate(shape), ops.allocate(shape)
    for tensor in (*first.conv, *first.recurrent):
        tensor.normal_()
    data = ops.read(first, [4, 1])
    assert len(data) == 2 * shape.slot_bytes
    ops.write(second, [0, 3], data)
    for mine, theirs in zip((*first.conv, *first.recurrent), (*second.conv, *second.recurrent), strict=True):
        assert torch.equal(mine[[4, 1]], theirs[[0, 3]])
        assert not theirs[[1, 2, 4]].any()
    assert ops.read(first, []) == b""
    ops.write(first, [], b"")
    with pytest.raises(ValueError, match="another model's"):
        ops.write(second, [0], data)
