"""This process's environment, for programs that it starts. What Stemma itself reads of it:
`stemma/cache_folder.py`, `kernels/cpu/machine/target.py` and `cores.py`."""

from __future__ import annotations

import os


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes, for a program that it starts."""
    return {**os.environ, **changes}
