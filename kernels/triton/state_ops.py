"""`TritonStateOps`: the operations of layers with a state on GPUs, over the launches of its neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from stemma.kernels.states import DeltaRuleSpec, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.triton import states as pool
from stemma.kernels.triton.launches import Launcher, run
from stemma.kernels.triton.packing import TritonNorm
from stemma.kernels.triton.state_launches import DeltaInputs, GateActivation, Slots, StateKernels
from stemma.kernels.triton.states import StatePlan, TritonConv, TritonDelta, TritonScan, TritonStates, state_plan
from stemma.kernels.triton.targets import Target
from stemma.kernels.weights import StoredWeight, dequantize


class TritonStateOps:
    """Kernels for the states of one device, float32 whatever activations are. The arguments are those of TritonOps."""

    def __init__(self, device: torch.device, dtype: torch.dtype, target: Target, launch: Launcher = run) -> None:
        self._device = device
        self._kernels = StateKernels(target, dtype, launch)

    def allocate(self, shape: StateShape) -> TritonStates:
        return pool.allocate(shape, self._device)

    def plan(self, metadata: StateMetadata, shape: StateShape) -> StatePlan:
        return state_plan(metadata, self._device)

    def conv(self, weight: StoredWeight, bias: StoredWeight | None) -> TritonConv:
        taps = self._load(weight).t().contiguous()
        return TritonConv(taps, None if bias is None else self._load(bias))

    def delta_rule(self, spec: DeltaRuleSpec, decay: StoredWeight, dt_bias: StoredWeight) -> TritonDelta:
        return TritonDelta(spec, self._load(decay).exp(), self._load(dt_bias))

    def mamba2(
        self, spec: Mamba2Spec, decay: StoredWeight, skip: StoredWeight, dt_bias: StoredWeight
    ) -> TritonScan:  # fmt: skip
        return TritonScan(spec, self._load(decay).exp(), self._load(skip), self._load(dt_bias))

    def _load(self, weight: StoredWeight) -> torch.Tensor:
        return torch.from_numpy(dequantize(weight)).to(self._device, torch.float32)

    # A step -----------------------------------------------------------------------------------------------------------
    def short_conv(
        self, x: torch.Tensor, conv: TritonConv, activation: Literal["silu", "none"], states: TritonStates, layer: int,
        plan: StatePlan,
    ) -> torch.Tensor:  # fmt: skip
        out = x.new_empty(x.shape)
        self._kernels.conv(x, conv, Slots(states.conv[layer], plan), out, silu=activation == "silu")
        return out

    def gated_delta(
        self, qkv: torch.Tensor, beta: torch.Tensor, step: torch.Tensor, rule: TritonDelta, states: TritonStates,
        layer: int, plan: StatePlan,
    ) -> torch.Tensor:  # fmt: skip
        out = qkv.new_empty((len(qkv), rule.spec.value_heads * rule.spec.value_dim))
        self._kernels.delta(DeltaInputs(qkv, beta, step), rule, Slots(states.recurrent[layer], plan), out)
        return out

    def selective_scan(
        self, x: torch.Tensor, step: torch.Tensor, scan: TritonScan, states: TritonStates, layer: int, plan: StatePlan
    ) -> torch.Tensor:
        out = x.new_empty((len(x), scan.spec.heads * scan.spec.head_dim))
        self._kernels.scan(x, step, scan, Slots(states.recurrent[layer], plan), out)
        return out

    def gated_norm(
        self, x: torch.Tensor, gate: torch.Tensor, norm: TritonNorm, groups: int, *, gate_first: bool
    ) -> torch.Tensor:
        """norm: of `TritonOps.norm`."""
        out = x.new_empty(x.shape)
        self._kernels.gated_norm(x, gate, norm, groups, out, gate_first=gate_first)
        return out

    def gate(self, x: torch.Tensor, gate: torch.Tensor, activation: GateActivation) -> torch.Tensor:
        out = x.new_empty(x.shape)
        self._kernels.gate(x, gate, activation, out)
        return out

    # Snapshots --------------------------------------------------------------------------------------------------------
    def read(self, states: TritonStates, slots: Sequence[int]) -> bytes:
        return states.read(slots)

    def write(self, states: TritonStates, slots: Sequence[int], data: bytes) -> None:
        states.write(slots, data)
