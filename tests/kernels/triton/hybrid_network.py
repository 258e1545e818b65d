"""A network with every kind of layer, of operations alone: for checks of whole steps on the whole memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from check_rows import stored
from triton_support import metadata_of

from stemma.kernels.memory import Memory, MemoryShape, Plans, ReadRows
from stemma.kernels.ops import AttentionMetadata, AttentionSpec, HeadShape, KVShape
from stemma.kernels.states import ZEROS, DeltaRuleSpec, LayerState, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.weights import StoredWeight

HIDDEN, NUM_HEADS, VOCABULARY, BLOCK_SIZE, WINDOW, FIRST_TARGET = 32, 2, 40, 16, 20, 8
HEADS = HeadShape(NUM_HEADS, 1, 16)
DELTA, SCAN = DeltaRuleSpec(1, 2, 16, 16), Mamba2Spec(2, 16, 1, 16)
STATES = (LayerState((DELTA.width, 3), (2, 16, 16)), LayerState((SCAN.width, 3), (2, 16, 16)), LayerState((HIDDEN, 2)))


def shape_of(num_blocks: int, num_slots: int, num_full: int = 1) -> MemoryShape:
    full = KVShape(num_full, num_blocks, BLOCK_SIZE, 1, 16)
    return MemoryShape(full, full._replace(num_layers=1), StateShape(num_slots, STATES))


class Hybrid:
    """Full attention (or none), a window with sinks, a gated delta rule, Mamba-2, a gated convolution."""

    def __init__(self, ops: Any, num_full: int = 1) -> None:
        self._ops, self._num_full = ops, num_full

        def linear(out: int, seed: int, inputs: int = HIDDEN) -> Any:
            return ops.linear([stored("F32", out, inputs, seed=seed)])

        self._embedding, self._norm = ops.embedding(stored("F32", VOCABULARY, HIDDEN)), ops.norm(ones(HIDDEN), 1e-5)
        angles = np.outer(np.arange(2048), 10.0 ** -np.arange(8)).astype(np.float32)
        self._rope = ops.rope(np.cos(angles), np.sin(angles))
        self._inputs = [linear(size, seed) for seed, size in enumerate((64, 64, DELTA.width + 36, SCAN.width + 34, 96))]
        self._outputs = [linear(HIDDEN, 9 + seed) for seed in range(5)]
        states = ops.states
        self._convs = [states.conv(stored("F32", *size), None) for size in ((DELTA.width, 4), (SCAN.width, 4), (32, 3))]
        self._rule = states.delta_rule(DELTA, stored("F32", 2), stored("F32", 2, seed=1))
        self._scan = states.mamba2(SCAN, *[stored("F32", 2, seed=seed) for seed in range(3)])
        self._head_norm, self._wide_norm = ops.norm(ones(16), 1e-5), ops.norm(ones(32), 1e-5)
        self._head = linear(VOCABULARY, 20)

    def forward(self, ids: Any, plans: Plans, memory: Memory) -> torch.Tensor:
        x = self._ops.embed(self._embedding, ids)
        if self._num_full:
            x = self._attend(x, 0, memory.full, plans.full, AttentionSpec(0.25))
        x = self._attend(x, 1, memory.window, plans.window, AttentionSpec(0.25, WINDOW, None, (0.5, -1.0)))
        for index, mix in ((2, self._delta), (3, self._mamba), (4, self._conv)):
            product = self._ops.norm_linear(x, self._norm, self._inputs[index])
            x = self._ops.linear_add(mix(product, memory.states, plans.states), self._outputs[index], x)
        return x

    def forward_rows(self, ids: Any, plans: Plans, memory: Memory, read: ReadRows) -> torch.Tensor:
        return self.forward(ids, plans, memory)[read.rows]

    def logits(self, hidden: torch.Tensor, rows: Any) -> torch.Tensor:
        return self._ops.logits(hidden, rows, self._norm, self._head)

    def _attend(self, x: torch.Tensor, index: int, kv: Any, plan: Any, spec: AttentionSpec) -> torch.Tensor:
        qkv = self._ops.norm_linear(x, self._norm, self._inputs[index])
        q = self._ops.rope_write(qkv, HEADS, self._rope, None, kv, 0, plan)
        return self._ops.linear_add(self._ops.attention(q, kv, 0, plan, spec), self._outputs[index], x)

    def _delta(self, product: torch.Tensor, states: Any, plan: Any) -> torch.Tensor:
        qkv, gate, beta, step = torch.split(product, [DELTA.width, 32, 2, 2], dim=1)
        qkv = self._ops.states.short_conv(qkv, self._convs[0], "silu", states, 0, plan)
        out = self._ops.states.gated_delta(qkv, beta, step, self._rule, states, 0, plan)
        return self._ops.states.gated_norm(out, gate, self._head_norm, 2, gate_first=False)

    def _mamba(self, product: torch.Tensor, states: Any, plan: Any) -> torch.Tensor:
        gate, x, step = torch.split(product, [32, SCAN.width, 2], dim=1)
        x = self._ops.states.short_conv(x, self._convs[1], "silu", states, 1, plan)
        out = self._ops.states.selective_scan(x, step, self._scan, states, 1, plan)
        return self._ops.states.gated_norm(out, gate, self._wide_norm, 1, gate_first=True)

    def _conv(self, product: torch.Tensor, states: Any, plan: Any) -> torch.Tensor:
        b, c, x = torch.split(product, [HIDDEN] * 3, dim=1)
        mixed = self._ops.states.short_conv(
            self._ops.states.gate(x, b, "none"), self._convs[2], "none", states, 2, plan
        )  # fmt: skip
        return self._ops.states.gate(mixed, c, "none")


def ones(features: int) -> Any:
    return StoredWeight("F32", (features,), np.ones(features, dtype=np.float32))


def hybrid_step(sequences: Sequence[tuple[int, Sequence[int]]], replayed: Sequence[int] = ()) -> AttentionMetadata:
    """(cached, tokens of each piece) a sequence. Sequence i begins with slot i, or with zeros, and writes to slots of
    its own. Blocks behind the window are block 0; `replayed` sequences have their KV in the full pool already."""
    full, _ = metadata_of([(cached, sum(pieces)) for cached, pieces in sequences], BLOCK_SIZE)
    tables, slots = full.block_tables.copy(), full.slots.copy()
    for index, (cached, _) in enumerate(sequences):
        tables[index, : max(cached - WINDOW + 1, 0) // BLOCK_SIZE] = 0
        if index in replayed:
            slots[full.query_starts[index] : full.query_starts[index + 1]] = -1
    return replace(full, slots=slots, window=replace(full, block_tables=tables), states=state_pieces(sequences))


def state_pieces(sequences: Sequence[tuple[int, Sequence[int]]]) -> StateMetadata:
    lengths = [length for _, pieces in sequences for length in pieces]
    rows = np.cumsum([0, *(len(pieces) for _, pieces in sequences)]).astype(np.int32)
    targets = np.arange(FIRST_TARGET, FIRST_TARGET + len(lengths), dtype=np.int32)
    sources = targets - 1
    sources[rows[:-1]] = [index if cached else ZEROS for index, (cached, _) in enumerate(sequences)]
    return StateMetadata(rows, np.cumsum([0, *lengths]).astype(np.int32), sources, targets)
