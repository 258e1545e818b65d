"""The operations of any back end, with matrices of which this rank has a part: sums over ranks, in the ranks' order.

    x (whole)  ->  norm, q k v, attention     ->  output  ->  sum  ->  + residual (whole)
                   this rank's heads              a part       of all ranks

So a layer has two sums, and a row's numbers are the same whatever else is in the step, and in each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from stemma.kernels.limits import Report, StepLimits, Steps
from stemma.kernels.ops import Int32Array, Linear, Network, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.parts.sharded_weights import PartialWeight, VocabularyWeight


class Group(Protocol):
    """All ranks of a model: each calls the same in the same order."""

    rank: int

    def alone(self) -> AbstractContextManager[None]:
        """Inside, nobody is spoken to: there are results of the same shapes, whose numbers mean nothing."""

    def sum(self, rows: Rows) -> Rows:
        """Each rank's rows added up, ((rank 0 + rank 1) + rank 2) ..., in memory of its own."""

    def gather(self, rows: Rows) -> Rows:
        """On rank 0, the columns of all ranks side by side; elsewhere what that rank has."""


@dataclass(frozen=True, slots=True, eq=False)
class PartialLinear:
    """A matrix whose products are parts of a sum."""

    base: Linear

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features


@dataclass(frozen=True, slots=True, eq=False)
class VocabularyLinear(PartialLinear):
    """A matrix that makes the logits of some tokens."""


class _ShardedExecutor(EagerExecutor):
    """Each rank compiles what it launches, by itself; the first one samples."""

    def __init__(
        self, ops: ShardedOps, network: Network, memory: Any, group: Group, limits: StepLimits
    ) -> None:  # fmt: skip
        super().__init__(ops, network, memory)
        self._back_end, self._group, self._limits = ops, group, limits

    def record(self, report: Report, beside: Sequence[Steps] = ()) -> None:
        with self._group.alone():
            steps: list[Steps] = [self, *beside]
            self._back_end.warm(steps, self._memory, self._limits, report, samples=self._group.rank == 0)


class ShardedOps:
    """`Ops` over those of a back end."""

    def __init__(self, ops: Ops, group: Group) -> None:
        self._ops, self._group = ops, group
        self.name, self.states, self.rows, self.free_memory = ops.name, ops.states, ops.rows, ops.free_memory
        self.on_device, self.free_unused, self.total_memory = ops.on_device, ops.free_unused, ops.total_memory
        self.embedding, self.norm, self.layer_norm, self.rope = ops.embedding, ops.norm, ops.layer_norm, ops.rope
        self.head_linear, self.kv, self.plan, self.experts = ops.head_linear, ops.kv, ops.plan, ops.experts
        self.embed, self.rope_write, self.attention, self.gated = ops.embed, ops.rope_write, ops.attention, ops.gated
        self.multiply_heads, self.latent_write = ops.multiply_heads, ops.latent_write
        self.latent_queries, self.norm_experts_add = ops.latent_queries, ops.norm_experts_add
        self.norm_add, self.norm_gated, self.norm_activated = ops.norm_add, ops.norm_gated, ops.norm_activated
        self.norm_rows, self.copy_blocks, self.read_blocks = ops.norm_rows, ops.copy_blocks, ops.read_blocks
        self.write_blocks, self.adjust, self.log_probs = ops.write_blocks, ops.adjust, ops.log_probs
        self.sample, self.begin_sample, self.runs_ahead = ops.sample, ops.begin_sample, ops.runs_ahead
        self.begin_log_probs, self.warm = ops.begin_log_probs, ops.warm

    # Packing ----------------------------------------------------------------
    def linear(self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False) -> Linear:
        whole = parts[0]
        if isinstance(whole, VocabularyWeight):
            some = StoredWeight(whole.type, whole.shape, whole.data, ordered=whole.ordered).rows(whole.logits_of)
            return VocabularyLinear(self._ops.linear([some], biases, exact))
        base = self._ops.linear(parts, biases, exact)
        return PartialLinear(base) if isinstance(whole, PartialWeight) else base

    # A step ----------------------------------------------------------------
    def executor(self, network: Any, num_heads: int, memory: Any, limits: StepLimits | None = None) -> EagerExecutor:
        """Operation by operation: between two of them ranks speak to each other."""
        return _ShardedExecutor(self, network, memory, self._group, limits or StepLimits())

    def reserve(self, shape: Any, num_heads: int, limits: Any, widths: Any) -> int:
        """shape, num_heads: of this rank."""
        return int(self._ops.reserve(shape, num_heads, limits, widths))

    def norm_linear(self, x: Rows, norm: Any | None, linear: Any) -> Rows:
        if isinstance(linear, PartialLinear):
            return self._group.sum(self._ops.norm_linear(x, norm, linear.base))
        return self._ops.norm_linear(x, norm, linear)

    def linear_add(self, x: Rows, linear: Any, residual: Rows, scale: float = 1.0) -> Rows:
        if not isinstance(linear, PartialLinear):
            return self._ops.linear_add(x, linear, residual, scale)
        added = self.norm_linear(x, None, linear)
        residual += added if scale == 1.0 else added * scale
        return residual

    def linear_norm_add(self, x: Rows, linear: Any, norm: Any, residual: Rows, scale: float = 1.0) -> Rows:
        if not isinstance(linear, PartialLinear):
            return self._ops.linear_norm_add(x, linear, norm, residual, scale)
        return self._ops.norm_add(self.norm_linear(x, None, linear), norm, residual, scale)

    def logits(self, x: Rows, rows: Int32Array, norm: Any, head: Any, softcap: float | None = None) -> Rows:
        if not isinstance(head, VocabularyLinear):
            return self._ops.logits(x, rows, norm, head, softcap)
        return self._group.gather(self._ops.logits(x, rows, norm, head.base, softcap))
