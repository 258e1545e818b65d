"""The way back to the residual stream: a projection, scaled or normed, and added."""

from __future__ import annotations

from typing import NamedTuple

from stemma.kernels.ops import Ops
from stemma.kernels.rows import Rows
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.parts.tensors import multiplied, take_norm
from stemma.runtime.model.weights import WeightSource


class Factors(NamedTuple):
    """product: of what is added, beside the family's. whole: of the sum, where there is a norm."""

    product: float = 1.0
    whole: float = 1.0


ONES = Factors()


class Addition:
    """`whole * (residual + scale * norm(linear(x)))`, where the family has such scales, and such a norm."""

    def __init__(
        self, config: ModelConfig, weights: WeightSource, ops: Ops, name: str, width: int, bias: float,
        norm: str | None = None, factors: Factors = ONES,
    ) -> None:  # fmt: skip
        """name: of the projection from `width`. bias: what its bias is multiplied by, 0 where it has none. norm: the
        name of the one behind it."""
        assert norm is not None or factors.whole == 1.0, "a stream that is scaled, and no norm before it"
        self._ops, self._whole = ops, factors.whole
        matrix = weights.take(f"{name}.weight", config.hidden, width)
        biases = [multiplied(weights.take(f"{name}.bias", config.hidden), float(bias))] if bias else ()
        self._linear = ops.linear([matrix], biases)
        self._norm = None if norm is None else take_norm(config, weights, ops, norm)
        self._scale = config.scales.residual * factors.product

    def add(self, x: Rows, residual: Rows) -> Rows:
        """May work in place on `residual`."""
        if self._norm is None:
            return self._ops.linear_add(x, self._linear, residual, self._scale)
        if self._whole == 1.0:
            return self._ops.linear_norm_add(x, self._linear, self._norm, residual, self._scale)
        return self.add_normed(self.product(x), residual)

    def product(self, x: Rows) -> Rows:
        """The projection alone."""
        return self._ops.norm_linear(x, None, self._linear)

    def add_normed(self, product: Rows, residual: Rows) -> Rows:
        """What is left to do behind it."""
        return self._ops.norm_add(product, self._norm, residual, self._scale * self._whole, self._whole)
