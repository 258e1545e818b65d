"""Small steps as one call: the native calls of a step, recorded once for each size and run again.

A step of thirty layers is some two hundred calls from Python, a few microseconds each where kernels have just used the
caches: up to two milliseconds of a decode step. All of their arguments are the same for steps of one size, except the
addresses of the token ids, the plans and the rows of logits, which are found in the recording by their values and
replaced. A model's `forward` and `logits` must therefore consist of operations of `Ops` alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.attention.kv import CpuKV
from stemma.kernels.cpu.attention.plan import CpuPlan
from stemma.kernels.cpu.machine.ahead import furthest_byte
from stemma.kernels.cpu.machine.dialect import I64, Code
from stemma.kernels.cpu.machine.threads import FOLLOWING
from stemma.kernels.cpu.states.slots import CpuStates
from stemma.kernels.limits import Report, Steps
from stemma.kernels.memory import Memory, Planner, Plans, ReadRows, make_plans, read_rows
from stemma.kernels.ops import AttentionMetadata, Int32Array, KVShape, Network
from stemma.kernels.steps import run

Floats = npt.NDArray[np.float32]
COMMAND_WORDS = 17
"""The address of an operation and its arguments, those behind the control block; in the last word, where the arguments
of the next matrix product are."""

MAX_TOKENS = 64
"""Steps of more tokens take so long that their calls do not matter."""

MAX_RECORDINGS = 256


def add_replay(module: ir.Module) -> None:
    """replay(control, commands, count): call each command's operation with its arguments, zeros behind the last.

    Meanwhile operations may look at what comes after them.
    """
    code = Code(module, "replay", 3)
    control, commands, count = code.arguments
    with code.loop(0, count) as index:
        command = commands + index * (8 * COMMAND_WORDS)
        arguments = [code.load_int(command, word) for word in range(1, COMMAND_WORDS - 1)]
        code.store(code.load_int(command, COMMAND_WORDS - 1), control + 8 * FOLLOWING, 8)
        code.call_address(code.load_int(command), control, *arguments)
    code.store(code.constant(I64, 0), control + 8 * FOLLOWING, 8)
    code.finish()


class NativeCall(NamedTuple):
    """One call of native code. operation: a function of ctypes."""

    operation: object
    arguments: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """commands: (calls, COMMAND_WORDS). places: flat indexes of each changing address. buffers: what it writes to."""

    commands: npt.NDArray[np.int64]
    places: tuple[npt.NDArray[np.intp], ...]
    logits: Floats
    buffers: tuple[Floats, ...]

    @classmethod
    def of(
        cls, calls: list[NativeCall], addresses: tuple[int, ...], logits: Floats, buffers: tuple[Floats, ...],
        product: object,
    ) -> Recording:  # fmt: skip
        """product: the operation that matrix products are. Behind a step's last one, its first is the next."""
        commands = np.zeros((len(calls), COMMAND_WORDS), dtype=np.int64)
        for command, call in zip(commands, calls, strict=True):
            command[0] = ctypes.cast(call.operation, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
            command[1 : 1 + len(call.arguments)] = call.arguments
        products = np.flatnonzero([call.operation is product for call in calls])
        if len(products):
            following = products[np.searchsorted(products, np.arange(len(calls)), side="right") % len(products)]
            commands[:, -1] = commands.ctypes.data + following * commands.strides[0] + commands.itemsize
        places = tuple(np.flatnonzero(commands == address) for address in addresses)
        return cls(commands, places, logits, buffers)

    @property
    def is_whole(self) -> bool:
        """Whether native code alone read what changes; embeddings of some storage types are read by numpy."""
        return all(map(len, self.places))

    def point_to(self, addresses: tuple[int, ...]) -> None:
        """Let the commands read another step's arrays."""
        flat = self.commands.reshape(-1)
        for places, address in zip(self.places, addresses, strict=True):
            flat[places] = address


class Recorder(Planner, Protocol):
    """What an executor asks of the operations that it records."""

    @property
    def product(self) -> object:
        """The operation of matrix products."""

    def recorded(self) -> AbstractContextManager[list[NativeCall]]:
        """Collect the native calls that this thread makes; they are made as well."""

    def buffers(self) -> tuple[Floats, ...]:
        """The memory that recorded calls write to."""

    def replay(self, commands: npt.NDArray[np.int64], plans: Sequence[tuple[CpuPlan, KVShape]], num_heads: int) -> None:
        """Make recorded calls again, for a step with these plans."""


class CpuExecutor:
    """The CPU's `StepExecutor`: the first step of a size is run as it is, the second is recorded, others replay it."""

    def __init__(self, ops: Recorder, network: Network, num_heads: int, memory: Memory) -> None:
        self._ops, self._network, self._num_heads, self._memory = ops, network, num_heads, memory
        self._recordings: dict[tuple[int, int], Recording | None] = {}
        self._can_record = True

    def record(self, report: Report, beside: Sequence[Steps] = ()) -> None:
        """Sizes are recorded as they come: here that costs a step no time."""

    def take_turn(self) -> None:
        """One thread is as good as another."""

    def __call__(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> Floats:
        ids, rows = (np.ascontiguousarray(array, dtype=np.int32) for array in (ids, rows))
        plans = make_plans(self._ops, metadata, self._memory)
        pools = self._pools(plans)
        for kv, plan in pools:
            kv.ahead.reach(furthest_byte(plan.metadata.slots, kv.shape.block_size, kv.block_stride))
        states = self._memory.states
        if isinstance(states, CpuStates) and metadata.states is not None:
            states.ahead.reach((int(metadata.states.targets.max(initial=-1)) + 1) * states.stride)
        size = len(ids), len(rows)
        if len(ids) > max(MAX_TOKENS, len(rows)) or not len(rows):
            return self._run_rows(ids, plans, read_rows(self._ops, metadata, rows, self._memory))
        if len(ids) > MAX_TOKENS or not self._can_record:
            return self._run(ids, plans, rows)
        if size not in self._recordings:
            if len(self._recordings) == MAX_RECORDINGS:
                self._recordings.clear()
            self._recordings[size] = None
            return self._run(ids, plans, rows)  # buffers get their sizes
        addresses = self._addresses(ids, plans, rows)
        recording = self._recordings[size]
        if recording is None:
            with self._ops.recorded() as calls:
                logits = self._run(ids, plans, rows)
            recording = Recording.of(calls, addresses, logits, self._ops.buffers(), self._ops.product)
            self._recordings[size] = recording
            self._can_record = recording.is_whole
            return logits
        recording.point_to(addresses)
        self._ops.replay(recording.commands, [(plan, kv.shape) for kv, plan in pools], self._num_heads)
        return recording.logits

    def _pools(self, plans: Plans) -> list[tuple[CpuKV, CpuPlan]]:
        """The pools of KV that have layers, with their plans."""
        both = ((self._memory.full, plans.full), (self._memory.window, plans.window))
        return [(kv, plan) for kv, plan in both if isinstance(kv, CpuKV) and kv.shape.num_layers]

    def _addresses(self, ids: Int32Array, plans: Plans, rows: Int32Array) -> tuple[int, ...]:
        """What differs between steps of one size."""
        of_kv = [address for _, plan in self._pools(plans) for address in (plan.address, plan.positions, plan.slots)]
        of_states = [] if plans.states is None else [plans.states.address]
        return ids.ctypes.data, rows.ctypes.data, *of_kv, *of_states

    def _run(self, ids: Int32Array, plans: Plans, rows: Int32Array) -> Floats:
        logits: Floats = run(self._network, self._memory, ids, plans, rows)
        return logits

    def _run_rows(self, ids: Int32Array, plans: Plans, read: ReadRows) -> Floats:
        """Most rows of a prompt are never read: what the last layer would add to them is left out."""
        hidden = self._network.forward_rows(ids, plans, self._memory, read)
        logits: Floats = hidden
        if len(read.rows):
            logits = self._network.logits(hidden, np.arange(len(read.rows), dtype=np.int32))
        return logits
