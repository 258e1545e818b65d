"""Machine code that is kept on disk: as it was written, or not at all; and what makes it, loaded when it is needed."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

DIGEST_BYTES = 32
log = logging.getLogger(__name__)


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
