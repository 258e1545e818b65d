"""The tensors of a checkpoint under Hugging Face's names, handed out to the model that is being built. Whatever format
they came from, a model file sees only this. Never reads a file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from stemma.kernels.weights import FORMATS, StoredWeight, is_finite
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.undone import as_stored

STORAGE_TYPES = frozenset({"F32", "F16", "BF16", *FORMATS})

Progress = Callable[[str, float], None]
"""Called with a stage ("download", "weights", "ready") and the fraction of it that is done."""


class WeightSource(Protocol):
    """What a network asks for its tensors."""

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name: files may hold several matrices as one."""

    def take(self, name: str, *shape: int) -> StoredWeight:
        """The tensor of this name and shape."""


class Weights:
    """Tensors by name. `take` checks the shape and that the numbers are finite; `check_all_taken` refuses a model that
    was only partly understood. file_names: what the files call them, where that is another name."""

    def __init__(
        self, tensors: Mapping[str, StoredWeight], progress: Progress | None = None,
        file_names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self._tensors = tensors
        self._file_names = file_names
        self._taken: set[str] = set()
        self._progress = progress
        self._total_bytes = max(1, sum(tensor.num_bytes for tensor in as_stored(tensors).values()))
        self._taken_bytes = 0

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._tensors

    def take(self, name: str, *shape: int) -> StoredWeight:
        """The tensor of this name and shape. Raises ModelFileError if it is absent, damaged, or has another shape."""
        found = self._tensors.get(name)
        if found is None:
            raise ModelFileError(f"the model's files hold no tensor {name!r}{self._instead_of(name)}")
        if found.shape != shape:
            raise ModelFileError(f"tensor {name!r} has shape {found.shape}, but the model's configuration says {shape}")
        if found.type not in STORAGE_TYPES:
            known = ", ".join(sorted(STORAGE_TYPES))
            raise UnsupportedModel(f"tensor {name!r} is stored as {found.type}; use a file with one of: {known}")
        if name not in self._taken and not is_finite(found):
            raise ModelFileError(
                f"tensor {self._file_names.get(name, name)!r} ({name}) has numbers that are NaN or infinite: the file "
                "is damaged, or was converted with too small a range; fetch or convert the model again"
            )
        self._count(name, found)
        return found

    def check_all_taken(self) -> None:
        """Raises UnsupportedModel if tensors are left that the model file did not ask for."""
        left = sorted(set(self._tensors) - self._taken)
        if left:
            shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
            raise UnsupportedModel(f"the model has tensors that this version does not compute with: {shown}")

    def _instead_of(self, name: str) -> str:
        """What to do about a tensor that is absent: other forms of a model have others of nearly its name."""
        left = [other for other in self._tensors if other not in self._taken]
        if strange := sorted(other for other in left if other.startswith("blk.")):  # GGUF's name of it: nobody's
            return f", but {strange[0]!r}, which this version does not know: a form of this family that is not run"
        close = difflib.get_close_matches(name, left, n=2, cutoff=0.75)
        module = name.rsplit(".", 2)[0]
        kin = [
            other for other in close if other.startswith(module + ".") and not other.endswith(name.rsplit(".", 2)[1])
        ]
        if not kin:
            return "; fetch or convert the model again"
        return f", but {' and '.join(map(repr, kin))}: a form of this family that is not run; convert it to another"

    def _count(self, name: str, tensor: StoredWeight) -> None:
        if name not in self._taken:
            self._taken.add(name)
            self._taken_bytes += tensor.num_bytes
        if self._progress is not None:
            self._progress("weights", self._taken_bytes / self._total_bytes)
