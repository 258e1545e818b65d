"""The MLP of one layer, with a gate (Shazeer 2020) or without."""

from __future__ import annotations

from typing import Any

from stemma.kernels.ops import Ops
from stemma.kernels.rows import Rows
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.parts.residual import Addition, Factors
from stemma.runtime.model.parts.tensors import multiplied, take_divided
from stemma.runtime.model.weights import WeightSource


class DenseMLP:
    """Two steps, because a parallel block reads the residual stream before the attention adds to it."""

    def __init__(
        self, config: ModelConfig, layer: int, weights: WeightSource, ops: Ops, norm: Any, whole: float = 1.0
    ) -> None:
        """norm: with the gate's scale in it, by which the ups grow too: what comes behind them is divided by it. whole:
        what the stream is multiplied by behind it."""
        self._ops, self._norm = ops, norm
        mlp, inner = config.mlp, config.layer(layer).intermediate or config.intermediate
        self._activation, self._gated = mlp.activation, mlp.gate is not None
        prefix = f"model.layers.{layer}.{mlp.place}."
        names = [name for name in (mlp.gate, mlp.up) if name is not None]

        def take(kind: str, *columns: int) -> list[Any]:
            whole = [f"{prefix}{name}.{kind}" for name in names]
            return take_divided(weights, f"{prefix}{mlp.gate_up}.{kind}", whole, [inner] * len(names), *columns)

        biases = take("bias") if mlp.bias else []
        self._up = ops.linear(take("weight", config.hidden), [multiplied(bias, mlp.gate_scale) for bias in biases])
        behind = config.norms.behind_mlp
        self.down = Addition(
            config, weights, ops, prefix + mlp.down, inner, mlp.bias * mlp.gate_scale,
            norm=None if behind is None else f"model.layers.{layer}.{behind}",
            factors=Factors(mlp.added / mlp.gate_scale, whole),
        )  # fmt: skip

    def inner(self, x: Rows) -> Rows:
        """(tokens, hidden) -> (tokens, intermediate)."""
        if self._gated:
            return self._ops.norm_gated(x, self._norm, self._up, self._activation)
        return self._ops.norm_activated(x, self._norm, self._up, self._activation)

    def add_inner(self, inner: Rows, x: Rows) -> Rows:
        """The residual stream with what `inner` says."""
        return self.down.add(inner, x)

    def add(self, x: Rows) -> Rows:
        """Both steps on one stream."""
        return self.add_inner(self.inner(x), x)
