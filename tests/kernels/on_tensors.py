"""The CPU's operations on tensors of torch, so that tests compare them with the reference as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stemma.kernels.cpu.ops import CpuOps


def tensor_ops(*arguments: Any, **named: Any) -> Any:
    """`CpuOps`, made of these arguments."""
    return OnTensors(CpuOps(*arguments, **named))


class OnTensors:
    """Stands for a back end, or a part of one: tensors come in as arrays in their memory, arrays of floats go out as
    tensors in theirs."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name in ("states", "rows"):
            return OnTensors(found)
        return on_tensors(found) if callable(found) else found


def on_tensors(operation: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        given = {key: _array(value) for key, value in named.items()}
        return _tensor(operation(*map(_array, arguments), **given))

    return called


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value
