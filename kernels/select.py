"""Which back end serves a device. The only place that knows all of them.

Each is imported when it is chosen: torch, of which the CPU's has no need, takes a second, and Triton another.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from stemma.kernels.cpu.attention.kv_dtypes import KV_DTYPES
from stemma.kernels.cpu.machine.cores import physical_cores
from stemma.kernels.cpu.machine.target import UnknownTarget, UnsupportedCPU, host_target
from stemma.kernels.gpus import UnknownBackend as UnknownBackend
from stemma.kernels.gpus import check_gpu, check_triton, has_driver
from stemma.kernels.ops import Ops
from stemma.machine_code import NoExecutableMemory

log = logging.getLogger(__name__)


DTYPES = ("float16", "bfloat16", "float32", "float64")
"""Of weights and activations: what the reference computes in; the other back ends offer fewer."""
GPU_DTYPES = ("bfloat16", "float16")
"""Those of the GPU's kernels."""


def select_ops(
    device: str = "auto", backend: str = "auto", dtype: str = "auto", kv_dtype: str = "auto", *, sharing: int = 1,
    graphs: bool = True, quantization: str | None = None,
) -> Ops:  # fmt: skip
    """The back end of that name for a device; "auto" takes what suits. Raises UnknownBackend, saying what there is.

    sharing: processes that compute together on a host's cores. graphs: on a GPU, record steps once and replay them.
    quantization: on a GPU, what dense weights are made of.
    """
    if device == "auto":
        device = choose_device(backend, dtype, kv_dtype)
    _check_device(device)
    if dtype not in ("auto", *DTYPES):
        raise UnknownBackend(f"nothing is computed in dtype {dtype!r}; there are {', '.join(DTYPES)}", "dtype")
    if backend == "auto":
        backend = _fastest(device, dtype)
    if quantization is not None and backend in ("cpu", "reference"):
        raise UnknownBackend(
            f"quantization={quantization!r} needs a GPU that multiplies floats of 8 bits (compute capability 8.9, 9, "
            f"10 or 12), which the back end {backend!r} does not use; leave it out, or take a GGUF of Q8_0 or Q4_K",
            "quantization",
        )
    if backend == "reference":
        return _reference(device, dtype, kv_dtype)
    if backend == "cpu":
        return _cpu(device, dtype, kv_dtype, sharing)
    if backend == "triton":
        return _triton(device, dtype, kv_dtype, graphs, quantization)
    raise UnknownBackend(f"there is no back end {backend!r}; there are 'cpu', 'triton' and 'reference'")


def choose_device(backend: str = "auto", dtype: str = "auto", kv_dtype: str = "auto") -> str:
    """What "auto" is: a GPU where the kernels for one can be used with these options, else the CPU. Says so, with the
    reason, where the machine has a GPU."""
    if backend not in ("auto", "triton") or not has_driver():
        return "cpu"
    try:
        _on_gpu("cuda", dtype, kv_dtype)
    except UnknownBackend as error:
        if backend == "triton":
            raise
        log.warning("running on the CPU, though this machine seems to have a GPU: %s", error)
        return "cpu"
    import torch

    log.warning("running on the GPU, %s; device='cpu' (--device cpu) stays on the CPU", torch.cuda.get_device_name())
    return "cuda"


def _check_device(name: str) -> None:
    if name == "cpu":
        return
    if name.startswith("cuda"):
        check_gpu(name)
        return
    import torch

    try:
        device = torch.empty(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # as each of torch's back ends has it
        raise UnknownBackend(f"this machine has no device {name!r}; use 'cpu' or 'cuda'", "device") from error
    if device.type == "meta":
        raise UnknownBackend("the device 'meta' computes nothing; use 'cpu' or 'cuda'", "device")


def _fastest(device: str, dtype: str) -> str:
    """The compiled kernels where the machine and the dtype allow them; says so where they do not."""
    if device.startswith("cuda") and dtype in ("auto", *GPU_DTYPES):
        return "triton"
    if device != "cpu" or dtype not in ("auto", "float32"):
        return "reference"
    try:
        host_target()
    except UnsupportedCPU as error:
        log.warning("running on the slow reference kernels: %s", error)
        return "reference"
    except UnknownTarget as error:
        raise UnknownBackend(str(error)) from error
    return "cpu"


def _cpu(device: str, dtype: str, kv_dtype: str, sharing: int) -> Ops:
    if device != "cpu":
        raise UnknownBackend(f"the back end 'cpu' cannot serve the device {device!r}", "device")
    if dtype not in ("auto", "float32"):
        raise UnknownBackend("the back end 'cpu' computes in float32; leave dtype out", "dtype")
    if kv_dtype not in ("auto", *KV_DTYPES):
        known = ", ".join(KV_DTYPES)
        raise UnknownBackend(f"the back end 'cpu' keeps its KV in {known}; it has no {kv_dtype!r}", "kv_dtype")
    from stemma.kernels.cpu.ops import CpuOps

    try:
        return CpuOps(num_threads=max(1, physical_cores() // sharing), kv_dtype=kv_dtype)
    except (UnsupportedCPU, NoExecutableMemory) as error:
        raise UnknownBackend(f"{error}; or use backend='reference'") from error
    except UnknownTarget as error:
        raise UnknownBackend(str(error)) from error


class _OnGPU(NamedTuple):
    """What Triton's kernels are made for: of a device that can be used, types that they have there."""

    target: Any
    dtype: Any
    kv_type: Any


def _on_gpu(device: str, dtype: str, kv_dtype: str, quantization: str | None = None) -> _OnGPU:
    """Makes nothing on the device. Raises UnknownBackend, saying what to change."""
    if device.startswith("cuda"):
        check_gpu(device)
    check_triton()
    import torch

    from stemma.kernels.triton.fp8 import eight_of
    from stemma.kernels.triton.targets import KV_TYPES, UnsupportedDevice, check_activation, kv_element, target_of

    kv_type = "activation" if kv_dtype in ("auto", dtype) else kv_dtype
    if kv_type not in KV_TYPES:
        message = f"the back end 'triton' has no kv_dtype {kv_dtype!r}; use 'auto', 'int8' or 'fp8'"
        raise UnknownBackend(message, "kv_dtype")
    activation = getattr(torch, "bfloat16" if dtype == "auto" else dtype)
    param = "backend" if device == "cpu" else "device"
    try:
        target = target_of(torch.device(device))
        param = "quantization"
        eight_of(target, quantization)
        param = "dtype"
        check_activation(activation)
        param = "kv_dtype"
        kv_element(target, kv_type, activation)
    except UnsupportedDevice as error:
        more = "; or use device='cpu' or backend='reference'" if param in ("backend", "device") else ""
        raise UnknownBackend(f"{error}{more}", param) from error
    return _OnGPU(target, activation, kv_type)


def _triton(device: str, dtype: str, kv_dtype: str, graphs: bool, quantization: str | None) -> Ops:
    target, activation, kv_type = _on_gpu(device, dtype, kv_dtype, quantization)
    import torch

    from stemma.kernels.triton.ops import TritonOps

    return TritonOps(torch.device(device), activation, kv_type, target, graphs=graphs, quantization=quantization)


def _reference(device: str, dtype: str, kv_dtype: str) -> Ops:
    if kv_dtype not in ("auto", dtype):
        message = "the reference keeps its KV in the dtype of its activations; leave kv_dtype out"
        raise UnknownBackend(message, "kv_dtype")
    import torch

    from stemma.kernels.reference import ReferenceOps

    return ReferenceOps(torch.device(device), getattr(torch, "float32" if dtype == "auto" else dtype))
