"""The way back to the residual stream: a projection, scaled or normed, and added."""

from __future__ import annotations

import torch

from stemma.kernels.ops import Ops
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.parts.tensors import take_norm
from stemma.runtime.model.weights import WeightSource


class Addition:
    """`residual + scale * norm(linear(x))`, where the family has such a scale, and such a norm."""

    def __init__(
        self, config: ModelConfig, weights: WeightSource, ops: Ops, name: str, width: int, bias: bool,
        norm: str | None,
    ) -> None:  # fmt: skip
        """name: of the projection from `width`. norm: the name of the one behind it."""
        self._ops = ops
        matrix = weights.take(f"{name}.weight", config.hidden, width)
        self._linear = ops.linear([matrix], [weights.take(f"{name}.bias", config.hidden)] if bias else ())
        self._norm = None if norm is None else take_norm(config, weights, ops, norm)
        self._scale = config.scales.residual

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """May work in place on `residual`."""
        if self._norm is None:
            return self._ops.linear_add(x, self._linear, residual, self._scale)
        return self._ops.linear_norm_add(x, self._linear, self._norm, residual, self._scale)
