"""Steps as CUDA graphs: the launches of a whole step are recorded once for each size of step and run again with one
call, because some ten launches a layer take the host longer than the GPU needs for a small batch.

All sizes that a server needs are recorded before its first step (keys.py), and none later. A step is put into the
smallest graph that holds it: ids, rows, rectangles and tables are sent into its buffers; what is left of its tokens
writes no KV, and their logits are cut off:

    step of 5 tokens, 3 rows                       graph for 8 tokens, 8 rows
    ids        a b c d e                    ->     a b c d e . . .      slots of the dots: -1
    logits     3 rows                       <-     the first 3 of 8

Graphs share one set of buffers, for steps run one after the other. Steps that are too large for them are launched
operation by operation. Never decides what a step computes.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

from stemma.kernels.limits import Report, StepLimits, Steps, Warms
from stemma.kernels.memory import Memory, MemoryShape
from stemma.kernels.ops import AttentionMetadata, Int32Array, KVShape, Network
from stemma.kernels.rows import Rows
from stemma.kernels.triton.ahead import LastTokens, Turn
from stemma.kernels.triton.cut import Cutting, cut
from stemma.kernels.triton.keys import Key, Pool, Room, key_for, keys_of, pools_of
from stemma.kernels.triton.plan import launches_of, launches_within, tail_size
from stemma.kernels.triton.rounds import cut_rounds
from stemma.kernels.triton.states import StateCapacity, state_needed
from stemma.kernels.triton.step import PlannedStep, Size, Step, StepBuffers
from stemma.kernels.triton.uploads import CapacityError

Replay = Callable[[], torch.Tensor]


class Recorder(Protocol):
    """Records the launches of steps, which read and write the same memory at each call."""

    def __call__(self, step: Callable[[], torch.Tensor]) -> Replay:
        """A function that runs the launches again and returns the result of `step`, in the same memory."""

    def retire(self) -> None:
        """All that was recorded is run no more. Never one alone: what one graph frees, others may still use."""


_CAPTURE = threading.RLock()
"""Whose it is captures, or ends what was captured, alone in the process: torch waits for the whole device before a
capture, and that breaks off the one of another thread, whatever its mode."""


@contextmanager
def capture() -> Iterator[None]:
    """Inside, nobody else captures, and no garbage is collected: ends of graphs and kernels that the collector comes
    upon are calls to the device, which break off a capture of the same thread."""
    with _CAPTURE:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


CAPTURE_PRIORITY = -1
"""torch has 32 streams of each priority, and hands them out in turn: the thirty-third is the first one again. So that
of a capture is none of the ordinary ones, on which engines launch: what another engine launches there meanwhile would
be captured instead of run."""


class CudaRecorder:
    """torch's CUDA (on AMD: HIP) graphs of one executor, in one pool of memory: steps run one after the other.

    Before it is captured a step is run once, on the stream that replays go to, in one order with all that another
    engine of the same model launches: what counts parts of products lies beside the weights, and is one step's at a
    time. The capture's stream is the executor's own and is kept: torch keeps a workspace of cuBLAS for each stream that
    products ran on, and drops that of a capture's stream with a graph. cuda: torch.cuda, or what counts in its place.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device, self._cuda = device, cuda
        with cuda.device(device):
            self._pool = cuda.graph_pool_handle()
            self._capture = cuda.Stream(priority=CAPTURE_PRIORITY)
        self._ran_on: list[Any] = []
        self._graphs: list[Any] = []

    def __call__(self, step: Callable[[], torch.Tensor]) -> Replay:
        cuda = self._cuda
        with cuda.device(self._device):
            home = cuda.current_stream()  # replays run on it too
            if home not in self._ran_on:
                self._ran_on.append(home)
            step()  # compiles kernels and allocates workspaces, which a capture must not
            graph, mode = cuda.CUDAGraph(), "thread_local"
            with capture(), cuda.graph(graph, pool=self._pool, stream=self._capture, capture_error_mode=mode):
                result = step()
        self._graphs.append(graph)

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay

    def retire(self) -> None:
        """Once none of it runs any more: memory that a graph writes to may be somebody else's behind this. Other
        streams of the device are not waited for."""
        with _CAPTURE, self._cuda.device(self._device):
            for stream in self._ran_on:
                stream.synchronize()
            for graph in self._graphs:
                graph.reset()
            self._graphs.clear()


class LogitsBuffer:
    """Logits of all graphs and of steps with as few rows, in one place: the next step may write over them."""

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._numbers: torch.Tensor | None = None

    def room(self, products: torch.Tensor) -> torch.Tensor:
        """Float32 of the same shape. Made for good when logits are first computed, which tells the vocabulary."""
        rows, vocabulary = products.shape
        if rows > self._most_rows:
            return torch.empty_like(products, dtype=torch.float32)
        if self._numbers is None:
            size = (self._most_rows, vocabulary)
            self._numbers = torch.empty(size, dtype=torch.float32, device=products.device)
        return self._numbers[:rows]


class GraphOps(Warms, Protocol):
    """What an executor asks of the operations that it runs."""

    device: torch.device
    turn: Turn

    @property
    def states(self) -> Any:
        """Those of layers with a state."""

    def cutting(self, num_heads: int, shape: KVShape) -> Cutting:
        """How a pool's attention is cut."""


class Graph(NamedTuple):
    planned: PlannedStep
    replay: Replay


@dataclass(slots=True)
class StepCounts:
    """What was done with steps. eager: by why they were no graph. padding: tokens that graphs computed for nothing."""

    replayed: Counter[Key] = field(default_factory=Counter)
    eager: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    padding: int = 0
    recordings: int = 0
    words: int = 0


class GraphExecutor:
    """Runs steps as graphs, once these are recorded, and others operation by operation. For one thread.

    limits: of the steps that it is made for; larger ones are run as well.
    """

    def __init__(
        self, ops: GraphOps, network: Network, num_heads: int, memory: Memory, recorder: Recorder, limits: StepLimits
    ) -> None:  # fmt: skip
        self._ops, self._network, self._memory, self._recorder = ops, network, memory, recorder
        self._limits, shape = limits, memory.shape
        self._pools = cut_pools(ops, num_heads, shape)
        self.keys = keys_of(limits)
        room = Room.of(limits, self._pools, shape.states is not None)
        self._buffers = StepBuffers(room, self._pools, ops.device)
        self._logits = LogitsBuffer(room.rows)
        self._graphs: dict[Key, Graph] = {}
        self._last = LastTokens.beside(ops.turn.last)  # which graphs read, whichever thread records them
        self.counts = StepCounts()
        # Not at the interpreter's exit: nobody needs the memory then, and the driver may be gone.
        weakref.finalize(self, recorder.retire).atexit = False

    @property
    def num_graphs(self) -> int:
        return len(self._graphs)

    def take_turn(self) -> None:
        """What this thread samples is found by the steps that follow, recorded or not."""
        self._ops.turn.last = self._last

    def record(self, report: Report, beside: Sequence[Steps] = ()) -> None:
        """Compile what steps launch, then record all sizes, the largest first: smaller ones find memory for theirs in
        what it has left. If that fails, nothing stays recorded, and steps run operation by operation."""
        self.take_turn()
        try:
            keys = len(self.keys)
            steps: list[Steps] = [self, *beside]
            before = self._ops.warm(steps, self._memory, self._limits, lambda done, of: report(done, of + keys))
            self.counts = StepCounts()
            for number, key in enumerate(reversed(self.keys), before + 1):
                if key not in self._graphs:
                    self._graphs[key] = self._make(key)
                report(number, before + keys)
        except BaseException:
            self._graphs.clear()
            self._recorder.retire()
            raise

    def __call__(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> Rows:
        step = self._cut(ids, metadata, rows)
        key = key_for(self.keys, len(ids), len(rows))
        why = self._why_eager(key, metadata)
        if why is None and key is not None:
            graph = self._graphs[key]
            try:
                self.counts.words += graph.planned.send(step)
            except CapacityError:
                why = "no room"
            else:
                self.counts.replayed[key] += 1
                self.counts.tokens += len(ids)
                self.counts.padding += key.tokens - len(ids)
                return graph.replay()[: len(rows)]
        self.counts.eager[str(why)] += 1
        return self._eager(step)

    def _why_eager(self, key: Key | None, metadata: AttentionMetadata) -> str | None:
        if key is None:
            return "too large"
        if key not in self._graphs:
            return "not recorded"
        if metadata.states is not None and cut_rounds(metadata.states):
            return "cells"  # graphs walk: other rounding, and slower
        return None

    def _cut(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> Step:
        step = Step(ids, metadata, rows, ())
        cuts = [
            None if pool.cutting is None else cut(step.of_pool(index), pool.cutting)
            for index, pool in enumerate(self._pools)
        ]  # fmt: skip
        return step._replace(cuts=tuple(cuts))

    def _make(self, key: Key) -> Graph:
        """A step of nothing is recorded, so that it writes nothing."""
        states = None if self._memory.states is None else StateCapacity(key.tokens, key.tokens, key.tokens)
        launches = tuple(
            launches_within(key.tokens, self._limits.context_length, pool.cutting) for pool in self._pools
        )  # fmt: skip
        planned = PlannedStep(self._pools, Size(key.tokens, key.rows, launches, states), self._buffers)
        planned.walk_all()
        planned.empty()
        replay = self._recorder(lambda: self._compute(planned))
        self.counts.recordings += 1
        return Graph(planned, replay)

    def _eager(self, step: Step) -> Rows:
        launches = tuple(launches_of(pieces) for pieces in step.cuts)
        states = None if self._memory.states is None else state_needed_of(step.metadata)
        size = Size(len(step.ids), len(step.rows), launches, states)
        try:
            planned = PlannedStep(self._pools, size, self._buffers)
            self.counts.words += planned.send(step)
        except CapacityError:
            planned = PlannedStep(self._pools, size, self._own_buffers(step))
            self.counts.words += planned.send(step)
        if len(step.rows):
            return self._compute(planned)
        nothing: Rows = self._network.forward(planned.ids, planned.plans, self._memory)[:0]
        return nothing

    def _own_buffers(self, step: Step) -> StepBuffers:
        """For a step that exceeds what was planned for."""
        num_tokens = len(step.ids)
        limits = StepLimits(max(num_tokens, 1), num_tokens, 1)
        room = Room.of(limits, self._pools, self._memory.states is not None)
        words, partials = room.words, 1
        for index, pieces in enumerate(step.cuts):
            if pieces is not None:
                words += tail_size(step.of_pool(index), pieces)
                partials = max(partials, pieces.num_partials)
        return StepBuffers(room._replace(words=words, partials=partials), self._pools, self._ops.device)

    def _compute(self, planned: PlannedStep) -> torch.Tensor:
        """Logits are written to where all steps have them."""
        hidden = self._network.forward(planned.ids, planned.plans, self._memory)
        turn = self._ops.turn
        turn.logits = self._logits
        try:
            logits: torch.Tensor = self._network.logits(hidden, planned.rows)
        finally:
            turn.logits = None
        return logits


def state_needed_of(metadata: AttentionMetadata) -> StateCapacity:
    assert metadata.states is not None, "the step says nothing of slots"
    return state_needed(metadata.states)


def cut_pools(ops: GraphOps, num_heads: int, shape: MemoryShape) -> Sequence[Pool]:
    """The pools of blocks, and how their attention is cut."""
    shapes = [shape.full] if shape.window is None else [shape.full, shape.window]
    return pools_of(shape, [ops.cutting(num_heads, each) if each.num_layers else None for each in shapes])
