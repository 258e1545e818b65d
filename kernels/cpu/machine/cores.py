"""How many threads a machine is good for: one for each physical core that this process may use.

Of two kinds of cores only the fast ones count: the first piece of a product is equally long for all threads
(`products/shares.py`), so a slow core would be what all others wait for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stemma.kernels.cpu.machine.sysctl import sysctl

CORES = Path("/sys/devices/system/cpu")


def physical_cores() -> int:
    """OMP_NUM_THREADS where that is a number, as other libraries have it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    if sys.platform == "darwin":
        return sysctl("hw.perflevel0.physicalcpu") or sysctl("hw.physicalcpu") or os.cpu_count() or 1
    allowed = {cpu: _capacity_of(cpu) for cpu in os.sched_getaffinity(0)}
    fast = [cpu for cpu, capacity in allowed.items() if 2 * capacity >= max(allowed.values())]
    return len({_core_of(cpu) for cpu in fast})


def _capacity_of(cpu: int) -> int:
    """How fast this processor is beside the fastest, which has 1,024; 1,024 where the system does not say: Linux does
    on ARM."""
    try:
        return int((CORES / f"cpu{cpu}" / "cpu_capacity").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 1024


def _core_of(cpu: int) -> str:
    """What names the core of a logical processor: all that share it, or itself where the system does not say."""
    try:
        return (CORES / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="utf-8")
    except OSError:
        return str(cpu)
