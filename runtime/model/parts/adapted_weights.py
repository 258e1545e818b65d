"""Matrices with what adapters of low rank add to them, by adapter. What a network does to a matrix when it takes it,
dividing it and putting its rows in order, is done to what is added too, by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.weights import WeightSource

Floats = npt.NDArray[np.float32]


class LowRank(NamedTuple):
    """`up @ down` is added. matrix: the name of what it is added to. down: (rank, inputs). up: (outputs, rank)."""

    matrix: str
    down: Floats
    up: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """An adapter that is one of several, chosen by each request.

    digest: of its numbers; equal ones are the same adapter. changes: by the names of the model's tensors.
    """

    name: str
    digest: str
    changes: Mapping[str, LowRank]


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedWeight(StoredWeight):
    """A matrix as it is stored, and what is added to it, by the adapters' names."""

    added: Mapping[str, LowRank]

    def rows(self, chosen: npt.NDArray[np.intp] | slice) -> AdaptedWeight:
        """These outputs of all of them."""
        moved = StoredWeight.rows(self, chosen)
        added = {adapter: low._replace(up=low.up[chosen]) for adapter, low in self.added.items()}
        return AdaptedWeight(moved.type, moved.shape, moved.data, added, ordered=moved.ordered)

    def times(self, factor: float | npt.NDArray[np.float32]) -> AdaptedWeight:
        """All of them multiplied, or each column."""
        base = StoredWeight.times(self, factor)
        side = "up" if isinstance(factor, float) else "down"
        added = {
            adapter: low._replace(**{side: getattr(low, side) * np.float32(factor)})
            for adapter, low in self.added.items()
        }
        return AdaptedWeight(base.type, base.shape, base.data, added)


class AdaptedWeights:
    """A source of weights, with adapters over it."""

    def __init__(self, weights: WeightSource, loras: Mapping[str, Lora]) -> None:
        self._weights, self._loras = weights, loras

    def has(self, name: str) -> bool:
        """Whether the model has a tensor of that name; adapters bring none."""
        return self._weights.has(name)

    def take(self, name: str, *shape: int) -> StoredWeight:
        """The tensor, an `AdaptedWeight` if an adapter changes it."""
        found = self._weights.take(name, *shape)
        added = {each.name: each.changes[name] for each in self._loras.values() if name in each.changes}
        if not added:
            return found
        return AdaptedWeight(found.type, found.shape, found.data, added, ordered=found.ordered)
