"""Machine code that is kept on disk: as it was written, or not at all; memory to run it in; and what makes it, loaded
when it is needed."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

DIGEST_BYTES = 32
log = logging.getLogger(__name__)


class NoExecutableMemory(RuntimeError):
    """The system refuses memory whose contents are run, which compiled kernels need."""


def make_executable(address: int, size: int) -> None:
    """Let pages be read and run, and not be written. Raises NoExecutableMemory."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_EXEC):
        reason = os.strerror(ctypes.get_errno())
        raise NoExecutableMemory(
            f"the system refuses memory for compiled kernels ({reason}): let programs run what they wrote (systemd: "
            "MemoryDenyWriteExecute=no, SELinux: execmem, macOS: the entitlement allow-unsigned-executable-memory)"
        )


def check_executable() -> None:
    """Raises NoExecutableMemory where the system gives none. LLVM's library asks in the same way, but does not look at
    the answer, and the first call ends the process."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    make_executable(ctypes.addressof(ctypes.c_char.from_buffer(memory)), mmap.PAGESIZE)


def llvm() -> Any:
    """LLVM's library. It takes some 46 MB, so it is loaded by who compiles, not by who reads what is kept."""
    import llvmlite.binding

    return llvmlite.binding


def read_code(path: Path) -> bytes | None:
    """The machine code, if it is there as it was written: its digest, then itself."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def keep_code(path: Path, code: bytes) -> None:
    """Whole or not at all, also when two processes start at once. Where nothing can be written, a warning says so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        _warn(path.parent, str(error))


@functools.cache
def _warn(folder: Path, reason: str) -> None:
    log.warning("compiled kernels cannot be kept in %s, so they are compiled at each start: %s", folder, reason)
