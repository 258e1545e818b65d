"""A Mamba-2 layer (Dao and Gu 2024, section 7): one projection, a short convolution, the scan, a gate with its norm,
and the way back to the residual stream.

    projected   |  gate  |  inputs  |  B  |  C  |  time steps  |
                         |----- convolution ----|
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemma.kernels.memory import Memory, Plans
from stemma.kernels.ops import Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import Mamba, ModelConfig
from stemma.runtime.model.parts.residual import Addition, Factors
from stemma.runtime.model.parts.tensors import divided, multiplied, take_norm, take_taps
from stemma.runtime.model.weights import WeightSource


class MambaMixer:
    """Two steps, because where attention stands beside it both read the same."""

    def __init__(self, config: ModelConfig, mamba: Mamba, layer: int, weights: WeightSource, ops: Ops) -> None:
        self._ops, self._layer, spec = ops, config.state_index(layer), mamba.spec
        self._wide, self._width, self._groups = spec.heads * spec.head_dim, spec.width, spec.groups
        prefix, before = f"model.layers.{layer}.{mamba.place}.", config.norms.attention
        # The gate's scale goes into the norm, that of what is convolved into the convolution, and only the few rows
        # of time steps are multiplied: large matrices stay as they are stored.
        scale = mamba.scales.read * mamba.scales.gate
        self._norm = take_norm(config, weights, ops, f"model.layers.{layer}.{before}", scale=scale)
        self._projection = ops.linear(*_projection(config, mamba, weights, prefix))
        self._conv = ops.states.conv(*_convolution(mamba, weights, prefix))
        names = (f"{prefix}A_log", f"{prefix}D", f"{prefix}dt_bias")
        self._scan = ops.states.mamba2(spec, *(weights.take(name, spec.heads) for name in names))
        self._gate_first, self._inner_norm = mamba.norm == "gate first", None
        if mamba.norm is not None:
            self._inner_norm = take_norm(config, weights, ops, f"{prefix}norm", self._wide)
        self._output = Addition(
            config, weights, ops, f"{prefix}out_proj", self._wide, mamba.output_bias,
            factors=Factors(mamba.scales.added),
        )  # fmt: skip

    def inner(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """What the heads say of the residual stream, with its gate: (tokens, hidden) -> (tokens, heads * head_dim)."""
        ops, states, plan, layer = self._ops.states, memory.states, plans.states, self._layer
        projected = self._ops.norm_linear(x, self._norm, self._projection)
        steps = projected[:, self._wide + self._width :]
        convolved = ops.short_conv(
            projected[:, self._wide : self._wide + self._width], self._conv, "silu", states, layer, plan
        )
        y, gate = ops.selective_scan(convolved, steps, self._scan, states, layer, plan), projected[:, : self._wide]
        if self._inner_norm is None:
            return ops.gate(y, gate, "silu")
        return ops.gated_norm(y, gate, self._inner_norm, self._groups, gate_first=self._gate_first)

    def add_inner(self, inner: Rows, x: Rows) -> Rows:
        """The residual stream with what `inner` says."""
        return self._output.add(inner, x)

    def add(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """Both steps on one stream."""
        return self.add_inner(self.inner(x, memory, plans), x)


def _projection(
    config: ModelConfig, mamba: Mamba, weights: WeightSource, prefix: str
) -> tuple[list[StoredWeight], list[StoredWeight]]:  # fmt: skip
    """The one matrix, in two parts where time steps have a scale of their own, and its biases."""
    spec, scales = mamba.spec, mamba.scales
    sizes = [spec.heads * spec.head_dim + spec.width, spec.heads]
    matrices = [weights.take(f"{prefix}in_proj.weight", sum(sizes), config.hidden)]
    if scales.steps != scales.gate:
        others, steps = divided(matrices[0], sizes)
        matrices = [others, multiplied(steps, scales.steps / scales.gate)]
    if not mamba.bias:
        return matrices, []
    others, steps = divided(weights.take(f"{prefix}in_proj.bias", sum(sizes)), sizes)
    return matrices, [multiplied(others, scales.gate), multiplied(steps, scales.steps)]


def _convolution(mamba: Mamba, weights: WeightSource, prefix: str) -> tuple[StoredWeight, StoredWeight | None]:
    """Its weight (channels, taps), with the scales of what is convolved over the gate's; and its bias."""
    spec, scales = mamba.spec, mamba.scales
    weight = take_taps(weights, f"{prefix}conv1d.weight", spec.width, mamba.taps)
    factors = [scales.inputs / scales.gate, scales.b / scales.gate, scales.c / scales.gate]
    if factors != [1.0, 1.0, 1.0]:
        sizes = [spec.heads * spec.head_dim, *[spec.groups * spec.state] * 2]
        parts = [part.times(factor) for part, factor in zip(divided(weight, sizes), factors, strict=True)]
        weight = replace(parts[0], shape=weight.shape, data=np.concatenate([part.data for part in parts]))
    return weight, weights.take(f"{prefix}conv1d.bias", spec.width) if mamba.conv_bias else None
