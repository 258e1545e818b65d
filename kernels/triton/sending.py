"""Dense weights from their files to the device: as they are stored, through pinned memory, by several threads.

    file's pages  --threads-->  pinned buffer 1  --copy engine-->  device      what is not stored in the type that is
                  --threads-->  pinned buffer 2  --copy engine-->  device      computed in is converted there

A number is copied once on the host, and never widened there: bfloat16 is sent as the 16 bits that it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from stemma.kernels.weights import StoredWeight, dequantize

BUFFER_BYTES = 32 << 20
NUM_BUFFERS = 2
MOST_THREADS = 8
LEAST_BYTES = 1 << 20
"""Of one thread's part: less is copied by the thread that sends."""

STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that are sent as they are stored; blocks are unpacked to float32."""


class Buffer:
    """Pinned memory, which may be written again when what was sent from it is there."""

    def __init__(self) -> None:
        self.bytes = torch.empty(BUFFER_BYTES, dtype=torch.uint8, pin_memory=True)
        self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch says nothing of it

    def wait(self) -> None:
        self._sent.synchronize()

    def mark(self) -> None:
        self._sent.record()


class Sender:
    """Sends to one device, in the order of the thread's stream there. staged: whether through pinned buffers."""

    def __init__(self, device: torch.device, staged: bool | None = None) -> None:
        self.device = device
        self._staged = device.type == "cuda" if staged is None else staged
        self._buffers: list[Buffer] = []
        self._turn = 0

    def dense(self, parts: Sequence[StoredWeight], dtype: torch.dtype) -> torch.Tensor:
        """The matrices (out_i, in) one under the other, of this type, on the device."""
        width = parts[0].shape[1]
        whole = torch.empty((sum(part.shape[0] for part in parts), width), dtype=dtype, device=self.device)
        at = 0
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "stemma-weights") as pool:
            for part in parts:
                kind = STORED.get(part.type, torch.float32)
                step = max(1, BUFFER_BYTES // (kind.itemsize * width))
                for first in range(0, part.shape[0], step):
                    piece = part.rows(slice(first, first + step))
                    self._send(piece, kind, whole[at : at + piece.shape[0]], pool)
                    at += piece.shape[0]
        return whole

    def _send(self, piece: StoredWeight, kind: torch.dtype, into: torch.Tensor, pool: ThreadPoolExecutor) -> None:
        num_bytes = into.numel() * kind.itemsize
        if self._staged and num_bytes <= BUFFER_BYTES:
            buffer = self._next()
            staged = buffer.bytes[:num_bytes].view(kind).view(into.shape)
            _fill(staged, piece, pool)
            sent = staged if kind == into.dtype else staged.to(self.device, non_blocking=True)
            into.copy_(sent, non_blocking=True)
            buffer.mark()
            return
        direct = into if into.device.type == "cpu" and kind == into.dtype else torch.empty(into.shape, dtype=kind)
        _fill(direct, piece, pool)
        if direct is not into:
            into.copy_(direct)

    def _next(self) -> Buffer:
        """The buffer whose turn it is, when what was sent from it is there."""
        if len(self._buffers) < NUM_BUFFERS:
            self._buffers.append(Buffer())
            return self._buffers[-1]
        buffer = self._buffers[self._turn % NUM_BUFFERS]
        self._turn += 1
        buffer.wait()
        return buffer


def _fill(staged: torch.Tensor, piece: StoredWeight, pool: ThreadPoolExecutor) -> None:
    """Put the numbers of a piece into host memory, row by row in as many threads as it pays."""
    rows = piece.shape[0]
    parts = max(1, min(MOST_THREADS, staged.nbytes // LEAST_BYTES, rows))
    target: Any = (staged.view(torch.int16) if staged.dtype == torch.bfloat16 else staged).numpy()

    def fill(index: int) -> None:
        part = slice(index * rows // parts, (index + 1) * rows // parts)
        np.copyto(target[part], _numbers(piece.rows(part)))

    if parts == 1:
        fill(0)
    else:
        list(pool.map(fill, range(parts)))


def _numbers(weight: StoredWeight) -> Any:
    """As they are stored, bfloat16 as integers; of blocks, unpacked."""
    if weight.type == "BF16":
        return weight.data.view(np.int16)
    return weight.data if weight.type in STORED else dequantize(weight)
