"""Attention of one layer: projections, rotation, what rows see, and the way back to the residual stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.memory import Memory, Plans, ReadRows
from stemma.kernels.ops import AttentionSpec, HeadNorms, HeadShape, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.parts.residual import Addition, Factors
from stemma.runtime.model.parts.rope import rows_of_a_head
from stemma.runtime.model.parts.tensors import head_norm, reordered, take_divided
from stemma.runtime.model.weights import WeightSource


class SelfAttention:
    """Queries of each group of heads share a head of keys and values (MHA, GQA, MQA)."""

    def __init__(self, config: ModelConfig, layer: int, weights: WeightSource, ops: Ops, norm: Any, rope: Any) -> None:
        own, heads = config.layer(layer), config.heads_of(layer)
        self._ops, self._heads = ops, heads if own.has_kv else heads._replace(num_kv_heads=0)
        self._in_window, self._layer = config.place(layer)
        self._norm, self._rope = norm, rope
        prefix = f"model.layers.{layer}.{config.attention.place}."
        rows = rows_of_a_head(config)
        self._qkv, self._gate = _projections(config, layer, weights, ops, prefix, rows)
        self._norms = _norms(config, self._heads, weights, ops, prefix, rows)
        width = heads.num_heads * heads.head_dim
        self._output = Addition(
            config, weights, ops, prefix + config.attention.output, width, config.attention.output_bias,
            norm=None if config.norms.behind_attention is None else f"model.layers.{layer}."
            + config.norms.behind_attention, factors=Factors(config.attention.added),
        )  # fmt: skip
        self._spec = _spec(config, layer, weights, prefix)

    def add(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with what this layer's rows see: (tokens, hidden) -> (tokens, hidden)."""
        return self._seen(self._queries(x, memory, plans), x, memory, plans)

    def add_rows(self, x: Rows, memory: Memory, plans: Plans, read: ReadRows) -> Rows:
        """The same, of the rows that are read alone: (tokens, hidden) -> (rows, hidden). All write their KV."""
        q = self._queries(x, memory, plans)
        x = self._ops.rows.take(x, read.rows)
        return self._seen(self._ops.rows.take(q, read.rows), x, memory, read.plans) if len(read.rows) else x

    def _queries(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """Of each row, whose KV is written: (tokens, heads, head_dim)."""
        kv, plan = (memory.window, plans.window) if self._in_window else (memory.full, plans.full)
        qkv = self._ops.norm_linear(x, self._norm, self._qkv)
        return self._ops.rope_write(qkv, self._heads, self._rope, self._norms, kv, self._layer, plan)

    def _seen(self, q: Rows, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with what queries see."""
        kv, plan = (memory.window, plans.window) if self._in_window else (memory.full, plans.full)
        said = self._ops.attention(q, kv, self._layer, plan, self._spec)
        if self._gate is not None:
            gate = self._ops.norm_linear(x, self._norm, self._gate)
            said = self._ops.states.gate(said, gate, "sigmoid")
        return self._output.add(said, x)


def _projections(
    config: ModelConfig, layer: int, weights: WeightSource, ops: Ops, prefix: str, rows: npt.NDArray[np.intp] | None
) -> tuple[Any, Any]:  # fmt: skip
    """Q, K and V as one matrix, the rows of Q and K in the order of rotary halves, Q alone where the layer reads the KV
    of another; and what gates, or None."""
    own, heads = config.layer(layer), config.heads_of(layer)
    kv_size, q_size = heads.num_kv_heads * heads.head_dim, heads.num_heads * heads.head_dim
    gated = config.attention.gated
    sizes = (q_size * (2 if gated else 1), kv_size, kv_size)

    def take(kind: str, *columns: int) -> tuple[list[StoredWeight], list[StoredWeight]]:
        names = [f"{prefix}{name}_proj.{kind}" for name in ("qkk" if own.keys_are_values else "qkv")]
        if not own.has_kv:
            return [reordered(weights.take(names[0], sizes[0], *columns), rows)], []
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


def _norms(
    config: ModelConfig, heads: HeadShape, weights: WeightSource, ops: Ops, prefix: str, rows: Any
) -> HeadNorms | None:  # fmt: skip
    attention, size = config.attention, heads.head_dim
    if attention.norms is None:
        return None
    q = head_norm(config, weights, ops, prefix + attention.q_norm, (heads.num_heads, size), rows)
    if not heads.num_kv_heads:
        return HeadNorms(q, None, attention.norms_after_rope)
    k = head_norm(config, weights, ops, prefix + attention.k_norm, (heads.num_kv_heads, size), rows)
    ones = StoredWeight("F32", (size,), np.ones(size, dtype=np.float32))
    v = ops.norm(ones, config.norm_epsilon) if attention.value_norm else None
    return HeadNorms(q, k, attention.norms_after_rope, v)


def _spec(config: ModelConfig, layer: int, weights: WeightSource, prefix: str) -> AttentionSpec:
    attention = config.attention
    scale = config.heads_of(layer).head_dim ** -0.5 if attention.scale is None else attention.scale
    sinks = dequantize(weights.take(prefix + "sinks", config.num_heads)).tolist() if attention.sinks else ()
    return AttentionSpec(scale, config.window(layer), attention.softcap, tuple(sinks))
