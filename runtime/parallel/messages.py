"""What rank 0 tells the others, as pickles through a pipe that only these processes have."""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import IO, NamedTuple, TypeAlias

from stemma.kernels.limits import StepLimits
from stemma.kernels.memory import MemoryShape
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.core.runner import Step
from stemma.runtime.model.shards import Shard

LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Begin:
    """Load a part of a model. source, adapters: as `load` takes them. port: of rank 0's store."""

    source: str
    adapters: tuple[str, ...]
    config: EngineConfig
    shard: Shard
    port: int


class Allocate(NamedTuple):
    """Make pools of as many blocks as rank 0 has, for steps of these limits."""

    shape: MemoryShape
    limits: StepLimits


class Prepare(NamedTuple):
    """Compile what steps need, and compute one token with the others."""


class Said(NamedTuple):
    """A rank's answer: it is so far, or `wrong` says why not."""

    wrong: str | None = None


Message: TypeAlias = Begin | Allocate | Prepare | Step | Said


def device_of(device: str, rank: int) -> str:
    """Each rank has a GPU of its own; hosts' threads are shared."""
    return f"{device}:{rank}" if device == "cuda" else device


def send(pipe: IO[bytes], message: Message) -> None:
    """Raises OSError where nobody reads."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Message:
    """Raises EOFError where the other side is gone."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError("the other side of the pipe is gone")
    data = pipe.read(LENGTH.unpack(head)[0])
    message: Message = pickle.loads(data)
    return message
