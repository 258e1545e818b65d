"""One step of a network, launched operation by operation: what every back end can do. Knows no device."""

from __future__ import annotations

from typing import Any

import torch

from stemma.kernels.ops import KV, AttentionMetadata, Int32Array, Network, Ops


def run(network: Network, kv: KV, ids: Int32Array, plan: Any, rows: Int32Array) -> torch.Tensor:
    """A planned step, from token ids to logits; without rows, where every sequence is inside a prompt, to nothing."""
    hidden = network.forward(ids, plan, kv)
    return network.logits(hidden, rows) if len(rows) else hidden.new_empty((0, 0))


class EagerExecutor:
    """The `StepExecutor` of a back end that has nothing faster."""

    def __init__(self, ops: Ops, network: Network, kv: KV) -> None:
        self._ops, self._network, self._kv = ops, network, kv

    def __call__(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> torch.Tensor:
        return run(self._network, self._kv, ids, self._ops.plan(metadata, self._kv.shape), rows)
