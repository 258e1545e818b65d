"""A mixture of experts in place of one layer's MLP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.experts import SharedExpert
from stemma.kernels.ops import Linear, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import Experts, ModelConfig
from stemma.runtime.model.parts.tensors import divided
from stemma.runtime.model.weights import WeightSource


class ExpertMLP:
    """Each token's experts, and one that all tokens share where the family has it."""

    def __init__(
        self, config: ModelConfig, experts: Experts, layer: int, weights: WeightSource, ops: Ops, norm: Any,
        reads: npt.NDArray[np.float32] | None = None,
    ) -> None:  # fmt: skip
        """reads: (hidden,), what the router's inputs are multiplied by beside the experts'."""
        self._ops, self._norm, self._scale = ops, norm, config.scales.residual
        prefix = f"model.layers.{layer}.{experts.place}."
        router = f"{prefix}{experts.router}"
        bias = [weights.take(f"{router}.bias", experts.count)] if experts.bias else ()
        chooser = weights.take(f"{router}.weight", experts.count, config.hidden)
        correction = f"{router}.e_score_correction_bias"
        gate_up, down = _matrices(config, experts, weights, ops, f"{prefix}experts")
        self._experts = ops.experts(
            experts.spec,
            ops.linear([chooser if reads is None else chooser.times(reads)], bias, exact=True),
            weights.take(correction, experts.count) if experts.correction else None,
            gate_up,
            down,
            _shared(config, experts, weights, ops, prefix),
            weights.take(f"{router}.scales", experts.count) if experts.beside else None,
        )

    def alone(self, x: Rows) -> Rows:
        """What the experts say."""
        return self._ops.norm_experts_add(x, self._norm, self._experts, None, self._scale)

    def add(self, x: Rows) -> Rows:
        """The residual stream with what the experts say."""
        return self._ops.norm_experts_add(x, self._norm, self._experts, x, self._scale)


def _matrices(
    config: ModelConfig, experts: Experts, weights: WeightSource, ops: Ops, prefix: str
) -> tuple[list[Linear], list[Linear]]:  # fmt: skip
    """Of all experts: gate and up as one, and down."""
    hidden, inner = config.hidden, experts.intermediate

    def take(name: str, *shape: int) -> list[tuple[StoredWeight, StoredWeight | None]]:
        matrices = _stacked(weights, prefix, f"{name}.weight", experts.count, *shape)
        biases = _stacked(weights, prefix, f"{name}.bias", experts.count, shape[0]) if experts.bias else ()
        return [(matrix, biases[index] if biases else None) for index, matrix in enumerate(matrices)]

    def linear(*parts: tuple[StoredWeight, StoredWeight | None]) -> Linear:
        biases = [bias for _, bias in parts if bias is not None]
        return ops.linear([matrix for matrix, _ in parts], biases)

    if weights.has(f"{prefix}.gate_up_proj.weight"):
        both = _stacked(weights, prefix, "gate_up_proj.weight", experts.count, 2 * inner, hidden)
        gate_up = [ops.linear(divided(whole, (inner, inner))) for whole in both]
    else:
        wide = [take(name, inner, hidden) for name in (experts.gate, experts.up) if name is not None]
        gate_up = [linear(*parts) for parts in zip(*wide, strict=True)]
    return gate_up, [linear(down) for down in take(experts.down, hidden, inner)]


def _stacked(weights: WeightSource, prefix: str, name: str, count: int, *shape: int) -> list[StoredWeight]:
    """A tensor of each expert: each by itself in the files, or all in one."""
    if not weights.has(f"{prefix}.{name}"):
        return [weights.take(f"{prefix}.{index}.{name}", *shape) for index in range(count)]
    whole = weights.take(f"{prefix}.{name}", count, *shape)
    return [replace(whole, shape=shape, data=whole.data[index]) for index in range(count)]


def _shared(config: ModelConfig, experts: Experts, weights: WeightSource, ops: Ops, prefix: str) -> SharedExpert | None:
    if experts.shared is None:
        return None
    hidden, inner = config.hidden, experts.shared_intermediate
    names = ("up",) if experts.gate is None else ("gate", "up")
    gate_up = [weights.take(f"{prefix}{experts.shared}.{name}_proj.weight", inner, hidden) for name in names]
    down = weights.take(f"{prefix}{experts.shared}.down_proj.weight", hidden, inner)
    gate = None
    if experts.shared_gate:
        gate = ops.linear([weights.take(f"{prefix}{experts.shared_gate}.weight", 1, hidden)], exact=True)
    return SharedExpert(ops.linear(gate_up), ops.linear([down]), gate)
