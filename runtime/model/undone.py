"""Tensors that are put back, one by one, to what they were before a converter changed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from stemma.kernels.weights import StoredWeight, let_go
from stemma.runtime.errors import ModelFileError


class Undone(Mapping[str, StoredWeight]):
    """Tensors in which a converter changed something, each put back when it is taken: a tenth of a Llama's rows have
    another order, and copies of them all at once are memory that nobody needs.

    stored: as they lie in the file. undo: what makes a tensor of this name what it was.
    """

    def __init__(
        self, stored: Mapping[str, StoredWeight], undo: Callable[[str, StoredWeight], StoredWeight]
    ) -> None:  # fmt: skip
        self.stored = stored
        self._undo = undo

    def __getitem__(self, name: str) -> StoredWeight:
        stored = self.stored[name]
        try:
            undone = self._undo(name, stored)
        except ValueError as error:  # numpy's, of shapes
            raise ModelFileError(
                f"tensor {name!r} has shape {stored.shape}, which does not fit the model's configuration ({error}); "
                "fetch or convert the model again"
            ) from error
        if not np.may_share_memory(undone.data, stored.data):
            let_go(stored.data)
        return undone

    def __contains__(self, name: object) -> bool:
        return name in self.stored

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def as_stored(tensors: Mapping[str, StoredWeight]) -> Mapping[str, StoredWeight]:
    """The same tensors for those who ask for their sizes only."""
    return tensors.stored if isinstance(tensors, Undone) else tensors
