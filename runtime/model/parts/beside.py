"""An MLP with experts beside it (Gemma 4): both read the stream, each has a norm behind it, and so has their sum.

    stream ---> norm ---> MLP ------> norm --- + --> norm --> added to the stream
            `-> norm ---> experts --> norm ---`
            `-> the same without its weight, times a scale of its own / sqrt(hidden) ---> router

The router's scale is in its matrix, divided by the weight of the experts' norm, by which its inputs are larger.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.ops import Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import dequantize
from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.config import Experts, ModelConfig
from stemma.runtime.model.parts.experts import ExpertMLP
from stemma.runtime.model.parts.mlp import DenseMLP
from stemma.runtime.model.parts.tensors import take_norm
from stemma.runtime.model.weights import WeightSource

BEFORE, BEHIND_MLP, BEHIND = (
    "pre_feedforward_layernorm_2",
    "post_feedforward_layernorm_1",
    "post_feedforward_layernorm_2",
)


class MLPAndExperts:
    """Stands where `DenseMLP` does."""

    def __init__(
        self, config: ModelConfig, experts: Experts, layer: int, weights: WeightSource, ops: Ops, norm: Any,
        whole: float,
    ) -> None:  # fmt: skip
        """norm: before the MLP. whole: what the stream is multiplied by behind it."""
        self._ops = ops
        self._mlp = DenseMLP(config, layer, weights, ops, norm, whole)
        prefix = f"model.layers.{layer}."
        before, self._behind_mlp, self._behind = (
            take_norm(config, weights, ops, f"{prefix}{name}") for name in (BEFORE, BEHIND_MLP, BEHIND)
        )
        reads = _router_scale(config, experts, prefix, weights)
        self._experts = ExpertMLP(config, experts, layer, weights, ops, before, reads)

    def add(self, x: Rows) -> Rows:
        """The residual stream with what both say."""
        ops, down = self._ops, self._mlp.down
        total = ops.norm_add(down.product(self._mlp.inner(x)), self._behind_mlp, None)
        total = ops.norm_add(self._experts.alone(x), self._behind, total)
        return down.add_normed(total, x)


def _router_scale(
    config: ModelConfig, experts: Experts, prefix: str, weights: WeightSource
) -> npt.NDArray[np.float32]:  # fmt: skip
    name = f"{prefix}{BEFORE}.weight"
    own, normed = f"{prefix}{experts.place}.{experts.router}.scale", dequantize(weights.take(name, config.hidden))
    if not normed.all():
        raise UnsupportedModel(f"tensor {name!r} has zeros, behind which the router would see nothing")
    scale = dequantize(weights.take(own, config.hidden)) * config.hidden**-0.5
    reads: npt.NDArray[np.float32] = scale / normed
    return reads
