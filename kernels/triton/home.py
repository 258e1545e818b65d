"""Where a thread's launches go: Triton launches on the thread's current device and stream, whatever the tensors are on.

thread that loads      |-- weights --|- one token -|
the home's stream      |-----------------------------------------------|   one order for all that is launched
the loop's thread                                  |-- steps ----------|
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Home:
    """One device with an index, and one stream on it. On a CPU, where the interpreter runs, there is nothing to enter.

    The stream is its own: what a user's code launches in the same process neither waits for it nor holds it up.
    """

    def __init__(self, device: torch.device) -> None:
        assert device.type != "cuda" or device.index is not None, "a thread's current device is not another one's"
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Inside, this thread works there. What it launched before comes before, what it launches after comes after."""
        if self._stream is None:
            yield
            return
        outer = torch.cuda.current_stream(self._device)
        with torch.cuda.device(self._device):
            if outer == self._stream:
                yield
                return
            self._stream.wait_stream(outer)
            with torch.cuda.stream(self._stream):
                yield
            outer.wait_stream(self._stream)
