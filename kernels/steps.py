"""One step of a network, launched operation by operation: what every back end can do. Knows no device."""

from __future__ import annotations

from collections.abc import Sequence

from stemma.kernels.limits import Report, Steps
from stemma.kernels.memory import Memory, Planner, Plans, make_plans
from stemma.kernels.ops import AttentionMetadata, Int32Array, Network
from stemma.kernels.rows import Rows


def run(network: Network, memory: Memory, ids: Int32Array, plans: Plans, rows: Int32Array) -> Rows:
    """A planned step, from token ids to logits; without rows, where every sequence is inside a prompt, to nothing."""
    hidden = network.forward(ids, plans, memory)
    return network.logits(hidden, rows) if len(rows) else hidden[:0]


class EagerExecutor:
    """The `StepExecutor` of a back end that has nothing faster."""

    def __init__(self, ops: Planner, network: Network, memory: Memory) -> None:
        self._ops, self._network, self._memory = ops, network, memory

    def __call__(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> Rows:
        return run(self._network, self._memory, ids, make_plans(self._ops, metadata, self._memory), rows)

    def record(self, report: Report, beside: Sequence[Steps] = ()) -> None:
        """There is nothing to record."""

    def take_turn(self) -> None:
        """One thread is as good as another."""
