"""Which back end serves a device. The only place that knows all of them."""

from __future__ import annotations

import logging

import torch

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.target import UnsupportedCPU, host_target
from stemma.kernels.ops import Ops
from stemma.kernels.reference import ReferenceOps

log = logging.getLogger(__name__)


class UnknownBackend(ValueError):
    """This machine has no such device or back end."""


def select_ops(device: str = "auto", backend: str = "auto", dtype: str = "auto", kv_dtype: str = "auto") -> Ops:
    """The back end of that name for a device; "auto" takes what suits. Raises UnknownBackend, saying what there is."""
    chosen = "cpu" if device == "auto" else device
    if backend == "auto":
        backend = _fastest(chosen, dtype)
    if backend == "reference":
        return _reference(chosen, dtype, kv_dtype)
    if backend == "cpu":
        return _cpu(chosen, dtype, kv_dtype)
    raise UnknownBackend(f"there is no back end {backend!r}; there are 'cpu' and 'reference'")


def _fastest(device: str, dtype: str) -> str:
    """The compiled kernels where the machine and the dtype allow them; says so where they do not."""
    if device != "cpu" or dtype not in ("auto", "float32"):
        return "reference"
    try:
        host_target()
    except UnsupportedCPU as error:
        log.warning("running on the slow reference kernels: %s", error)
        return "reference"
    return "cpu"


def _cpu(device: str, dtype: str, kv_dtype: str) -> Ops:
    if device != "cpu":
        raise UnknownBackend(f"the back end 'cpu' cannot serve the device {device!r}")
    if dtype not in ("auto", "float32") or kv_dtype not in ("auto", "float32"):
        raise UnknownBackend("the back end 'cpu' computes in float32; leave dtype and kv_dtype out")
    try:
        return CpuOps()
    except UnsupportedCPU as error:
        raise UnknownBackend(f"{error}; use backend='reference'") from error


def _reference(device: str, dtype: str, kv_dtype: str) -> Ops:
    if kv_dtype not in ("auto", dtype):
        raise UnknownBackend("the reference keeps its KV in the dtype of its activations; leave kv_dtype out")
    return ReferenceOps(torch.device(device), getattr(torch, "float32" if dtype == "auto" else dtype))
