"""Decode steps as CUDA graphs: the launches of a whole step are recorded once for each size of step and run again with
one call, because some ten launches a layer take the host longer than the GPU needs for a small batch.

A graph has fixed grids and buffers. A step is put into the smallest one that holds it: token ids, rows and rectangles
are sent into its buffers; what is left of its tokens writes no KV, and their logits are cut off:

    step of 5 tokens, 5,000 tokens of context      graph for 8 tokens, 16 rectangles, 512 table entries
    ids        a b c d e                    ->     a b c d e . . .      slots of the dots: -1
    logits     5 rows                       <-     the first 5 of 8

Layers with a window have rectangles of their own, sent in the same way; where there are states, the room beyond a
step is sequences without pieces, which read and write no slot.

Prompts are not recorded: their sizes vary and their kernels are long. Never decides what a step computes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from stemma.kernels.memory import Memory, Plans
from stemma.kernels.ops import AttentionMetadata, Int32Array, KVShape, Network, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.states import StateMetadata
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.triton.plan import Capacity, Cut, TritonPlan, Uploads, needed
from stemma.kernels.triton.states import StateCapacity, StatePlan, state_needed

MOST_TOKENS = 256
"""Larger steps keep the GPU busy longer than the host needs to launch them."""

MOST_TOKENS_OF_A_SEQUENCE = 8
"""Decode, with what forced tokens and drafts add to it; longer runs are prompts."""

MOST_GRAPHS = 64
"""The least recently used graph goes. A serving batch meets some ten: sizes and contexts are rounded up."""

Replay = Callable[[], torch.Tensor]


class Recorder(Protocol):
    """Records the launches of `step`, which reads and writes the same memory at each call."""

    def __call__(self, step: Callable[[], torch.Tensor]) -> Replay:
        """A function that runs the launches again and returns the result of `step`, in the same memory."""


class CudaRecorder:
    """torch's CUDA (on AMD: HIP) graphs, in one pool of memory: steps run one after the other."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], torch.Tensor]) -> Replay:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch says nothing of it
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()  # compiles kernels and allocates workspaces, which a capture must not
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = step()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


class Size(NamedTuple):
    """What a graph is recorded for. window, states: None in a memory without such a pool."""

    full: Capacity
    window: Capacity | None
    states: StateCapacity | None
    num_rows: int


class Step(NamedTuple):
    """A step, its rectangles in both pools of blocks, and what it needs. A pool without layers has no rectangles."""

    ids: Int32Array
    metadata: AttentionMetadata
    rows: Int32Array
    full: dict[int, Cut]
    window: dict[int, Cut]
    size: Size


@dataclass(frozen=True, slots=True)
class Graph:
    full: TritonPlan
    window: TritonPlan | None
    states: StatePlan | None
    inputs: Uploads  # "ids", "rows"
    replay: Replay

    def send(self, step: Step) -> None:
        metadata = step.metadata
        self.full.put(metadata, step.full)
        if self.window is not None and metadata.window is not None:
            self.window.put(metadata.window, step.window)
        if self.states is not None and metadata.states is not None:
            self.states.put(metadata.states)
        self.inputs.send({"ids": step.ids, "rows": step.rows}, fill={})


class StatePlanner(Protocol):
    """What a graph asks of the operations on states that it records."""

    def fixed_plan(self, metadata: StateMetadata, capacity: StateCapacity) -> StatePlan:
        """A plan that can be filled again. Raises CapacityError if the metadata does not fit."""


class GraphOps(Ops, Protocol):
    """What a graph asks of the operations that it records: plans whose buffers stay where they are."""

    device: torch.device

    @property
    def states(self) -> Any:
        """A `StateOps` that is a `StatePlanner` too."""

    def cut(self, metadata: AttentionMetadata, shape: KVShape, num_heads: int) -> Cut:
        """The step's rectangles."""

    def fixed_plan(self, metadata: AttentionMetadata, shape: KVShape, num_heads: int, capacity: Capacity) -> TritonPlan:
        """A plan that can be filled again. Raises CapacityError if the metadata does not fit."""


class GraphExecutor:
    """Runs small steps as graphs and others operation by operation. For one thread."""

    def __init__(self, ops: GraphOps, network: Network, num_heads: int, memory: Memory, record: Recorder) -> None:
        self._ops, self._network, self._num_heads, self._memory = ops, network, num_heads, memory
        self._shapes = memory.shape
        self._record = record
        self._eager = EagerExecutor(ops, network, memory)
        self._graphs: OrderedDict[Size, Graph] = OrderedDict()

    @property
    def num_graphs(self) -> int:
        return len(self._graphs)

    def __call__(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> Rows:
        if not is_small(metadata) or not len(rows):
            return self._eager(ids, metadata, rows)
        step = self._prepare(ids, metadata, rows)
        graph = self._graphs.get(step.size)
        if graph is None:
            graph = self._graphs[step.size] = self._make(step)
            if len(self._graphs) > MOST_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(step.size)
        graph.send(step)
        return graph.replay()[: len(rows)]

    def _prepare(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> Step:
        full, full_capacity = self._cut(metadata, self._shapes.full)
        window: dict[int, Cut] = {}
        window_capacity = states = None
        if self._shapes.window is not None:
            assert metadata.window is not None, "the step says nothing of the window's blocks"
            window, window_capacity = self._cut(metadata.window, self._shapes.window)
        if self._shapes.states is not None:
            assert metadata.states is not None, "the step says nothing of slots"
            states = StateCapacity(*map(round_up, state_needed(metadata.states)))
        size = Size(full_capacity, window_capacity, states, round_up(len(rows)))
        return Step(ids, metadata, rows, full, window, size)

    def _cut(self, metadata: AttentionMetadata, shape: KVShape) -> tuple[dict[int, Cut], Capacity]:
        """Rectangles, and room for as many and some more."""
        if not shape.num_layers:
            return {}, Capacity(round_up(len(metadata.positions)), 0, 0, 0, 0)
        pieces = self._ops.cut(metadata, shape, self._num_heads)
        return {self._num_heads: pieces}, Capacity(*map(round_up, needed(metadata, pieces)))

    def _make(self, step: Step) -> Graph:
        """Recording runs the step: with its own contents, so that all it writes is what the step will write."""
        metadata, shapes, size = step.metadata, self._shapes, step.size
        full = self._ops.fixed_plan(metadata, shapes.full, self._num_heads, size.full)
        window = states = None
        if metadata.window is not None and shapes.window is not None and size.window is not None:
            window = self._ops.fixed_plan(metadata.window, shapes.window, self._num_heads, size.window)
        if metadata.states is not None and size.states is not None:
            states = self._ops.states.fixed_plan(metadata.states, size.states)
        inputs = Uploads({"ids": size.full.num_tokens, "rows": size.num_rows}, self._ops.device)
        inputs.send({"ids": step.ids, "rows": step.rows}, fill={})

        def run() -> torch.Tensor:
            hidden = self._network.forward(inputs["ids"], Plans(full, window, states), self._memory)
            logits: torch.Tensor = self._network.logits(hidden, inputs["rows"])
            return logits

        return Graph(full, window, states, inputs, self._record(run))


def is_small(metadata: AttentionMetadata) -> bool:
    """Worth a graph: few tokens, and few of each sequence."""
    num_tokens = len(metadata.positions)
    return num_tokens <= MOST_TOKENS and int(np.diff(metadata.query_starts).max()) <= MOST_TOKENS_OF_A_SEQUENCE


def round_up(count: int) -> int:
    """To a power of two; nothing stays nothing."""
    return 1 << (count - 1).bit_length() if count else 0
