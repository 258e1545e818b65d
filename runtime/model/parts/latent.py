"""Latent attention of one layer (DeepSeek V2, section 2.1). The KV holds one latent a token for all heads: what would
make keys of it is multiplied into the queries, and values are made of what the heads have seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.kernels.memory import Memory, Plans
from stemma.kernels.ops import AttentionSpec, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.config import Latent, ModelConfig
from stemma.runtime.model.parts.residual import Addition
from stemma.runtime.model.weights import WeightSource

EPSILON = 1e-6
"""Of the norms of latents, whatever that of other norms is."""


class LatentAttention:
    """Stands where `SelfAttention` does."""

    def __init__(
        self, config: ModelConfig, latent: Latent, layer: int, weights: WeightSource, ops: Ops, norm: Any, rope: Any
    ) -> None:  # fmt: skip
        self._ops, self._layer, self._norm, self._rope = ops, layer, norm, rope
        prefix = f"model.layers.{layer}.self_attn."
        hidden, width = config.hidden, config.num_heads * (latent.plain + latent.rotated)
        self._first, self._query_norm = None, None
        name, inputs = "q_proj", hidden
        if latent.query_rank is not None:
            name, inputs = "q_b_proj", latent.query_rank
            self._first = _linear(config, weights, ops, f"{prefix}q_a_proj", (inputs, hidden))
            self._query_norm = ops.norm(weights.take(f"{prefix}q_a_layernorm.weight", inputs), EPSILON)
        queries = weights.take(f"{prefix}{name}.weight", width, inputs)
        self._queries = ops.linear([_in_halves(config, queries, latent.plain, latent.rotated)])
        rows = latent.rank + latent.rotated
        self._latent = _linear(config, weights, ops, f"{prefix}kv_a_proj_with_mqa", (rows, hidden), latent.rank)
        self._latent_norm = ops.norm(weights.take(f"{prefix}kv_a_layernorm.weight", latent.rank), EPSILON)
        self._keys, self._values = _of_latents(config, latent, weights, ops, prefix)
        self._output = Addition(
            config, weights, ops, f"{prefix}o_proj", config.num_heads * latent.value, config.attention.output_bias, None
        )
        scale = (latent.plain + latent.rotated) ** -0.5 if config.attention.scale is None else config.attention.scale
        self._spec = AttentionSpec(scale)

    def add(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with what this layer's rows see: (tokens, hidden) -> (tokens, hidden)."""
        ops, kv, plan = self._ops, memory.full, plans.full
        latent = ops.norm_linear(x, self._norm, self._latent)
        ops.latent_write(latent, self._latent_norm, self._rope, kv, self._layer, plan)
        if self._first is None:
            q = ops.norm_linear(x, self._norm, self._queries)
        else:
            q = ops.norm_linear(ops.norm_linear(x, self._norm, self._first), self._query_norm, self._queries)
        seen = ops.attention(ops.latent_queries(q, self._keys, self._rope, plan), kv, self._layer, plan, self._spec)
        return self._output.add(ops.multiply_heads(seen, self._values), x)


def _linear(
    config: ModelConfig, weights: WeightSource, ops: Ops, name: str, shape: tuple[int, int], plain: int | None = None
) -> Any:  # fmt: skip
    """plain: rows before those that are rotated; None rotates none."""
    parts = [weights.take(f"{name}.weight", *shape)]
    biases = [weights.take(f"{name}.bias", shape[0])] if config.attention.bias else []
    if plain is not None:
        parts, biases = (
            [_in_halves(config, part, plain, shape[0] - plain) for part in each] for each in (parts, biases)
        )
    return ops.linear(parts, biases)


def _in_halves(config: ModelConfig, weight: StoredWeight, plain: int, rotated: int) -> StoredWeight:
    """The rotated rows of each head in the order of halves, where pairs are neighbours in the file."""
    if not config.attention.interleaved:
        return weight
    order = np.concatenate((np.arange(plain), plain + np.arange(rotated).reshape(-1, 2).T.reshape(-1)))
    starts = np.arange(0, weight.shape[0], plain + rotated)[:, None]
    return weight.rows((starts + order).reshape(-1))


def _of_latents(config: ModelConfig, latent: Latent, weights: WeightSource, ops: Ops, prefix: str) -> tuple[Any, Any]:
    """Of each head: from queries to latents, and from latents to values."""
    heads, plain, value, rank = config.num_heads, latent.plain, latent.value, latent.rank
    if weights.has(f"{prefix}k_b_proj.weight"):  # apart already, as GGUF has them
        keys = dequantize(weights.take(f"{prefix}k_b_proj.weight", heads, rank, plain))
        values = dequantize(weights.take(f"{prefix}v_b_proj.weight", heads, value, rank))
    else:
        both = weights.take(f"{prefix}kv_b_proj.weight", heads * (plain + value), rank)
        by_head = dequantize(both).reshape(heads, plain + value, rank)
        keys, values = by_head[:, :plain].swapaxes(1, 2), by_head[:, plain:]
    return _heads(ops, np.ascontiguousarray(keys)), _heads(ops, np.ascontiguousarray(values))


def _heads(ops: Ops, matrices: Any) -> Any:
    return ops.head_linear([StoredWeight("F32", matrix.shape, matrix) for matrix in matrices])
