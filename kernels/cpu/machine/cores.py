"""How many threads a machine is good for: one for each physical core that this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CORES = Path("/sys/devices/system/cpu")


def physical_cores() -> int:
    """OMP_NUM_THREADS where that is a number, as other libraries have it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    if sys.platform == "darwin":
        return int(subprocess.run(["sysctl", "-n", "hw.physicalcpu"], capture_output=True, check=True).stdout)
    allowed = os.sched_getaffinity(0)
    return len({_core_of(cpu) for cpu in allowed})


def _core_of(cpu: int) -> str:
    """What names the core of a logical processor: all that share it, or itself where the system does not say."""
    try:
        return (CORES / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="utf-8")
    except OSError:
        return str(cpu)
