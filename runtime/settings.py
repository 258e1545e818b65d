"""This process's environment, for programs that it starts. What Stemma itself reads of it:
`stemma/cache_folder.py`, `kernels/cpu/machine/target.py` and `cores.py`."""

from __future__ import annotations

import os


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes, for a program that it starts."""
    return {**os.environ, **changes}


def say_by_default(**values: str) -> None:
    """Have this process's environment say so, for a library that reads it, where it says nothing of it yet."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
