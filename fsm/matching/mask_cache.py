"""Masks that others are made of, as far as they are known: of bases, of early iterations; how much memory they take.

It computes nothing and knows no grammar. What grows beyond its limit is dropped as a whole and computed again.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

MAX_WORDS = 1 << 24  # 64 MiB of masks of configurations
MAX_OTHERS = 256  # masks of each other kind

Words = npt.NDArray[np.uint32]
K = TypeVar("K")
V = TypeVar("V")


class IterationMask(NamedTuple):
    """The mask in an early iteration of a counted repeat, and the last iteration that its tokens get to."""

    mask: Words
    last: int


class IterationKey(NamedTuple):
    """A configuration in an early iteration of a repeat, with the frames below it."""

    config: int
    repeat: int
    parent: int


class Limited(dict[K, V], Generic[K, V]):
    """A dict that is emptied before it has more entries than it may."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def keep(self, key: K, value: V) -> V:
        if len(self) >= self._limit:
            self.clear()
        self[key] = value
        return value


class MaskCache:
    """Those of one grammar."""

    def __init__(self, num_words: int) -> None:
        self._num_words = num_words
        self.bases: Limited[int, Words] = Limited(MAX_OTHERS)
        self.iterations: Limited[IterationKey, IterationMask | None] = Limited(
            MAX_OTHERS
        )  # None: there is nothing to copy
        self.counters: Limited[IterationKey, Words] = Limited(MAX_OTHERS)  # of repeats of characters, far from limits
        self.last_iterations: dict[int, int] = {}  # that tokens got to in a repeat
        self.distances: dict[int, int] = {}  # of configurations to their ends, at most; negative: unknown

    @property
    def num_bytes(self) -> int:
        iterations = sum(iteration is not None for iteration in self.iterations.values())
        return (len(self.bases) + len(self.counters) + iterations) * self._num_words * 4
