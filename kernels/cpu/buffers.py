"""Memory that operations return, by thread, operation and shape: the next call of an operation writes over it."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from stemma.kernels.cpu.machine.threads import aligned_zeros
from stemma.kernels.cpu.steps import NativeCall

Floats = npt.NDArray[np.float32]


class Buffers(threading.local):
    """One thread's. calls: where its calls are recorded, if they are."""

    def __init__(self) -> None:
        self.calls: list[NativeCall] | None = None
        self._flat: dict[str, Floats] = {}
        self._views: dict[tuple[str, tuple[int, ...]], tuple[Floats, int]] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> tuple[Floats, int]:
        """An array of this shape and its address."""
        found = self._views.get((name, shape))
        return found if found is not None else self._make(name, shape)

    def memory(self) -> tuple[Floats, ...]:
        """All of it."""
        return tuple(self._flat.values())

    def _make(self, name: str, shape: tuple[int, ...]) -> tuple[Floats, int]:
        size = int(np.prod(shape))
        if name not in self._flat or len(self._flat[name]) < size:
            self._flat[name] = aligned_zeros(size * 4).view(np.float32)
            self._views = {key: view for key, view in self._views.items() if key[0] != name}
        view = self._flat[name][:size].reshape(shape)
        self._views[name, shape] = (view, view.ctypes.data)
        return self._views[name, shape]
