"""A rank behind the first: a process that loads its part of the model and computes the steps that it is told.

    python -m stemma.runtime.parallel.follower    messages come through stdin, answers go to what stdout was

It ends when rank 0's end of the pipe does, however that came about.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import IO

from stemma.kernels.memory import MemoryShape, allocate
from stemma.kernels.select import select_ops
from stemma.runtime.core.runner import Runner, Step
from stemma.runtime.model import ModelConfig
from stemma.runtime.model.load import Part, load
from stemma.runtime.model.shards import Division
from stemma.runtime.parallel.group import TorchGroup
from stemma.runtime.parallel.messages import Allocate, Begin, Prepare, Said, device_of, receive, send


def widths_of(division: Division) -> list[int]:
    """Logits that each rank computes."""
    parts = [division.vocabulary(rank) for rank in range(division.shard.size)]
    return [part.stop - part.start for part in parts]


def pools_of(shape: MemoryShape, config: ModelConfig) -> MemoryShape:
    """Rank 0's pools, with the heads of another rank."""
    own = config.memory_shape(1, shape.full.block_size, num_window_blocks=1, num_slots=1)
    window = own.window
    if window is not None and shape.window is not None:
        window = window._replace(num_blocks=shape.window.num_blocks)
    return MemoryShape(own.full._replace(num_blocks=shape.full.num_blocks), window)


def follow(inbox: IO[bytes], outbox: IO[bytes]) -> None:
    """Until the inbox ends."""
    begin = receive(inbox)
    assert isinstance(begin, Begin), "a rank is told first what to load"
    try:
        runner = _runner(begin, inbox, outbox)
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        send(outbox, Said(f"{type(error).__name__}: {error}"))
        return
    with runner.model.ops.on_device():
        prepare(runner, inbox, outbox)
        runner.try_once()
        while True:
            step = receive(inbox)
            assert isinstance(step, Step), "a rank is told steps from then on"
            runner.compute(step)


def prepare(runner: Runner, inbox: IO[bytes], outbox: IO[bytes]) -> None:
    """Compile what steps need, when rank 0 has."""
    asked = receive(inbox)
    assert isinstance(asked, Prepare), "a rank is told last to be ready"
    runner.record(lambda num_done, num_all: None)
    send(outbox, Said())


def _runner(begin: Begin, inbox: IO[bytes], outbox: IO[bytes]) -> Runner:
    """Its part of the model, and pools like rank 0's."""
    config, shard = begin.config, begin.shard
    device = device_of(config.device, shard.rank)

    def group(division: Division) -> TorchGroup:
        send(outbox, Said())  # here, and about to meet the others
        return TorchGroup(shard, begin.port, widths_of(division), device)

    ops = select_ops(
        device, config.backend, config.dtype, config.kv_dtype, sharing=shard.size, graphs=config.graphs,
        quantization=config.quantization,
    )  # fmt: skip
    loaded = load(
        begin.source, ops, adapters=begin.adapters, context_length=config.context_length, part=Part(shard, group)
    )
    asked = receive(inbox)
    assert isinstance(asked, Allocate), "a rank is told then how much memory to have"
    with ops.on_device():
        memory = allocate(loaded.model.ops, pools_of(asked.shape, loaded.config))
        runner = Runner(loaded.model, memory, limits=asked.limits)
    send(outbox, Said())
    return runner


def main() -> None:
    """Whatever is printed goes to stderr: stdout is for answers alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: rank 0 hears it, and ends this one
    outbox = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        follow(sys.stdin.buffer, outbox)
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
