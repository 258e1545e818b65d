"""Slots and random sequences of one kind of layer on one back end, which tests run in steps of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from stemma.kernels.states import (
    ZEROS,
    DeltaRuleSpec,
    LayerState,
    Mamba2Spec,
    StateMetadata,
    StateShape,
)
from stemma.kernels.weights import StoredWeight

LENGTHS = [1, 3, 20, 41]
NUM_SLOTS = 80
"""One for each token is enough."""


class Part(NamedTuple):
    """One sequence's part of a step: tokens [first, end), of which each of `cuts` ends a piece."""

    sequence: int
    first: int
    end: int
    cuts: tuple[int, ...] = ()


class Case(NamedTuple):
    """A layer: what it keeps, the widths of its inputs, and how it is made and run."""

    state: LayerState
    widths: tuple[int, ...]
    make: Callable[[Any], Any]
    run: Callable[..., torch.Tensor]


def weight_of(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> StoredWeight:
    values = np.random.default_rng(seed).normal(size=shape, scale=scale).astype(np.float32)
    return StoredWeight("F32", shape, values)


def conv_case(channels: int, taps: int, activation: str, *, bias: bool = True) -> Case:
    def make(ops: Any) -> Any:
        return ops.states.conv(weight_of((channels, taps), 1), weight_of((channels,), 2) if bias else None)

    def run(ops: Any, handle: Any, states: Any, plan: Any, x: torch.Tensor) -> torch.Tensor:
        return ops.states.short_conv(x, handle, activation, states, 1, plan)

    return Case(LayerState(conv=(channels, taps - 1)), (channels,), make, run)


def delta_case(spec: DeltaRuleSpec) -> Case:
    def make(ops: Any) -> Any:
        return ops.states.delta_rule(spec, weight_of((spec.value_heads,), 1), weight_of((spec.value_heads,), 2))

    def run(ops: Any, handle: Any, states: Any, plan: Any, *inputs: torch.Tensor) -> torch.Tensor:
        return ops.states.gated_delta(*inputs, handle, states, 1, plan)

    state = LayerState(recurrent=(spec.value_heads, spec.key_dim, spec.value_dim))
    return Case(state, (spec.width, spec.value_heads, spec.value_heads), make, run)


def scan_case(spec: Mamba2Spec) -> Case:
    def make(ops: Any) -> Any:
        return ops.states.mamba2(spec, *(weight_of((spec.heads,), seed) for seed in (1, 2, 3)))

    def run(ops: Any, handle: Any, states: Any, plan: Any, *inputs: torch.Tensor) -> torch.Tensor:
        return ops.states.selective_scan(*inputs, handle, states, 1, plan)

    return Case(LayerState(recurrent=(spec.heads, spec.head_dim, spec.state)), (spec.width, spec.heads), make, run)


class StateWorld:
    """Slots of a model of two layers, of which the second is tried. slots: of each sequence, as far as it went."""

    def __init__(self, ops: Any, case: Case, dtype: torch.dtype) -> None:
        self.ops, self.case, self.dtype = ops, case, dtype
        self.shape = StateShape(NUM_SLOTS, (LayerState(conv=(5, 2)), case.state))
        self.states = ops.states.allocate(self.shape)
        self.handle = case.make(ops)
        self.free = list(np.random.default_rng(3).permutation(NUM_SLOTS))
        self.slots = [ZEROS] * len(LENGTHS)
        self.marks: dict[tuple[int, int], int] = {}  # the slots behind the pieces of a sequence
        random = torch.Generator().manual_seed(0)
        self.rows = [[torch.randn(n, width, generator=random) for width in case.widths] for n in LENGTHS]

    def run(self, parts: Sequence[Part]) -> torch.Tensor:
        """A step. Inputs are columns of one wider product, as layers have them."""
        rows, starts, sources, targets = [0], [0], [], []
        for part in parts:
            at = part.first
            for end in (*part.cuts, part.end):
                sources.append(self.slots[part.sequence])
                targets.append(self.free.pop())
                starts.append(starts[-1] + end - at)
                self.slots[part.sequence] = self.marks[part.sequence, end] = targets[-1]
                at = end
            rows.append(len(targets))
        arrays = (np.array(array, dtype=np.int32) for array in (rows, starts, sources, targets))
        plan = self.ops.states.plan(StateMetadata(*arrays), self.shape)
        wide = [torch.cat([torch.zeros(p.end - p.first, 3), *(r[p.first : p.end] for r in self.rows[p.sequence])], 1)
                for p in parts]  # fmt: skip
        columns = torch.cat(wide).to(self.dtype)
        inputs = torch.split(columns[:, 3:], list(self.case.widths), dim=1)
        return torch.clone(self.case.run(self.ops, self.handle, self.states, plan, *inputs))

    def whole(self) -> torch.Tensor:
        return self.run([Part(i, 0, length) for i, length in enumerate(LENGTHS)])

    def kept(self, sequence: int, end: int) -> bytes:
        """The bytes of the slot behind a piece."""
        return bytes(self.ops.states.read(self.states, [self.marks[sequence, end]]))
