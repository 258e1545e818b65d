"""The gated short convolution of one layer (LFM2, Liquid AI 2025): what it convolves is gated, and so is what comes of
it, by projections of the same input."""

from __future__ import annotations

from stemma.kernels.memory import Memory, Plans
from stemma.kernels.ops import Ops
from stemma.kernels.rows import Rows
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.parts.residual import Addition
from stemma.runtime.model.parts.tensors import columns, take_norm, take_taps
from stemma.runtime.model.weights import WeightSource


class GatedConv:
    """Of a token's projection, in this order: the gates of inputs, the gates of outputs, and the inputs."""

    def __init__(self, config: ModelConfig, layer: int, weights: WeightSource, ops: Ops) -> None:
        conv = config.conv
        assert conv is not None, "a layer of this kind, and nothing that says its sizes"
        self._ops, self._width = ops, config.hidden
        self._layer = config.state_index(layer)
        self._norm = take_norm(config, weights, ops, f"model.layers.{layer}.{config.norms.attention}")
        prefix, hidden = f"model.layers.{layer}.conv.", config.hidden
        biases = [weights.take(f"{prefix}in_proj.bias", 3 * hidden)] if conv.bias else ()
        self._projection = ops.linear([weights.take(f"{prefix}in_proj.weight", 3 * hidden, hidden)], biases)
        bias = weights.take(f"{prefix}conv.bias", hidden) if conv.bias else None
        self._conv = ops.states.conv(take_taps(weights, f"{prefix}conv.weight", hidden, conv.taps), bias)
        self._output = Addition(config, weights, ops, f"{prefix}out_proj", hidden, bias=conv.bias)

    def add(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with what the last few tokens say: (tokens, hidden) -> (tokens, hidden)."""
        states = self._ops.states
        projected = self._ops.norm_linear(x, self._norm, self._projection)
        before, behind, inputs = columns(projected, self._width, self._width, self._width)
        gated = states.gate(inputs, before, "none")
        mixed = states.short_conv(gated, self._conv, "none", memory.states, self._layer, plans.states)
        return self._output.add(states.gate(mixed, behind, "none"), x)
