"""What matrices take on a device with memory of its own. Its back end is asked, by packing a few rows of each as it
packs all of them when the model is loaded: whatever it joins, leaves packed or makes dense, it does so there.

the matrix       |-------------- rows --------------|
packed           |--| -> bytes, times rows / few
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

from stemma.kernels.ops import Ops
from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.parts.decoder import Decoder
from stemma.runtime.model.work import Work

FEW = 256
"""Rows that are packed at most: whatever back ends divide rows by divides these as well."""
ODD = 16
"""Or, of a number of rows that this does not divide, fewer with the same remainder: some are not packed like others."""


def on_device(work: Work, checkpoint: Checkpoint, ops: Ops) -> Work:
    """The same work with the bytes that the device holds and reads; as it is where memory is the host's."""
    if ops.free_memory() is None:
        return work
    packed = _FewRows(ops)
    with ops.on_device():
        Decoder(checkpoint.config, _Tensors(checkpoint.tensors), packed)
        ops.free_unused()
    return work._replace(
        weight_bytes=packed.matrices + packed.tables + packed.of_experts,
        row_bytes=packed.matrices + packed.shared,
        expert_bytes=packed.of_experts,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Matrix:
    """few: a few rows of it, packed. num_bytes: of all, but for what is a table's memory."""

    few: Any
    in_features: int
    out_features: int
    num_bytes: int


class _Table(NamedTuple):
    """A table of embeddings, a few rows of it, these packed, and bytes of all."""

    weight: StoredWeight
    few: StoredWeight
    packed: Any
    num_bytes: int


class _Tensors:
    """Of a checkpoint, by name: not one of them is looked through."""

    def __init__(self, tensors: Mapping[str, StoredWeight]) -> None:
        self._tensors = tensors

    def has(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int) -> StoredWeight:
        found = self._tensors.get(name)
        if found is None or found.shape != shape:
            raise ModelFileError(f"the model's files hold no tensor {name!r} of the shape {shape}; fetch them again")
        return found


class _FewRows:
    """`Ops` that pack. matrices: bytes of those that every row of a step reads. tables: of embeddings. shared: of
    tables that are such a matrix too. of_experts: of all experts' matrices."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._table: _Table | None = None  # the last one
        self.matrices = self.tables = self.shared = self.of_experts = 0

    def __getattr__(self, name: str) -> Any:
        """Whatever else is packed is small, or other back ends' too."""
        return _Nothing()

    def linear(
        self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False
    ) -> _Matrix:
        rows, few = sum(part.shape[0] for part in parts), [self._few(part) for part in parts]
        linear = self._ops.linear(few, [self._few(bias) for bias in biases], exact)
        table = self._table
        if table is not None and {*map(id, _tensors(linear))} & {*map(id, _tensors(table.packed))}:
            num_bytes, shared = 0, table.num_bytes
        else:
            num_bytes, shared = math.ceil(_bytes(linear) * rows / sum(part.shape[0] for part in few)), 0
        self.matrices += num_bytes
        self.shared += shared
        return _Matrix(linear, parts[0].shape[1], rows, num_bytes)

    def embedding(self, weight: StoredWeight, scale: float = 1.0) -> Any:
        few = self._few(weight)
        table = self._ops.embedding(few, scale)
        num_bytes = math.ceil(_bytes(table) * weight.shape[0] / few.shape[0])
        self._table = _Table(weight, few, table, num_bytes)
        self.tables += num_bytes
        return table

    def head_linear(self, weights: Sequence[StoredWeight]) -> Any:
        made = self._ops.head_linear(weights[:1])
        self.matrices += _bytes(made) * len(weights)
        return made

    def experts(self, spec: Any, router: Any, correction: Any, gate_up: Any, down: Any, *rest: Any) -> None:
        num_bytes = sum(matrix.num_bytes for matrix in (*gate_up, *down))
        self.matrices -= num_bytes
        self.of_experts += num_bytes

    def _few(self, part: StoredWeight) -> StoredWeight:
        if self._table is not None and part is self._table.weight:
            return self._table.few  # the same object, by which a back end knows it again
        odd = part.shape[0] % ODD
        return part.rows(slice(0, FEW - ODD + odd if odd else FEW))


class _Nothing:
    """Called, or asked for anything: nothing."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return None

    def __getattr__(self, name: str) -> Any:
        return _Nothing()


def _tensors(packed: Any) -> list[Any]:
    """Those of a handle."""
    if hasattr(packed, "nbytes"):
        return [packed]
    parts: Sequence[Any] = packed if isinstance(packed, tuple) else ()
    if is_dataclass(packed):
        parts = [getattr(packed, each.name) for each in fields(packed)]
    return [tensor for part in parts for tensor in _tensors(part)]


def _bytes(packed: Any) -> int:
    return sum(int(tensor.nbytes) for tensor in _tensors(packed))
