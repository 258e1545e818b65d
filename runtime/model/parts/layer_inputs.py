"""What each token gives to each layer beside the stream (Gemma 3n, 4): rows of a second table, one part a layer, with a
projection of the token's embedding added."""

from __future__ import annotations

import math
from typing import Any

from stemma.kernels.ops import Int32Array, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import LayerInputs, ModelConfig
from stemma.runtime.model.parts.residual import Addition, Factors
from stemma.runtime.model.weights import WeightSource

HALF = 2.0**-0.5
"""Of each of the two, so that their sum is as large as one of them."""


class InputTable:
    """Those of all layers, read once a step."""

    def __init__(self, config: ModelConfig, inputs: LayerInputs, weights: WeightSource, ops: Ops) -> None:
        width = config.num_layers * inputs.size
        table = weights.take("model.embed_tokens_per_layer.weight", inputs.vocab_size, width)
        self._ops, self._table = ops, ops.embedding(table, math.sqrt(inputs.size) * HALF)
        self._projection = ops.linear([weights.take("model.per_layer_model_projection.weight", width, config.hidden)])
        norm = weights.take("model.per_layer_projection_norm.weight", inputs.size)
        # Projections are divided by sqrt(hidden) before the norm, which leaves nothing of it but in the epsilon.
        self._norm = ops.norm(norm.times(HALF), config.norm_epsilon * config.hidden)

    def read(self, ids: Int32Array, x: Rows) -> Rows:
        """x: (tokens, hidden), the embeddings -> (tokens, layers * size)."""
        found = self._ops.embed(self._table, ids)
        return self._ops.norm_add(self._ops.norm_linear(x, None, self._projection), self._norm, found)


class LayerInput:
    """What one layer makes of its part."""

    def __init__(
        self, config: ModelConfig, inputs: LayerInputs, layer: int, weights: WeightSource, ops: Ops, whole: float
    ) -> None:  # fmt: skip
        """whole: what the stream is multiplied by behind it."""
        self._ops, self._part = ops, slice(layer * inputs.size, (layer + 1) * inputs.size)
        self._activation, prefix = config.mlp.activation, f"model.layers.{layer}."
        gate: StoredWeight = weights.take(f"{prefix}per_layer_input_gate.weight", inputs.size, config.hidden)
        self._gate: Any = ops.linear([gate])
        self._output = Addition(
            config, weights, ops, f"{prefix}per_layer_projection", inputs.size, 0.0,
            norm=f"{prefix}post_per_layer_input_norm", factors=Factors(whole=whole),
        )  # fmt: skip

    def add(self, x: Rows, inputs: Rows) -> Rows:
        """The stream with it. inputs: of all layers."""
        gate = self._ops.norm_activated(x, None, self._gate, self._activation)
        return self._output.add(self._ops.states.gate(gate, inputs[:, self._part], "none"), x)
