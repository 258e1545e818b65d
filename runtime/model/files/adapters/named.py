"""Adapters by name: beside the model's matrices, not in them, so that each request can choose one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stemma.runtime.errors import InvalidRequest, ModelFileError
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.files.adapters.merge import Adapter, Change, check_fits
from stemma.runtime.model.files.adapters.read import read_adapter
from stemma.runtime.model.parts.adapted_ops import cannot_be_chosen
from stemma.runtime.model.parts.adapted_weights import Lora, LowRank

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


def read_loras(checkpoint: Checkpoint, sources: Mapping[str, str | Path]) -> dict[str, Lora]:
    """sources: by the names that requests call them. Raises InvalidRequest for a name, and ModelNotFound,
    ModelFileError or UnsupportedModel for an adapter."""
    for name in sources:
        if not NAME.fullmatch(name):
            raise InvalidRequest(f"an adapter's name is letters, digits and _ . : / -; this one is {name!r}", "loras")
    found = {name: read_adapter(source, checkpoint.config) for name, source in sources.items()}
    return {name: lora_of(checkpoint, name, adapter) for name, adapter in found.items()}


def lora_of(checkpoint: Checkpoint, name: str, adapter: Adapter) -> Lora:
    """An adapter as one that can be chosen. Raises UnsupportedModel or ModelFileError for one that cannot."""
    check_fits(checkpoint, adapter)
    if adapter.tensors:
        raise cannot_be_chosen(adapter.name, min(adapter.tensors), "it brings a whole tensor (modules_to_save)")
    digest = hashlib.sha256()
    changes = {}
    for matrix, change in sorted(adapter.changes.items()):
        changes[matrix] = low = _low_rank(adapter, matrix, change)
        for part in (matrix.encode(), low.down.tobytes(), low.up.tobytes()):
            digest.update(part)
    return Lora(name, digest.hexdigest()[:16], changes)


def _low_rank(adapter: Adapter, matrix: str, change: Change) -> LowRank:
    if change.lengths is not None:
        raise cannot_be_chosen(adapter.name, matrix, "it scales the outputs of the matrix as a whole (DoRA)")
    if not all(np.isfinite(part).all() for part in (change.down, change.up)):
        raise ModelFileError(f"{adapter.name} has numbers that are NaN or infinite for {matrix!r}; fetch it again")
    return LowRank(matrix, change.down, change.up * np.float32(change.scale))
