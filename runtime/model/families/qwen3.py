"""Qwen3, the dense models (Yang et al. 2025): Llama's blocks with an RMS norm on every head of Q and K before the
rotation. Knows nothing of files, requests or sampling."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from stemma.kernels.ops import KV, AttentionSpec, HeadNorms, Int32Array, Linear, Ops
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.rope import rope_tables
from stemma.runtime.model.weights import Weights


class Block(NamedTuple):
    attention_norm: Any
    qkv: Linear
    q_norm: Any
    k_norm: Any
    output: Linear
    mlp_norm: Any
    gate_up: Linear
    down: Linear


class Qwen3:
    """The network. Shapes: x (tokens, hidden), q (tokens, num_heads, head_dim)."""

    def __init__(self, config: ModelConfig, weights: Weights, ops: Ops) -> None:
        self.config, self.ops = config, ops
        table = weights.take("model.embed_tokens.weight", config.vocab_size, config.hidden)
        self.embedding = ops.embedding(table)
        self.blocks = [load_block(config, weights, ops, f"model.layers.{i}.") for i in range(config.num_layers)]
        self.norm = ops.norm(weights.take("model.norm.weight", config.hidden), config.norm_epsilon)
        head = table if config.tied_embeddings else weights.take("lm_head.weight", config.vocab_size, config.hidden)
        self.head = ops.linear([head])
        self.rope = ops.rope(*rope_tables(config))
        self.attention = AttentionSpec(config.head_dim**-0.5)

    def forward(self, ids: Int32Array, plan: Any, kv: KV) -> torch.Tensor:
        x = self.ops.embed(self.embedding, ids)
        for layer, block in enumerate(self.blocks):
            x = self._attend(x, block, layer, plan, kv)
            gated = self.ops.norm_gated(x, block.mlp_norm, block.gate_up, "silu")
            x = self.ops.linear_add(gated, block.down, x)
        return x

    def _attend(self, x: torch.Tensor, block: Block, layer: int, plan: Any, kv: KV) -> torch.Tensor:
        qkv = self.ops.norm_linear(x, block.attention_norm, block.qkv)
        q = self.ops.rope_write(
            qkv, self.config.heads, self.rope, HeadNorms(block.q_norm, block.k_norm), kv, layer, plan
        )
        return self.ops.linear_add(self.ops.attention(q, kv, layer, plan, self.attention), block.output, x)

    def hidden_states(self, hidden: torch.Tensor, rows: Int32Array) -> torch.Tensor:
        return self.ops.norm_rows(hidden, rows, self.norm)

    def logits(self, hidden: torch.Tensor, rows: Int32Array) -> torch.Tensor:
        return self.ops.logits(hidden, rows, self.norm, self.head)


def load_block(config: ModelConfig, weights: Weights, ops: Ops, prefix: str) -> Block:
    hidden, inner = config.hidden, config.intermediate
    q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    qkv = [
        weights.take(attention + "q_proj.weight", q_size, hidden),
        weights.take(attention + "k_proj.weight", kv_size, hidden),
        weights.take(attention + "v_proj.weight", kv_size, hidden),
    ]
    output = weights.take(attention + "o_proj.weight", hidden, q_size)
    gate_up = [weights.take(mlp + name, inner, hidden) for name in ("gate_proj.weight", "up_proj.weight")]
    return Block(
        attention_norm=ops.norm(weights.take(prefix + "input_layernorm.weight", hidden), config.norm_epsilon),
        qkv=ops.linear(qkv),
        q_norm=ops.norm(weights.take(attention + "q_norm.weight", config.head_dim), config.norm_epsilon),
        k_norm=ops.norm(weights.take(attention + "k_norm.weight", config.head_dim), config.norm_epsilon),
        output=ops.linear([output]),
        mlp_norm=ops.norm(weights.take(prefix + "post_attention_layernorm.weight", hidden), config.norm_epsilon),
        gate_up=ops.linear(gate_up),
        down=ops.linear([weights.take(mlp + "down_proj.weight", hidden, inner)]),
    )
