"""Which GPU there is for torch and Triton, and, where there is none, what to install or to change.

A machine without a GPU is told from one with a GPU by a look for the drivers' files: torch takes a second to import.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

LEAST_TORCH = (2, 6)
LEAST_TRITON = (3, 6)
"""The oldest for which all kernels are compiled in the tests; torch 2.10 brought it."""

DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
"""Of NVIDIA's driver, of Windows' under WSL, and of AMD's."""

INSTALL_TORCH = "install one for your card (https://pytorch.org/get-started/locally says how), or use device='cpu'"


class UnknownBackend(ValueError):
    """This machine has no such device or back end, or not with these types; `param` names the option to change."""

    def __init__(self, message: str, param: str = "backend") -> None:
        super().__init__(message)
        self.param = param


def has_driver() -> bool:
    """Whether this machine seems to have a GPU with a driver. Imports nothing."""
    return any(file.exists() for file in DRIVER_FILES)


def check_gpu(name: str) -> None:
    """Raises UnknownBackend, saying what to do, unless torch can use the device of that name: "cuda" or "cuda:1"."""
    import torch

    if numbers(torch.__version__) < LEAST_TORCH:
        raise UnknownBackend(
            f"torch {torch.__version__} is too old for {name!r}: pip install 'torch>=2.10', which brings Triton 3.6; "
            "or use device='cpu'",
            "device",
        )
    if torch.version.cuda is None and torch.version.hip is None:
        raise UnknownBackend(
            f"torch {torch.__version__} was built without CUDA, so there is no {name!r}; {INSTALL_TORCH}", "device"
        )
    count = torch.cuda.device_count()
    if not count:
        raise UnknownBackend(f"torch {torch.__version__} finds no GPU for {name!r}: {_why_none()}", "device")
    if not re.fullmatch(r"cuda(:\d+)?", name):
        raise UnknownBackend(f"a GPU is called 'cuda' or 'cuda:1'; it is {name!r}", "device")
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        there = ", ".join(f"cuda:{each}" for each in range(count))
        raise UnknownBackend(
            f"this machine has no {name!r}; it has {there} (CUDA_VISIBLE_DEVICES hides some)", "device"
        )
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UnknownBackend(f"{name!r} cannot be used: {first_line(error)}; {_about(error)}", "device") from error


def check_triton() -> None:
    """Raises UnknownBackend unless Triton can be imported and is new enough."""
    if find_spec("triton") is None:
        raise UnknownBackend(
            "the back end 'triton' needs Triton, which torch's builds for CUDA and ROCm on Linux bring along: "
            "pip install --upgrade triton puts it beside them; or use backend='reference'"
        )
    found = _triton_version()
    if numbers(found) < LEAST_TRITON:
        raise UnknownBackend(
            f"triton {found} is too old for the back end 'triton', which needs 3.6.0 or newer: pip install "
            "'torch>=2.10', which brings it, or use backend='reference'"
        )


def numbers(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def first_line(error: BaseException) -> str:
    """What an error of torch says first; the rest is advice to its developers."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".;") if text else type(error).__name__


def _triton_version() -> str:
    for package in ("triton", "triton-rocm", "pytorch-triton", "pytorch-triton-rocm"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    import triton

    return str(triton.__version__)


def _why_none() -> str:
    """Why torch counts no devices, as it says when it is made to begin."""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch says nothing of it
    except (RuntimeError, AssertionError) as error:
        return f"{first_line(error)}; {_about(error)}"
    return "all of them are hidden (CUDA_VISIBLE_DEVICES); show one, or use device='cpu'"


def _about(error: BaseException) -> str:
    """What to do about it."""
    text = str(error).lower()
    if "too old" in text:
        return "update the driver, or install a torch for an older CUDA; or use device='cpu'"
    if "no nvidia driver" in text or "no cuda gpus" in text or "no hip gpus" in text:
        return (
            "install the driver (nvidia-smi shows whether it works), start a container with --gpus all, "
            "look at CUDA_VISIBLE_DEVICES; or use device='cpu'"
        )
    if "out of memory" in text:
        return "another process has its memory (nvidia-smi shows which): end that one or choose another card"
    return "nvidia-smi shows whether the driver works; or use device='cpu'"
