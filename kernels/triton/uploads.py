"""What a step tells the device: named int32 arrays in one buffer, sent with one copy out of pinned memory.

    | ids . . | positions . . | slots . . | listed | ... |  rectangles  |  block tables  |
    |<--- fields: fixed places, filled up ------------->|<--- tail: as long as it is --->|
                                                         ^ where the parts of the tail begin stands in a field

A graph reads fields where they were when it was recorded. Parts of the tail are found by numbers that it reads, so a
step sends what it needs and no more. Fields of other types (float32, float64) are arrays of int32 words of their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from stemma.kernels.ops import Int32Array

ALIGNMENT = 4
"""Words: fields begin at multiples of 16 bytes, so that no launch is specialised otherwise than another."""

DEPTH = 3
"""Buffers of pinned memory: one is filled while the copies out of two others may still wait for their step."""


class CapacityError(ValueError):
    """A step does not fit the buffers that it should be put into: run it with a plan of its own."""


class Staging:
    """Pinned buffers in rotation, each kept until the copy out of it has been made. On a CPU, ordinary memory.

    num_allocations, num_waits: of buffers, and of the host for a copy that had not been made; for tests.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._is_pinned, self._cuda = device.type == "cuda", cuda
        self._buffers: list[torch.Tensor] = [torch.empty(0, dtype=torch.int32)] * DEPTH
        self._events: list[Any] = [None] * DEPTH
        self._next = 0
        self.num_allocations = self.num_waits = 0

    def take(self, size: int) -> torch.Tensor:
        """A buffer of at least so many words. The one before must have been sent."""
        event = self._events[self._next]
        if event is not None and not event.query():
            self.num_waits += 1
            event.synchronize()
        if len(self._buffers[self._next]) < size:
            self.num_allocations += 1
            # Up to a power of two: a context that grows needs a new buffer each time it doubles.
            words = 1 << (size - 1).bit_length()
            self._buffers[self._next] = torch.empty(words, dtype=torch.int32, pin_memory=self._is_pinned)
        return self._buffers[self._next]

    def send(self, size: int, destination: torch.Tensor) -> None:
        """Copy the first words of the buffer that was taken last, in the order of the current stream."""
        destination[:size].copy_(self._buffers[self._next][:size], non_blocking=True)
        if self._is_pinned:
            if self._events[self._next] is None:
                self._events[self._next] = self._cuda.Event()
            self._events[self._next].record()
        self._next = (self._next + 1) % DEPTH


class Tail:
    """Parts of an upload behind its fields. start: where the first of them begins."""

    def __init__(self, start: int = 0) -> None:
        self._end = start
        self.parts: list[Int32Array] = []

    def add(self, part: Int32Array) -> int:
        """Returns where it begins."""
        flat = part.reshape(-1)
        self.parts.append(flat)
        start, self._end = self._end, self._end + len(flat)
        return start

    @property
    def end(self) -> int:
        return self._end


class Buffer(NamedTuple):
    """Memory of a device for uploads, and how to get there. Several `Uploads` may use it in turn."""

    words: torch.Tensor
    staging: Staging

    @classmethod
    def of(cls, size: int, device: torch.device) -> Buffer:
        return cls(torch.zeros(size, dtype=torch.int32, device=device), Staging(device))


class Uploads:
    """Fields of the given sizes in a buffer, or in one of their own that has room for a tail of so many words.

    Raises CapacityError if a buffer is too small.
    """

    def __init__(
        self, sizes: Mapping[str, int], device: torch.device, tail: int = 0, buffer: Buffer | None = None
    ) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        total = 0
        for name, size in sizes.items():
            self._places[name] = total, size
            total += -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
        self._total = total
        buffer = Buffer.of(total + tail, device) if buffer is None else buffer
        self.words, self._staging = buffer
        self._check(total)
        self._views: dict[str, torch.Tensor] = {}

    @property
    def device(self) -> torch.device:
        return self.words.device

    def __getitem__(self, name: str) -> torch.Tensor:
        view = self._views.get(name)
        if view is None:
            start, size = self._places[name]
            view = self._views[name] = self.words[start : start + size]
        return view

    def tail(self) -> Tail:
        """For `send`."""
        return Tail(self._total)

    def send(self, arrays: Mapping[str, Int32Array], fill: Mapping[str, int], tail: Tail | None = None) -> int:
        """Send arrays; what is shorter than its field ends in `fill`, or zeros. Returns how many words were sent.

        Raises CapacityError if the tail does not fit.
        """
        end = self._total if tail is None else tail.end
        self._check(end)
        staging = self._staging.take(end)
        host = staging.numpy()
        for name, (start, size) in self._places.items():
            length = 0
            if name in arrays:
                flat = arrays[name].reshape(-1)
                length = len(flat)
                if length > size:
                    raise CapacityError(f"{length} words of {name} do not fit {size}; make the step a plan of its own")
                host[start : start + length] = flat
            host[start + length : start + size] = fill.get(name, 0)
        for part in () if tail is None else place_parts(tail, self._total):
            host[part[0] : part[0] + len(part[1])] = part[1]
        self._staging.send(end, self.words)
        return end

    def _check(self, end: int) -> None:
        if end > len(self.words):
            raise CapacityError(
                f"{end} words do not fit a buffer of {len(self.words)}; make the step a plan of its own"
            )


def place_parts(tail: Tail, start: int) -> Sequence[tuple[int, Int32Array]]:
    """Each part of a tail and where it begins."""
    ends = np.cumsum([start, *map(len, tail.parts)]).tolist()
    return list(zip(ends, tail.parts, strict=False))


@dataclass(frozen=True, slots=True)
class Fields:
    """Those fields of an upload whose names begin alike: what one plan of a step reads of what is sent for all."""

    uploads: Uploads
    prefix: str = ""

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.uploads[self.prefix + name]

    @property
    def words(self) -> torch.Tensor:
        """All of the upload."""
        return self.uploads.words

    @property
    def device(self) -> torch.device:
        return self.uploads.device


def named(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """With names that begin so."""
    return {prefix + name: value for name, value in values.items()}
