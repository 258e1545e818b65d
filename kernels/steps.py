"""One step of a network, launched operation by operation: what every back end can do. Knows no device."""

from __future__ import annotations

import torch

from stemma.kernels.ops import KV, Int32Array, Layout, Network, Ops


class EagerStepper:
    """The `Stepper` of a back end that has nothing faster."""

    def __init__(self, ops: Ops, network: Network, kv: KV) -> None:
        self._ops, self._network, self._kv = ops, network, kv

    def __call__(self, ids: Int32Array, layout: Layout, rows: Int32Array) -> torch.Tensor:
        hidden = self._network.forward(ids, self._ops.plan(layout, self._kv.shape), self._kv)
        if not len(rows):  # every sequence is inside a prompt
            return torch.empty((0, 0), device=self._ops.device)
        return self._network.logits(hidden, rows)
