"""The operations of any back end, with products to which adapters of low rank add, each row of a step its own.

A step's rows of one adapter stand side by side. To the product of all rows with the packed matrix, each adapter adds
the product of its own rows with `down`, then `up`:

    rows     | of no adapter |  of a   |     of b     |
    product  |              x @ matrix.T              |
    added    |               | a's     | b's          |       (x @ down.T) @ up.T

In a step without adapters every operation is the back end's own, called as if there were none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stemma.kernels.experts import Activation, ExpertsSpec, GatedActivation, SharedExpert
from stemma.kernels.ops import Int32Array, Linear, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.parts.adapted_weights import AdaptedWeight, Floats


class Span(NamedTuple):
    """Rows [first, last) of a step are computed with this adapter."""

    adapter: str
    first: int
    last: int


class Added(NamedTuple):
    """What one adapter adds to a product. matrices: the names of those that it changes."""

    down: Linear
    up: Linear
    matrices: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedLinear:
    """A packed matrix, and what is added by adapter."""

    base: Linear
    added: Mapping[str, Added]

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features


class Step(threading.local):
    """The step that a thread computes. Spans in ascending order."""

    spans: tuple[Span, ...] = ()


class AdaptedOps:
    """`Ops` over those of a back end."""

    def __init__(self, ops: Ops) -> None:
        self._ops, self._step = ops, Step()
        self.used: set[tuple[str, str]] = set()  # adapters with the matrices to which they add
        self.name, self.states, self.rows, self.free_memory = ops.name, ops.states, ops.rows, ops.free_memory
        self.on_device, self.free_unused, self.total_memory = ops.on_device, ops.free_unused, ops.total_memory
        self.reserve = ops.reserve
        self.embedding, self.norm, self.layer_norm, self.rope = ops.embedding, ops.norm, ops.layer_norm, ops.rope
        self.head_linear, self.kv, self.executor, self.plan = ops.head_linear, ops.kv, ops.executor, ops.plan
        self.embed, self.rope_write, self.attention, self.gated = ops.embed, ops.rope_write, ops.attention, ops.gated
        self.multiply_heads, self.latent_write = ops.multiply_heads, ops.latent_write
        self.latent_queries, self.norm_experts_add = ops.latent_queries, ops.norm_experts_add
        self.norm_add = ops.norm_add
        self.norm_rows, self.copy_blocks, self.read_blocks = ops.norm_rows, ops.copy_blocks, ops.read_blocks
        self.write_blocks, self.adjust, self.log_probs = ops.write_blocks, ops.adjust, ops.log_probs
        self.sample, self.begin_sample, self.runs_ahead = ops.sample, ops.begin_sample, ops.runs_ahead
        self.begin_log_probs, self.warm = ops.begin_log_probs, ops.warm

    @contextmanager
    def step(self, spans: Sequence[Span]) -> Iterator[None]:
        """Inside, this thread's operations compute a step whose rows have these adapters."""
        self._step.spans = tuple(spans)
        try:
            yield
        finally:
            self._step.spans = ()

    # Packing ----------------------------------------------------------------
    def linear(self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False) -> Linear:
        base = self._ops.linear(parts, biases, exact)
        adapters = sorted({name for part in parts if isinstance(part, AdaptedWeight) for name in part.added})
        if not adapters:
            return base
        return AdaptedLinear(base, {adapter: self._added(parts, adapter) for adapter in adapters})

    def _added(self, parts: Sequence[StoredWeight], adapter: str) -> Added:
        """Of matrices side by side, one pair: each part's outputs read the columns of its own `down`."""
        lows = [part.added.get(adapter) if isinstance(part, AdaptedWeight) else None for part in parts]
        downs = {id(low.down): low.down for low in lows if low is not None}
        ends = dict(zip(downs, np.cumsum([len(down) for down in downs.values()]).tolist(), strict=True))
        up = np.zeros((sum(part.shape[0] for part in parts), max(ends.values())), dtype=np.float32)
        first = 0
        for part, low in zip(parts, lows, strict=True):
            if low is not None:
                end = ends[id(low.down)]
                up[first : first + part.shape[0], end - len(low.down) : end] = low.up
                self.used.add((adapter, low.matrix))
            first += part.shape[0]
        matrices = tuple(low.matrix for low in lows if low is not None)
        return Added(self._packed(np.concatenate(list(downs.values()))), self._packed(up), matrices)

    def _packed(self, values: Floats) -> Linear:
        return self._ops.linear([StoredWeight("F32", values.shape, values)], exact=True)

    def experts(
        self, spec: ExpertsSpec, router: Linear, correction: StoredWeight | None, gate_up: Sequence[Linear],
        down: Sequence[Linear], shared: SharedExpert | None = None, scales: StoredWeight | None = None,
    ) -> Any:  # fmt: skip
        """Raises UnsupportedModel if an adapter changes any of them: they are computed by the back end as one."""
        for linear in (router, *gate_up, *down, *(shared or ())):
            if isinstance(linear, AdaptedLinear):
                adapter, added = next(iter(linear.added.items()))
                raise cannot_be_chosen(adapter, added.matrices[0], "it belongs to a mixture of experts")
        return self._ops.experts(spec, router, correction, gate_up, down, shared, scales)

    # A step ----------------------------------------------------------------
    def norm_linear(self, x: Rows, norm: Any | None, linear: Any) -> Rows:
        base, spans = self._of(linear)
        inner = [self._inner(x[first:last], norm, added) for added, first, last in spans]
        out = self._ops.norm_linear(x, norm, base)
        return self._with(out, spans, inner)

    def norm_gated(self, x: Rows, norm: Any | None, gate_up: Any, activation: GatedActivation) -> Rows:
        base, spans = self._of(gate_up)
        if not spans:
            return self._ops.norm_gated(x, norm, base, activation)
        return self._ops.gated(self.norm_linear(x, norm, gate_up), activation)

    def norm_activated(self, x: Rows, norm: Any | None, up: Any, activation: Activation) -> Rows:
        base, spans = self._of(up)
        if not spans:
            return self._ops.norm_activated(x, norm, base, activation)
        products = self.norm_linear(x, norm, up)
        return self._ops.gated(self.rows.with_ones(products), activation)

    def linear_add(self, x: Rows, linear: Any, residual: Rows, scale: float = 1.0) -> Rows:
        base, spans = self._of(linear)
        inner = [self._inner(x[first:last], None, added) for added, first, last in spans]
        out = self._ops.linear_add(x, base, residual, scale)
        return self._with(out, spans, inner, scale)

    def linear_norm_add(self, x: Rows, linear: Any, norm: Any, residual: Rows, scale: float = 1.0) -> Rows:
        base, spans = self._of(linear)
        before = [self.rows.copy(residual[first:last]) for _, first, last in spans]
        products = self.rows.copy(self.norm_linear(x, None, linear)) if spans else x
        out = self._ops.linear_norm_add(x, base, norm, residual, scale)
        for (_, first, last), rows in zip(spans, before, strict=True):
            normed = self._ops.norm_rows(products, np.arange(first, last, dtype=np.int32), norm)
            out[first:last] = rows + scale * normed
        return out

    def logits(self, x: Rows, rows: Int32Array, norm: Any, head: Any, softcap: float | None = None) -> Rows:
        base, spans = self._of(head)
        changed = []
        for added, first, last in spans:
            chosen = np.flatnonzero((rows >= first) & (rows < last))
            if len(chosen):
                whole = self.rows.copy(self._ops.logits(x, rows[chosen], norm, base))
                inner = self._inner(x[rows[chosen].tolist()], norm, added)
                whole += self._ops.norm_linear(inner, None, added.up)
                changed.append((chosen, whole if softcap is None else self.rows.cap(whole, softcap)))
        out = self._ops.logits(x, rows, norm, base, softcap)
        for chosen, values in changed:
            out[chosen.tolist()] = values
        return out

    def _of(self, linear: Any) -> tuple[Any, list[tuple[Added, int, int]]]:
        """The back end's own handle, and what is added to which rows of this step."""
        if not isinstance(linear, AdaptedLinear):
            return linear, []
        spans = self._step.spans
        return linear.base, [
            (linear.added[adapter], first, last) for adapter, first, last in spans if adapter in linear.added
        ]

    def _inner(self, x: Rows, norm: Any | None, added: Added) -> Rows:
        """(rows, inputs) -> (rows, rank), of its own: other calls of the operation follow."""
        return self.rows.copy(self._ops.norm_linear(x, norm, added.down))

    def _with(
        self, out: Rows, spans: Sequence[tuple[Added, int, int]], inner: Sequence[Rows],
        scale: float = 1.0,
    ) -> Rows:  # fmt: skip
        for (added, first, last), rows in zip(spans, inner, strict=True):
            before = out[first:last]
            after = self._ops.linear_add(rows, added.up, before, scale)
            if after is not before:
                before[:] = after
        return out


def cannot_be_chosen(adapter: str, matrix: str, why: str) -> UnsupportedModel:
    """Of an adapter that only works when it is merged."""
    return UnsupportedModel(
        f"the adapter {adapter} changes {matrix!r}, which cannot be done for single requests: {why}; "
        "merge it when loading instead (adapters=[...], --adapter)"
    )
