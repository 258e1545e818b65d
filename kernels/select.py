"""Which back end serves a device. The only place that knows all of them."""

from __future__ import annotations

import torch

from stemma.kernels.ops import Ops
from stemma.kernels.reference import ReferenceOps


class UnknownBackend(ValueError):
    """This machine has no such device or back end."""


def select_ops(device: str = "auto", backend: str = "auto", dtype: str = "auto", kv_dtype: str = "auto") -> Ops:
    """The back end of that name for a device; "auto" takes what suits. Raises UnknownBackend, saying what there is."""
    if backend not in ("auto", "reference"):
        raise UnknownBackend(f"there is no back end {backend!r}; there is 'reference'")
    if kv_dtype not in ("auto", dtype):
        raise UnknownBackend("the reference keeps its KV in the dtype of its activations; leave kv_dtype out")
    chosen = "cpu" if device == "auto" else device
    return ReferenceOps(torch.device(chosen), getattr(torch, "float32" if dtype == "auto" else dtype))
