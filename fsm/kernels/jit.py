"""Which functions are kernels: plain Python, and translated by `machine` where speed counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])
MARKED: set[Callable[..., object]] = set()


def helper(function: F) -> F:
    """Mark `function` as one that compiled kernels may call. It stays as it is."""
    MARKED.add(function)
    return function
