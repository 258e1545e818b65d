"""One typed door to numba: kernels are plain functions until they are compiled.

A function marked `helper` can be called from Python as it is and from compiled kernels. Nothing here compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba.extending import register_jitable

F = TypeVar("F", bound=Callable[..., object])


def helper(function: F) -> F:
    """`function`, usable both as plain Python and inside compiled kernels."""
    marked: F = register_jitable(function)
    return marked
