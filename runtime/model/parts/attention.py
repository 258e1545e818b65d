"""Attention of one layer: projections, rotation, what rows see, and the way back to the residual stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stemma.kernels.memory import Memory, Plans
from stemma.kernels.ops import AttentionSpec, HeadNorms, Ops
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.parts.residual import Addition
from stemma.runtime.model.parts.rope import rows_of_a_head
from stemma.runtime.model.parts.tensors import head_norm, reordered, take_divided
from stemma.runtime.model.weights import WeightSource


class SelfAttention:
    """Queries of each group of heads share a head of keys and values (MHA, GQA, MQA)."""

    def __init__(self, config: ModelConfig, layer: int, weights: WeightSource, ops: Ops, norm: Any, rope: Any) -> None:
        self._ops, self._heads = ops, config.heads
        self._in_window, self._layer = config.place(layer)
        self._norm, self._rope = norm, rope
        prefix = f"model.layers.{layer}.{config.attention.place}."
        rows = rows_of_a_head(config)
        self._qkv, self._gate = _projections(config, weights, ops, prefix, rows)
        self._norms = None
        if config.attention.norms is not None:
            self._norms = HeadNorms(
                head_norm(config, weights, ops, prefix + config.attention.q_norm, config.num_heads, rows),
                head_norm(config, weights, ops, prefix + config.attention.k_norm, config.num_kv_heads, rows),
                config.attention.norms_after_rope,
            )
        width = config.num_heads * config.head_dim
        self._output = Addition(
            config, weights, ops, prefix + config.attention.output, width, config.attention.output_bias,
            norm=None if config.norms.behind_attention is None else f"model.layers.{layer}."
            + config.norms.behind_attention, scale=config.attention.added,
        )  # fmt: skip
        self._spec = _spec(config, layer, weights, prefix)

    def add(self, x: torch.Tensor, memory: Memory, plans: Plans) -> torch.Tensor:
        """The residual stream with what this layer's rows see: (tokens, hidden) -> (tokens, hidden)."""
        kv, plan = (memory.window, plans.window) if self._in_window else (memory.full, plans.full)
        qkv = self._ops.norm_linear(x, self._norm, self._qkv)
        q = self._ops.rope_write(qkv, self._heads, self._rope, self._norms, kv, self._layer, plan)
        said = self._ops.attention(q, kv, self._layer, plan, self._spec)
        if self._gate is not None:
            gate = self._ops.norm_linear(x, self._norm, self._gate)
            said = self._ops.states.gate(said, gate, "sigmoid")
        return self._output.add(said, x)


def _projections(
    config: ModelConfig, weights: WeightSource, ops: Ops, prefix: str, rows: npt.NDArray[np.intp] | None
) -> tuple[Any, Any]:  # fmt: skip
    """Q, K and V as one matrix, the rows of Q and K in the order of rotary halves; and what gates, or None."""
    kv_size, q_size = config.num_kv_heads * config.head_dim, config.num_heads * config.head_dim
    gated = config.attention.gated
    sizes = (q_size * (2 if gated else 1), kv_size, kv_size)

    def take(kind: str, *columns: int) -> tuple[list[StoredWeight], list[StoredWeight]]:
        names = [f"{prefix}{name}_proj.{kind}" for name in "qkv"]
        q, k, v = take_divided(weights, f"{prefix}qkv_proj.{kind}", names, sizes, *columns)
        q, *gates = _by_head(q, config) if gated else (q,)
        return [reordered(q, rows), reordered(k, rows), v], gates

    matrices, gates = take("weight", config.hidden)
    biases, gate_biases = take("bias") if config.attention.bias else ((), ())
    return ops.linear(matrices, biases), ops.linear(gates, gate_biases) if gates else None


def _by_head(q: StoredWeight, config: ModelConfig) -> list[StoredWeight]:
    """Queries, and what gates: a file has both of each head together."""
    rows = np.arange(q.shape[0]).reshape(config.num_heads, 2, config.head_dim)
    return [q.rows(rows[:, part].reshape(-1)) for part in range(2)]


def _spec(config: ModelConfig, layer: int, weights: WeightSource, prefix: str) -> AttentionSpec:
    attention = config.attention
    scale = config.head_dim**-0.5 if attention.scale is None else attention.scale
    sinks = dequantize(weights.take(prefix + "sinks", config.num_heads)).tolist() if attention.sinks else ()
    return AttentionSpec(scale, config.window(layer), attention.softcap, tuple(sinks))
