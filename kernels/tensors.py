"""`RowOps` on tensors of torch, and what is done to logits, on any device that it knows, and what is free there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stemma.kernels.changes import LARGEST_LOGIT, Changes, LogProbs

ROWS_AT_ONCE = 64
"""Rows whose log-probabilities are in memory together."""


class TensorRows:
    """Has no state."""

    def copy(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    def with_ones(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x, torch.ones_like(x)), dim=-1)

    def cap(self, x: torch.Tensor, softcap: float) -> torch.Tensor:
        return softcap * torch.tanh(x / softcap)

    def are_finite(self, x: torch.Tensor) -> bool:
        return bool(torch.isfinite(x).all())

    def total(self, x: torch.Tensor) -> npt.NDArray[np.float64]:
        return x.double().sum(0).cpu().numpy()

    def log_softmax(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(logits, -1)

    def take(self, x: torch.Tensor, rows: npt.NDArray[np.int32]) -> torch.Tensor:
        return x.index_select(0, upload(rows, x.device))


class TensorLogits:
    """What `Ops` do to logits, with torch's operations."""

    def adjust(self, logits: torch.Tensor, changes: Changes) -> None:
        places, masks = changes
        if len(places.rows):
            rows, tokens, bias, factor, added = (upload(array, logits.device) for array in places)
            values = logits[rows.long(), tokens.long()] + bias
            limited = torch.where(values > 0, values / factor, values * factor).clamp(max=LARGEST_LOGIT)
            logits[rows.long(), tokens.long()] = torch.where(factor == 1, values, limited) + added
        if len(masks.rows):
            bits = np.unpackbits(masks.words.view(np.uint8), axis=1, bitorder="little", count=logits.shape[1])
            index = upload(masks.rows, logits.device).long()
            logits[index] = logits[index].masked_fill(upload(bits == 0, logits.device), float("-inf"))

    def log_probs(self, logits: torch.Tensor, tokens: npt.NDArray[np.int32], count: int) -> LogProbs:
        found = LogProbs([], [], [])
        for first in range(0, len(logits), ROWS_AT_ONCE):
            own = torch.log_softmax(logits[first : first + ROWS_AT_ONCE], -1)
            places = upload(tokens[first : first + ROWS_AT_ONCE], logits.device).long()
            values, ids = own.topk(count)
            found.own.extend(own.gather(1, places[:, None])[:, 0].tolist())
            found.ids.extend(ids.tolist())
            found.values.extend(values.tolist())
        return found


def upload(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """To a device, without waiting for what it is doing."""
    host = torch.from_numpy(np.ascontiguousarray(array))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def definite(device: torch.device) -> torch.device:
    """The same with its index: "cuda" alone is another device in another thread."""
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def free_memory(device: torch.device) -> int | None:
    """Bytes, of a device with memory of its own."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def total_memory(device: torch.device) -> int | None:
    """Likewise, free or not."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None
