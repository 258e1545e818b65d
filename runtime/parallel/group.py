"""Ranks that speak through torch.distributed's process groups: gloo for hosts, NCCL for GPUs. Knows no model.

No global group is made, so a process may have several engines, and groups of its own beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed

from stemma.kernels.rows import Rows
from stemma.runtime.errors import InvalidRequest, StemmaError
from stemma.runtime.model.shards import Shard

HOST = "127.0.0.1"
PATIENCE = timedelta(seconds=120)
"""How long a rank waits for another one inside a step, and for all to come."""


class RankLost(StemmaError):
    """Another rank of the model ended, or did not answer: nothing can be computed any more. Make a new engine."""


def check_devices(device: str, size: int) -> None:
    """Raises InvalidRequest unless each rank can have a device of its own, and speak to the others from there."""
    if device == "cpu":
        return
    if device != "cuda":
        raise InvalidRequest(
            f"ranks run on 'cpu', or on 'cuda', where rank r has the GPU cuda:r; device is {device!r}. To choose among "
            "GPUs, set CUDA_VISIBLE_DEVICES", "device",
        )  # fmt: skip
    if (count := torch.cuda.device_count()) < size:
        raise InvalidRequest(
            f"tensor_parallel={size} needs {size} GPUs, one a rank; this machine has {count} (CUDA_VISIBLE_DEVICES "
            "hides some)", "tensor_parallel",
        )  # fmt: skip
    if not distributed.is_nccl_available():
        raise InvalidRequest(
            f"torch {torch.__version__} has no NCCL, through which GPUs speak: install one for Linux that has it, or "
            "leave tensor_parallel at 1", "tensor_parallel",
        )  # fmt: skip


def open_store(size: int) -> Any:
    """Where ranks find each other, in rank 0's process; others know its `port`."""
    return distributed.TCPStore(HOST, 0, size, True, PATIENCE, wait_for_workers=False)  # type: ignore[attr-defined]


class TorchGroup:
    """All ranks; each makes one of its own, and waits until all have."""

    def __init__(self, shard: Shard, port: int, widths: list[int], device: str, store: Any = None) -> None:
        """widths: columns that each rank gives to `gather`. store: rank 0's own."""
        self.rank, self._size, self._widths = shard.rank, shard.size, widths
        rank, size = shard
        self._broken: str | None = None
        self._is_alone = False
        try:
            found = store or distributed.TCPStore(HOST, port, size, False, PATIENCE)  # type: ignore[attr-defined]
            self._group = _group(found, rank, size, device)
        except RuntimeError as error:
            raise RankLost(f"the {size} ranks of a model did not find each other: {error}") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, nobody is spoken to: there are results of the same shapes, whose numbers mean nothing."""
        self._is_alone = True
        try:
            yield
        finally:
            self._is_alone = False

    def sum(self, rows: Rows) -> Rows:
        """Each rank's rows added up in the ranks' order, in memory of its own: the same bits on all, in each run."""
        mine, is_host = _tensor(rows)
        parts = [torch.empty_like(mine) for _ in range(self._size)]
        self._together(lambda: self._group.allgather([parts], [mine]).wait())
        total = parts[0]
        for part in itertools.islice(parts, 1, None):
            total += part
        return total.numpy() if is_host else total

    def gather(self, rows: Rows) -> Rows:
        """On rank 0, the columns of all ranks side by side; elsewhere what that rank has."""
        mine, is_host = _tensor(rows)
        widest = max(self._widths)
        if mine.shape[1] < widest:  # what is sent is equally wide
            mine = torch.nn.functional.pad(mine, (0, widest - mine.shape[1]))
        parts = [torch.empty_like(mine) for _ in range(self._size)] if self.rank == 0 else []
        options = distributed.GatherOptions()
        options.rootRank = 0
        self._together(lambda: self._group.gather([parts] if self.rank == 0 else [], [mine], options).wait())
        if self.rank:
            return rows
        whole = torch.cat([part[:, :width] for part, width in zip(parts, self._widths, strict=True)], dim=1)
        return whole.numpy() if is_host else whole

    def end(self, why: str) -> None:
        """Nothing is computed together any more."""
        self._broken = self._broken or why

    def _together(self, call: Callable[[], object]) -> None:
        if self._is_alone:
            return
        if self._broken is not None:
            raise RankLost(f"the ranks of this model do not compute together any more ({self._broken})")
        try:
            call()
        except RuntimeError as error:
            self._broken = f"rank {self.rank} of {self._size} lost another one: {error}"
            raise RankLost(self._broken) from error


def _group(store: Any, rank: int, size: int, device: str) -> Any:
    if not device.startswith("cuda"):
        return distributed.ProcessGroupGloo(store, rank, size, PATIENCE)
    options = distributed.ProcessGroupNCCL.Options()
    options._timeout = PATIENCE
    return distributed.ProcessGroupNCCL(store, rank, size, options)


def _tensor(rows: Rows) -> tuple[torch.Tensor, bool]:
    """Rows as a tensor without gaps, and whether they are numpy's."""
    if isinstance(rows, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(rows)), True
    return rows.contiguous(), False
