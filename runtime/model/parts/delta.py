"""The gated delta rule of one layer (Yang et al. 2024): projections, a short convolution, the rule, a gated norm, and
the way back to the residual stream."""

from __future__ import annotations

import numpy as np

from stemma.kernels.memory import Memory, Plans
from stemma.kernels.ops import Ops
from stemma.kernels.rows import Rows
from stemma.kernels.states import DeltaRuleSpec
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.parts.residual import Addition
from stemma.runtime.model.parts.tensors import columns, take_norm, take_taps
from stemma.runtime.model.weights import WeightSource


class GatedDelta:
    """Of a token's projection, in this order:

    | queries | keys | values | gates     | beta      | step      |
    |<---- convolution ------>| of values | of a head | of a head |
    """

    def __init__(self, config: ModelConfig, layer: int, weights: WeightSource, ops: Ops) -> None:
        delta = config.delta
        assert delta is not None, "a layer of this kind, and nothing that says its sizes"
        self._ops, self._rule_spec = ops, delta.spec
        self._layer = config.state_index(layer)
        self._norm = take_norm(config, weights, ops, f"model.layers.{layer}.{config.norms.attention}")
        spec, prefix = delta.spec, f"model.layers.{layer}.linear_attn."
        self._projection = ops.linear(_projections(config, spec, weights, prefix))
        self._conv = ops.states.conv(take_taps(weights, f"{prefix}conv1d.weight", spec.width, delta.taps), None)
        decay, dt_bias = (weights.take(prefix + name, spec.value_heads) for name in ("A_log", "dt_bias"))
        self._rule = ops.states.delta_rule(spec, decay, dt_bias)
        self._gated_norm = ops.norm(weights.take(f"{prefix}norm.weight", spec.value_dim), config.norm_epsilon)
        width = spec.value_heads * spec.value_dim
        self._output = Addition(config, weights, ops, f"{prefix}out_proj", width, bias=False)

    def add(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with what the states say: (tokens, hidden) -> (tokens, hidden)."""
        heads, dim = self._rule_spec.value_heads, self._rule_spec.value_dim
        place = memory.states, self._layer, plans.states
        projected = self._ops.norm_linear(x, self._norm, self._projection)
        inputs, gates, beta, step = columns(projected, self._rule_spec.width, heads * dim, heads, heads)
        qkv = self._ops.states.short_conv(inputs, self._conv, "silu", *place)
        said = self._ops.states.gated_delta(qkv, beta, step, self._rule, *place)
        normed = self._ops.states.gated_norm(said, gates, self._gated_norm, heads, gate_first=False)
        return self._output.add(normed, x)


def _projections(config: ModelConfig, spec: DeltaRuleSpec, weights: WeightSource, prefix: str) -> list[StoredWeight]:
    """Matrices of their own, or two that have the rows of each key head, and of its value heads, together."""
    values, group, hidden = spec.value_heads * spec.value_dim, spec.value_heads // spec.key_heads, config.hidden
    if weights.has(f"{prefix}in_proj_qkvz.weight"):
        whole = weights.take(f"{prefix}in_proj_qkvz.weight", spec.width + values, hidden)
        found = _by_kind(whole, spec, (spec.key_dim, spec.key_dim, group * spec.value_dim, group * spec.value_dim))
    else:
        sizes = {"in_proj_qkv": spec.width, "in_proj_z": values}
        found = [weights.take(f"{prefix}{name}.weight", size, hidden) for name, size in sizes.items()]
    if weights.has(f"{prefix}in_proj_ba.weight"):
        both = weights.take(f"{prefix}in_proj_ba.weight", 2 * spec.value_heads, hidden)
        return found + _by_kind(both, spec, (group, group))
    return found + [weights.take(f"{prefix}in_proj_{name}.weight", spec.value_heads, hidden) for name in "ba"]


def _by_kind(weight: StoredWeight, spec: DeltaRuleSpec, sizes: tuple[int, ...]) -> list[StoredWeight]:
    """sizes: rows of each kind, of one key head."""
    rows = np.arange(weight.shape[0]).reshape(spec.key_heads, -1)
    return [weight.rows(part.reshape(-1)) for part in np.split(rows, np.cumsum(sizes)[:-1], axis=1)]
