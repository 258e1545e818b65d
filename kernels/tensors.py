"""`RowOps` on tensors of torch, on any device that it knows, and what is free there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


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

    def largest(self, row: torch.Tensor, count: int) -> tuple[list[int], list[float]]:
        values, ids = row.topk(count)
        return ids.tolist(), values.tolist()

    def add(self, row: torch.Tensor, places: npt.NDArray[np.int64], values: npt.NDArray[np.floating[Any]]) -> None:
        row[torch.from_numpy(places).to(row.device)] += torch.from_numpy(values).to(row.device, row.dtype)

    def penalise(self, row: torch.Tensor, places: npt.NDArray[np.int64], factor: float, most: float) -> None:
        index = torch.from_numpy(places).to(row.device)
        seen = row[index]
        row[index] = torch.where(seen > 0, seen / factor, seen * factor).clamp(max=most)


def definite(device: torch.device) -> torch.device:
    """The same with its index: "cuda" alone is another device in another thread."""
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def free_memory(device: torch.device) -> int | None:
    """Bytes, of a device with memory of its own."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def total_memory(device: torch.device) -> int | None:
    """Likewise, free or not."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else None
