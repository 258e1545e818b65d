"""What an adapter changes, and the checkpoint with it. Reads no file.

weight + scale * B @ A;   DoRA (Liu et al. 2024): that, each output scaled to the length that the adapter says
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.checkpoint import Checkpoint

Floats = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Of one matrix. down: A (rank, inputs). up: B (outputs, rank). lengths: of DoRA, (outputs,)."""

    down: Floats
    up: Floats
    scale: float
    lengths: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """Changes and whole new tensors, by the names of the model's tensors. name: as messages call it."""

    name: str
    changes: Mapping[str, Change]
    tensors: Mapping[str, StoredWeight]


def merged(checkpoint: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The checkpoint with the adapter in it. Floats keep their type, as PEFT merges; quantised matrices become F16.

    Raises UnsupportedModel for an adapter of tensors that the model does not have, ModelFileError for shapes that do
    not fit.
    """
    tensors, widened = dict(checkpoint.tensors), 0
    check_fits(checkpoint, adapter)
    tensors |= adapter.tensors
    for name, change in adapter.changes.items():
        base = tensors[name]
        widened += base.type not in ("F32", "F16", "BF16")
        tensors[name] = _stored(_changed(dequantize(base), change), base.type)
    if widened:
        log.warning("%d quantised matrices that %s changes are kept as F16", widened, adapter.name)
    return replace(checkpoint, tensors=tensors)


def check_fits(checkpoint: Checkpoint, adapter: Adapter) -> None:
    """Raises UnsupportedModel or ModelFileError for an adapter of another model."""
    shapes = {name: (change.up.shape[0], change.down.shape[1]) for name, change in adapter.changes.items()}
    for name, shape in (shapes | {name: tensor.shape for name, tensor in adapter.tensors.items()}).items():
        if name not in checkpoint.tensors:
            raise UnsupportedModel(
                f"the adapter {adapter.name} changes {name!r}, which this model does not have (or not as a matrix "
                "of its own): it was made for another model"
            )
        _check(adapter, name, shape, checkpoint.tensors[name].shape)


def _check(adapter: Adapter, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ModelFileError(
            f"the adapter {adapter.name} has {found} for {name!r}, but the model {expected}: it was made for "
            "another model"
        )


def _changed(base: Floats, change: Change) -> Floats:
    values: Floats = base + np.float32(change.scale) * (change.up @ change.down)
    if change.lengths is None:
        return values
    lengths = np.linalg.norm(values, axis=1)
    factors: Floats = (change.lengths / lengths).astype(np.float32)[:, None]
    return values * factors


def _stored(values: Floats, like: str) -> StoredWeight:
    if like == "F32":
        return StoredWeight("F32", values.shape, values)
    if like == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        return StoredWeight("BF16", values.shape, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16))
    return StoredWeight("F16", values.shape, values.astype(np.float16))
