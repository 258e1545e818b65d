"""Recorded steps of a network with latent attention, experts, windows, caps and scales give the bits of eager ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.steps import CpuExecutor
from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.memory import Memory, Plans, ReadRows
from stemma.kernels.ops import AttentionSpec, Int32Array, KVShape
from stemma.kernels.steps import EagerExecutor
from tests.kernels.cpu.test_experts import HIDDEN, layer
from tests.kernels.cpu.test_linear import stored, vector
from tests.kernels.cpu.test_steps import BLOCK, WIDTH, metadata_of

HEADS, PLAIN, TURNED, LATENT, WORDS = 4, 16, 8, 32, 50


class Net:
    """Two layers of random weights."""

    def __init__(self, ops: CpuOps) -> None:
        def linear(outputs: int, inputs: int, seed: int) -> Any:
            return ops.linear([stored("F32", (outputs, inputs), seed)])

        self.ops, self.spec = ops, AttentionSpec(0.2, 200, 5.0)
        self.embedding = ops.embedding(stored("F32", (WORDS, HIDDEN)), 3.0)
        self.queries, self.latent = linear(HEADS * (PLAIN + TURNED), HIDDEN, 1), linear(LATENT + TURNED, HIDDEN, 2)
        self.keys = ops.head_linear([stored("F32", (LATENT, PLAIN), head) for head in range(HEADS)])
        self.values = ops.head_linear([stored("F32", (PLAIN, LATENT), head) for head in range(HEADS)])
        self.output, self.head = linear(HIDDEN, HEADS * PLAIN, 5), linear(WORDS, HIDDEN, 9)
        self.norm, self.latent_norm = ops.norm(vector(HIDDEN), 1e-5), ops.norm(vector(LATENT), 1e-5)
        angles = np.outer(np.arange(1000), 10.0 ** -np.arange(TURNED // 2)).astype(np.float32)
        self.rope = ops.rope(np.cos(angles), np.sin(angles))
        self.experts = layer(ops, ExpertsSpec(4, renormalise=True), shared=True, gated=True)

    def forward(self, ids: Int32Array, plans: Plans, memory: Memory) -> torch.Tensor:
        kv, plan = memory.full, plans.full
        ops, x = self.ops, self.ops.embed(self.embedding, ids)
        for number in range(2):
            ops.latent_write(ops.norm_linear(x, self.norm, self.latent), self.latent_norm, self.rope, kv, number, plan)
            q = ops.latent_queries(ops.norm_linear(x, self.norm, self.queries), self.keys, self.rope, plan)
            seen = ops.multiply_heads(ops.attention(q, kv, number, plan, self.spec), self.values)
            x = ops.linear_norm_add(seen, self.output, self.norm, x, 0.5)
            x = ops.norm_experts_add(x, self.norm, self.experts, x, 0.5)
        return x

    def forward_rows(self, ids: Int32Array, plans: Plans, memory: Memory, read: ReadRows) -> torch.Tensor:
        return self.forward(ids, plans, memory)[read.rows]

    def logits(self, hidden: torch.Tensor, rows: Int32Array) -> torch.Tensor:
        return self.ops.logits(hidden, rows, self.norm, self.head, 30.0)


def test_a_replay_is_the_step(ops: CpuOps) -> None:
    network = Net(ops)
    shape = KVShape(2, 2 * WIDTH, BLOCK, 1, LATENT + TURNED, LATENT)
    eager = EagerExecutor(ops, network, Memory(ops.kv(shape)))
    executor, random = CpuExecutor(ops, network, HEADS, Memory(ops.kv(shape))), np.random.default_rng(0)
    for step in range(5):
        for spans in ([(60 + step, 1), (300 + step, 1)], [(500 + step, 1)], [(0, 150)], [(30, 8), (600, 1)]):
            metadata = metadata_of(spans, 0)
            ids = random.integers(0, WORDS, len(metadata.positions)).astype(np.int32)
            rows = (metadata.query_starts[1:] - 1).astype(np.int32)
            expected = eager(ids, metadata, rows).clone()
            assert torch.equal(executor(ids, metadata, rows), expected)
    assert sum(recording is not None for recording in executor._recordings.values()) == 3
