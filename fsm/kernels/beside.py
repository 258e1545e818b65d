"""The first start of all: another process compiles these kernels while this one compiles others.

LLVM, as llvmlite has it, does one thing at a time in a process. What the other one keeps on disk is loaded here; if it
fails, they are compiled here when they are wanted, as they are by anyone who did not ask for this.
"""

from __future__ import annotations

import os
import subprocess
import sys

from stemma.cache_folder import cache_folder

_started: list[subprocess.Popen[bytes]] = []
"""One at most: where nothing can be kept, a second would be no better."""


def begin() -> None:
    """Where kernels have never been kept and there is a core to spare. Returns at once."""
    if _started or (os.cpu_count() or 1) < 2 or getattr(sys, "frozen", False) or not sys.executable:
        return
    if any((cache_folder() / "fsm").glob("kernels-*.o")):
        return
    command = [sys.executable, "-m", "stemma.fsm.kernels.loader"]
    nowhere = subprocess.DEVNULL
    _started.append(subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere))


def wait() -> None:
    """Until the other process is through, if there is one."""
    for child in _started:
        child.wait()
