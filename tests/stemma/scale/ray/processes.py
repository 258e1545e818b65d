"""The processes that a deployment started, as Linux tells of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def descendants() -> set[int]:
    """Of this process."""
    parents = dict(_parents())
    found, more = set[int](), {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in more} - found:
        found |= more
    return found


def named(beginning: str) -> list[int]:
    """Those of them whose command line begins so; Ray writes there what a worker is."""
    return sorted(pid for pid in descendants() if _command(pid).startswith(beginning))


def alive(pids: set[int]) -> set[int]:
    """Those that are there, and are not waiting to be buried."""
    return {pid for pid, _ in _parents() if pid in pids}


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state not in "ZX":
                yield int(entry.name), int(parent)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
