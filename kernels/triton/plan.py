"""A step on the device: its rows, and what attend_kernel reads of it. Filled again for launches that were captured.

Fields have fixed sizes, those of a graph or of the step. Rectangles and block tables are the tail of the upload,
packed; `listed` says where rectangles begin, they where their tables do (uploads.py). No kernel runs here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from stemma.kernels.ops import AttentionMetadata, Int32Array, KVShape
from stemma.kernels.triton.cut import Cut, Cutting
from stemma.kernels.triton.uploads import CapacityError, Fields, Tail, Uploads

LISTED = {"narrow": 0, "wide": 4, "merged": 8}
"""Where a count stands in the field `listed`, and behind it where what is counted begins."""


class Launches(NamedTuple):
    """Which kernels a layer's attention is: those that this step needs, or may need in a graph."""

    narrow: bool
    wide: bool
    merge: bool


class Partials(NamedTuple):
    """Room for partial sums: (partials, heads, head_dim or value_dim) and (partials, heads, 2), float32."""

    out: torch.Tensor
    stats: torch.Tensor

    @classmethod
    def of(cls, count: int, cutting: Cutting, shape: KVShape, device: torch.device) -> Partials:
        return cls.within(torch.empty(partial_size(count, cutting, shape), device=device), count, cutting, shape)

    @classmethod
    def within(cls, numbers: torch.Tensor, count: int, cutting: Cutting, shape: KVShape) -> Partials:
        """At the beginning of memory that pools use in turn."""
        num_heads, width = cutting.group * shape.num_kv_heads, shape.value_dim or shape.head_dim
        end = count * num_heads * width
        return cls(
            numbers[:end].view(count, num_heads, width),
            numbers[end : end + count * num_heads * 2].view(count, num_heads, 2),
        )


def partial_size(count: int, cutting: Cutting, shape: KVShape) -> int:
    """Numbers that so many partial sums of one pool take."""
    return count * cutting.group * shape.num_kv_heads * ((shape.value_dim or shape.head_dim) + 2)


@dataclass(slots=True, eq=False)
class AttentionPlan:
    """The rectangles of a step on the device, for one number of query heads, and room for partial sums.

    fields: those of `attention_sizes`. arguments: of launches, made when a layer first asks, the same for all layers.
    """

    cutting: Cutting
    launches: Launches
    fields: Fields
    partials: Partials
    arguments: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def arrays(self, metadata: AttentionMetadata, pieces: Cut, tail: Tail) -> dict[str, Int32Array]:
        """What its fields are filled with; tables and rectangles go to the tail.

        Raises CapacityError if there is no room for the partial sums, or no launch for the rectangles.
        """
        needs = launches_of(pieces)
        if pieces.num_partials > len(self.partials.out) or any(
            need and not have for need, have in zip(needs, self.launches, strict=True)
        ):
            raise CapacityError(
                f"{pieces.num_partials} partial sums and {needs} do not fit {len(self.partials.out)} and "
                f"{self.launches}; make the step a plan of its own"
            )
        tables, starts = pack_tables(metadata, self.cutting.block_size)
        starts = starts + tail.add(tables)
        listed = np.zeros(12, dtype=np.int32)
        for name, rectangles in (("narrow", pieces.narrow), ("wide", pieces.wide)):
            placed = rectangles.copy()
            placed[:, 2] = starts[rectangles[:, 2]]
            listed[LISTED[name]], listed[LISTED[name] + 1] = len(placed), tail.add(placed)
        listed[LISTED["merged"]] = len(pieces.merged_rows)
        return {"listed": listed, "partial_starts": pieces.partial_starts, "merged_rows": pieces.merged_rows}

    def listed(self, name: str) -> torch.Tensor:
        """On the device, how many "narrow" or "wide" rectangles or "merged" rows there are."""
        return self.fields["listed"][LISTED[name] :]


NOTHING = Launches(False, False, False)


def launches_of(pieces: Cut | None) -> Launches:
    """What this step needs; None has no attention."""
    if pieces is None:
        return NOTHING
    return Launches(len(pieces.narrow) > 0, len(pieces.wide) > 0, pieces.num_partials > 0)


def launches_within(num_tokens: int, context: int, cutting: Cutting | None) -> Launches:
    """What steps of at most so many tokens may need: few tokens never fill a wide tile, short contexts are not cut."""
    if cutting is None:
        return NOTHING
    return Launches(True, num_tokens * cutting.group > cutting.narrow_rows, context > cutting.piece)


def attention_sizes(num_tokens: int, merge: bool) -> dict[str, int]:
    """Of an AttentionPlan's fields."""
    return {"listed": 12, "partial_starts": num_tokens + 1, "merged_rows": num_tokens if merge else 0}


def tail_size(metadata: AttentionMetadata, pieces: Cut) -> int:
    """Words that tables and rectangles take at most."""
    return metadata.block_tables.size + pieces.narrow.size + pieces.wide.size


def pack_tables(metadata: AttentionMetadata, block_size: int) -> tuple[Int32Array, Int32Array]:
    """Block tables one behind the other, and where each begins. Entries behind a sequence's context are left out where
    they are more than half of all."""
    tables = metadata.block_tables
    counts = np.minimum(-(-metadata.context_lens // block_size), tables.shape[1])
    if 2 * int(counts.sum()) >= tables.size:
        return tables.reshape(-1), np.arange(len(tables), dtype=np.int32) * tables.shape[1]
    starts = np.cumsum(counts) - counts
    return tables[np.arange(tables.shape[1]) < counts[:, None]], starts.astype(np.int32)


@dataclass(slots=True, eq=False)
class TritonPlan:
    """A step: its rows on the device, and its rectangles by the number of query heads. fields: positions, slots.

    metadata: None in a plan that has held no step.
    """

    shape: KVShape
    metadata: AttentionMetadata | None
    fields: Fields
    attention: dict[int, AttentionPlan] = field(default_factory=dict)

    @property
    def positions(self) -> torch.Tensor:
        return self.fields["positions"]

    @property
    def slots(self) -> torch.Tensor:
        return self.fields["slots"]


def row_sizes(num_tokens: int) -> dict[str, int]:
    """Of a TritonPlan's fields."""
    return {"positions": num_tokens, "slots": num_tokens}


def row_arrays(metadata: AttentionMetadata) -> dict[str, Int32Array]:
    """What they are filled with. Room beyond a step's rows is in slot -1: it writes no KV."""
    return {"positions": metadata.positions, "slots": metadata.slots}


ROW_FILL: Mapping[str, int] = {"slots": -1}


def step_plan(metadata: AttentionMetadata, shape: KVShape, device: torch.device) -> TritonPlan:
    """A step's rows on the device; attention is cut when a layer first says how many heads it has."""
    uploads = Uploads(row_sizes(len(metadata.positions)), device)
    uploads.send(row_arrays(metadata), ROW_FILL)
    return TritonPlan(shape, metadata, Fields(uploads))


def attention_plan(
    metadata: AttentionMetadata, pieces: Cut, cutting: Cutting, shape: KVShape, device: torch.device
) -> AttentionPlan:
    """A step's rectangles on the device, in buffers of their own."""
    launches = launches_of(pieces)
    sizes = attention_sizes(len(metadata.positions), launches.merge)
    uploads = Uploads(sizes, device, tail_size(metadata, pieces))
    partials = Partials.of(max(pieces.num_partials, 1), cutting, shape, device)
    plan = AttentionPlan(cutting, launches, Fields(uploads), partials)
    tail = uploads.tail()
    arrays = plan.arrays(metadata, pieces, tail)
    uploads.send(arrays, {}, tail)
    return plan
