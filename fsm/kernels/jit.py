"""One typed door to numba: kernels are plain functions until they are compiled.

A function marked `helper` can be called from Python as it is and from compiled kernels. Nothing here compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba.extending import register_jitable

F = TypeVar("F", bound=Callable[..., object])


def helper(function: F) -> F:
    """`function`, usable both as plain Python and inside compiled kernels.

    Kernels allocate nothing, so they are compiled without reference counts: these would be most of the cost of a call
    that passes a tuple of arrays.
    """
    marked: F = register_jitable(_nrt=False)(function)
    return marked
