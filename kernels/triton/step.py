"""A whole step in one upload: ids, rows, the plans of all pools, as fields of one buffer.

The buffers of `StepBuffers` are made once; every graph has fields of its own sizes at the buffer's beginning, and eager
steps put theirs there too. What does not fit is given buffers of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from stemma.kernels.memory import Plans
from stemma.kernels.ops import AttentionMetadata, Int32Array
from stemma.kernels.triton.cut import Cut
from stemma.kernels.triton.keys import Pool, Room
from stemma.kernels.triton.plan import ROW_FILL, AttentionPlan, Launches, Partials, TritonPlan, row_arrays
from stemma.kernels.triton.states import StateCapacity, StatePlan, state_arrays, state_fill, state_sizes
from stemma.kernels.triton.uploads import Buffer, CapacityError, Fields, Uploads, named


class Step(NamedTuple):
    """cuts: of each pool; None where no layer has attention. states: None in a model without."""

    ids: Int32Array
    metadata: AttentionMetadata
    rows: Int32Array
    cuts: tuple[Cut | None, ...]

    def of_pool(self, index: int) -> AttentionMetadata:
        metadata = self.metadata.window if index else self.metadata
        assert metadata is not None, "the step says nothing of the window's blocks"
        return metadata


class Size(NamedTuple):
    """Of a step's fields. launches: of each pool. states: None in a model without."""

    tokens: int
    rows: int
    launches: tuple[Launches, ...]
    states: StateCapacity | None


class StepBuffers:
    """What the steps of one executor use in turn: words of uploads, numbers of partial sums."""

    def __init__(self, room: Room, pools: Sequence[Pool], device: torch.device) -> None:
        self.words = Buffer.of(room.words, device)
        self.numbers = torch.empty(room.partial_numbers(pools), dtype=torch.float32, device=device)
        self.num_partials = room.partials

    @property
    def num_bytes(self) -> int:
        return self.words.words.nbytes + self.numbers.nbytes


class PlannedStep:
    """Plans in buffers, to be filled with one step after the other. Raises CapacityError if they are too small."""

    def __init__(self, pools: Sequence[Pool], size: Size, buffers: StepBuffers) -> None:
        sizes = {"ids": size.tokens, "rows": size.rows}
        for pool, launches in zip(pools, size.launches, strict=True):
            sizes |= pool.sizes(size.tokens, launches.merge)
        if size.states is not None:
            sizes |= named("states.", state_sizes(size.states))
        self._uploads = Uploads(sizes, buffers.words.words.device, buffer=buffers.words)
        self.ids, self.rows = self._uploads["ids"], self._uploads["rows"]
        self._plans = [
            self._plan(pool, launches, buffers) for pool, launches in zip(pools, size.launches, strict=True)
        ]  # fmt: skip
        self._states = None
        if size.states is not None:
            self._states = StatePlan(size.states, Fields(self._uploads, "states."), None)

    def _plan(self, pool: Pool, launches: Launches, buffers: StepBuffers) -> TritonPlan:
        fields = Fields(self._uploads, pool.prefix)
        plan = TritonPlan(pool.shape, None, fields)
        if pool.cutting is not None:
            partials = Partials.within(buffers.numbers, buffers.num_partials, pool.cutting, pool.shape)
            num_heads = pool.cutting.group * pool.shape.num_kv_heads
            plan.attention[num_heads] = AttentionPlan(pool.cutting, launches, fields, partials)
        return plan

    @property
    def plans(self) -> Plans:
        return Plans(self._plans[0], self._plans[1] if len(self._plans) > 1 else None, self._states)

    def walk_all(self) -> None:
        """Have states take all tokens one by one: what a graph does."""
        if self._states is not None:
            self._states.rounds = ()

    def send(self, step: Step) -> int:
        """Returns how many words were sent. Raises CapacityError if the step does not fit."""
        if len(step.ids) > len(self.ids) or len(step.rows) > len(self.rows):
            raise CapacityError(
                f"{len(step.ids)} tokens and {len(step.rows)} rows do not fit; make it a plan of its own"
            )
        tail = self._uploads.tail()
        arrays = {"ids": step.ids, "rows": step.rows}
        fill: dict[str, int] = {}
        for index, (plan, pieces) in enumerate(zip(self._plans, step.cuts, strict=True)):
            metadata = step.of_pool(index)
            own = row_arrays(metadata)
            for attention in plan.attention.values():
                assert pieces is not None, "a pool with attention was not cut"
                own |= attention.arrays(metadata, pieces, tail)
            plan.metadata = metadata
            arrays |= named(plan.fields.prefix, own)
            fill |= named(plan.fields.prefix, ROW_FILL)
        if self._states is not None:
            states = step.metadata.states
            assert states is not None, "the step says nothing of slots"
            self._states.metadata = states
            arrays |= named("states.", state_arrays(states))
            fill |= named("states.", state_fill(len(states.targets)))
        return self._uploads.send(arrays, fill, tail)

    def empty(self) -> int:
        """Send a step of nothing: all of it is room beyond a step, which writes no KV and no slot."""
        fill = {plan.fields.prefix + name: value for plan in self._plans for name, value in ROW_FILL.items()}
        return self._uploads.send({}, fill | named("states.", state_fill(0)))
