"""The tokens that were sampled last stay on the device, where the next step finds them before the host knows them.

    host      launch 2           wait for 1        sample 2       launch 3
    device    sample 1 | embed 2: id -1 - r reads `tokens[r]`, written by sample 1 | ... | sample 2 writes `tokens`

All of it happens on one stream, so a token is read before the next one takes its place. Their way to the host is a copy
into pinned memory right behind the sampling, with an event behind that: whoever waits, waits for no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from stemma.kernels.sampled import MOST_AHEAD, Int32Array
from stemma.kernels.triton.embed import embed_kernel
from stemma.kernels.triton.launches import Launcher

TILE = 1024


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """Tokens that are copied to the host. arrived: None where the device is the host."""

    host: torch.Tensor
    arrived: torch.cuda.Event | None

    def tokens(self) -> Int32Array:
        if self.arrived is not None:
            self.arrived.synchronize()
        ids: Int32Array = self.host.numpy()
        return ids


class LastTokens:
    """The tokens of the last sampling: at one address, because recorded steps read them there."""

    def __init__(self, device: torch.device, launch: Launcher) -> None:
        self._launch = launch
        self.tokens = torch.zeros(MOST_AHEAD, dtype=torch.int32, device=device)

    def room(self, count: int) -> torch.Tensor:
        """Where so many tokens go. Those of more rows than may be named ahead are kept for nobody."""
        return self.tokens[:count] if count <= MOST_AHEAD else self.tokens.new_empty(count)

    def embed(self, table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Rows of a table (vocabulary, features); a negative id is one of these tokens."""
        out = table.new_empty((len(ids), table.shape[1]))
        arguments = {
            "table": table,
            "ids": ids,
            "sampled": self.tokens,
            "out": out,
            "FEATURES": table.shape[1],
            "TILE": TILE,
        }
        self._launch(embed_kernel, (len(ids), triton.cdiv(table.shape[1], TILE)), arguments, 4, 1)
        return out

    def send(self, tokens: torch.Tensor) -> OnTheWay:
        """Start a copy of what was written to the host. Without tokens there is an event all the same: who waits for a
        step that samples nothing is one step behind the device too."""
        if tokens.device.type != "cuda":
            return OnTheWay(tokens.clone(), None)
        host = torch.empty(len(tokens), dtype=torch.int32, pin_memory=True)
        host.copy_(tokens, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch says nothing of it
        arrived.record()
        return OnTheWay(host, arrived)
