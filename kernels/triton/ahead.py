"""The tokens that were sampled last stay on the device, where the next step finds them before the host knows them.

    host      launch 2           wait for 1        sample 2       launch 3
    device    sample 1 | embed 2: id -1 - r reads `tokens[r]`, written by sample 1 | ... | sample 2 writes `tokens`

All of it happens on one stream, so a token is read before the next one takes its place. Their way to the host is a copy
into pinned memory right behind the sampling, with an event behind that: whoever waits, waits for no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from stemma.kernels.changes import LogProbs
from stemma.kernels.sampled import MOST_AHEAD, Int32Array
from stemma.kernels.triton.embed import embed_kernel, embed_packed_kernel
from stemma.kernels.triton.launches import ELEMENTWISE_TILE, Launcher
from stemma.kernels.triton.packing import DenseLinear, PackedLinear
from stemma.kernels.triton.targets import cdiv


class OnTheWay:
    """Numbers that are copied to the host. there: on the device. With `send` others follow, and whoever waits then
    waits once for all."""

    def __init__(self, there: torch.Tensor) -> None:
        self.there = there
        self._arrived: torch.cuda.Event | None = None
        self._host = self.send(there)

    def send(self, numbers: torch.Tensor) -> torch.Tensor:
        """Start a copy. Returns where it will be."""
        if numbers.device.type != "cuda":
            return numbers.clone()
        host = torch.empty(len(numbers), dtype=numbers.dtype, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch says nothing of it
        self._arrived.record()
        return host

    def wait(self) -> None:
        """Until the last copy is done."""
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None

    def tokens(self) -> Int32Array:
        self.wait()
        ids: Int32Array = self._host.numpy()
        return ids


class LogProbsOnTheWay:
    """Log-probabilities of tokens, right behind them. read: makes them of the numbers on the host."""

    def __init__(self, sampled: OnTheWay, found: torch.Tensor, read: Callable[[Any], LogProbs]) -> None:
        self._sampled, self._host, self._read = sampled, sampled.send(found), read

    def log_probs(self) -> LogProbs:
        self._sampled.wait()
        return self._read(self._host.numpy())


class Turn(threading.local):
    """What a thread's steps leave for one another. Several engines may have one model, and so one back end. The steps
    of each are one thread's, and no other's come between them here, though they do on the stream.

    last: tokens that the next step may name. fields: of the last sampling, and as they lie on the device. logits:
    where the step under way has room for its own, if it does.
    """

    def __init__(self, make: Callable[[], LastTokens]) -> None:
        self.last = make()
        self.fields: tuple[Any, Any] = (None, None)
        self.logits: Any = None


class LastTokens:
    """The tokens of the last sampling: at one address, because recorded steps read them there. dtype: of rows."""

    def __init__(self, device: torch.device, dtype: torch.dtype, launch: Launcher) -> None:
        self._dtype, self._launch = dtype, launch
        self.tokens = torch.zeros(MOST_AHEAD, dtype=torch.int32, device=device)

    @classmethod
    def beside(cls, other: LastTokens) -> LastTokens:
        """Of another's device, type and launcher, in memory of its own."""
        return cls(other.tokens.device, other._dtype, other._launch)

    def room(self, count: int) -> torch.Tensor:
        """Where so many tokens go. Those of more rows than may be named ahead are kept for nobody."""
        return self.tokens[:count] if count <= MOST_AHEAD else self.tokens.new_empty(count)

    def embed(self, table: DenseLinear | PackedLinear, ids: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """Rows of a table (vocabulary, features), times scale; a negative id is one of these tokens."""
        features = table.in_features
        out = torch.empty((len(ids), features), dtype=self._dtype, device=ids.device)
        arguments = {
            "ids": ids,
            "sampled": self.tokens,
            "out": out,
            "factor": scale,
            "FEATURES": features,
            "SCALED": scale != 1.0,
            "TILE": ELEMENTWISE_TILE,
        }
        grid = len(ids), cdiv(features, ELEMENTWISE_TILE)
        if isinstance(table, DenseLinear):
            self._launch(embed_kernel, grid, arguments | {"table": table.weight}, 4, 1)
            return out
        packed = {
            "codes": table.codes,
            "scales": table.scales,
            "minima": table.scales if table.minima is None else table.minima,
            "FORMAT": table.format,
            "GROUP": table.group,
            "MINIMA": table.minima is not None,
        }
        self._launch(embed_packed_kernel, grid, arguments | packed, 4, 1)
        return out

    def send(self, tokens: torch.Tensor) -> OnTheWay:
        """Start a copy of what was written to the host. Without tokens there is an event all the same: who waits for a
        step that samples nothing is one step behind the device too."""
        return OnTheWay(tokens)
