"""Rank 0's side: starts the other ranks, tells them each step, and ends them.

engine's loop -> Runner -> Team.tell(step) ==pipe==> follower -> Runner
                        -> model  <--- sums over ranks ---> model
"""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

from stemma.kernels.limits import StepLimits
from stemma.kernels.memory import MemoryShape
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.core.runner import Step
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.load import Part
from stemma.runtime.model.shards import Division, Shard
from stemma.runtime.parallel.follower import widths_of
from stemma.runtime.parallel.group import RankLost, TorchGroup, open_store
from stemma.runtime.parallel.messages import Allocate, Begin, Message, Prepare, Said, device_of, receive, send

SECONDS_TO_END = 10.0
"""For a rank whose pipe was closed; behind that it is killed."""

Process = subprocess.Popen[bytes]


class Team:
    """The other ranks of one engine's model. They go when it is closed, or nobody refers to it any more."""

    def __init__(self, source: str | Path, adapters: Sequence[str | Path], config: EngineConfig) -> None:
        self._source, self._adapters, self._config = str(source), tuple(map(str, adapters)), config
        self._size = config.tensor_parallel
        self._group: TorchGroup | None = None
        self._processes: list[Process] = []
        self._end = weakref.finalize(self, _end, self._processes)

    @property
    def part(self) -> Part:
        """What rank 0 loads."""
        return Part(Shard(0, self._size), self._meet)

    def allocate(self, shape: MemoryShape, limits: StepLimits) -> None:
        """Have the others make their pools. Raises InvalidRequest where one does not fit, RankLost where one ended."""
        self._tell(Allocate(shape, limits))
        self._check_all()

    def prepare(self) -> None:
        """Have the others compile what their steps need: after this rank, since they find most of it then. Raises
        likewise."""
        self._tell(Prepare())
        self._check_all()

    def tell(self, step: Step) -> None:
        """Have the others compute a step, along with this rank. Raises RankLost."""
        self._tell(step)

    def close(self) -> None:
        """End the other ranks. Safe to call twice."""
        if self._group is not None:
            self._group.end("the engine was closed")
        self._end()

    def _meet(self, division: Division) -> TorchGroup:
        """Start the others, once it is known that the model can be divided."""
        store = open_store(self._size)
        command = [sys.executable, "-m", "stemma.runtime.parallel.follower"]
        for rank in range(1, self._size):
            self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            shard = Shard(rank, self._size)
            self._send(rank, Begin(self._source, self._adapters, self._config, shard, store.port))
        self._check_all()
        device = device_of(self._config.device, 0)
        self._group = TorchGroup(Shard(0, self._size), store.port, widths_of(division), device, store)
        return self._group

    def _check_all(self) -> None:
        """Hear from each that it is so far."""
        for rank in range(1, self._size):
            if (wrong := self._hear(rank)) is not None:
                raise InvalidRequest(f"rank {rank} of the model: {wrong}", "tensor_parallel")

    def _tell(self, message: Message) -> None:
        for rank in range(1, self._size):
            self._send(rank, message)

    def _send(self, rank: int, message: Message) -> None:
        pipe = self._processes[rank - 1].stdin
        assert pipe is not None, "a pipe was asked for"
        try:
            send(pipe, message)
        except (OSError, ValueError) as error:
            raise self._lost(rank) from error

    def _hear(self, rank: int) -> str | None:
        """What is wrong with a rank, or None."""
        pipe = self._processes[rank - 1].stdout
        assert pipe is not None, "a pipe was asked for"
        try:
            said = receive(pipe)
        except EOFError as error:
            raise self._lost(rank) from error
        assert isinstance(said, Said), "ranks answer"
        return said.wrong

    def _lost(self, rank: int) -> RankLost:
        why = f"rank {rank} of the model ended (exit status {self._processes[rank - 1].poll()})"
        if self._group is not None:
            self._group.end(why)
        return RankLost(f"{why}: make a new engine")


def _end(processes: Sequence[Process]) -> None:
    """A rank whose pipe is closed ends by itself; one inside a step that nobody ends with it is killed."""
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what could not be written any more
                continue
    for process in processes:
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
