"""How fast a machine reads weights and multiplies them, measured with products of weights of a storage type."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.kernels.ops import Ops
from stemma.kernels.weights import FORMATS, StoredWeight
from stemma.runtime.errors import InvalidRequest

READ_BYTES = 96 << 20
"""Of the product of one row: more than the caches of most machines hold."""
MULTIPLIED_BYTES = 8 << 20
NUM_INPUTS = 2048
NUM_ROWS = 512
REPEATS = 5
FLOATS: Mapping[str, Any] = MappingProxyType({"F32": np.float32, "F16": np.float16, "BF16": np.uint16})
LARGEST_BYTE = 0x3B
"""Up to it any two bytes are a finite float16 and any four a finite float32: scales of whatever format."""


class Rates(NamedTuple):
    """read: bytes of weights a second, by the product of one row. operations: a second, by products of many rows."""

    read: float
    operations: float


def given_rates(ops: Ops, storage: str, read: float | None, operations: float | None) -> Rates:
    """Those that are given, and what is not given as it is measured here. Raises InvalidRequest for no rates."""
    for name, value in (("machine_bandwidth", read), ("machine_compute", operations)):
        if value is not None and not 0 < value < math.inf:
            raise InvalidRequest(f"{name} must be more than 0", name)
    if read is not None and operations is not None:
        return Rates(read, operations)
    measured = measure_rates(ops, storage)
    return Rates(measured.read if read is None else read, measured.operations if operations is None else operations)


def measure_rates(ops: Ops, storage: str) -> Rates:
    """Of weights of this storage type (GGUF's name). Takes a second or two, and some hundred megabytes meanwhile.
    Raises InvalidRequest for a type that is none."""
    if storage not in FLOATS and storage not in FORMATS:
        raise InvalidRequest(
            f"nothing can be measured with weights stored as {storage!r}: give machine_bandwidth and machine_compute",
            "machine_bandwidth",
        )
    long, short = made_up(storage, READ_BYTES), made_up(storage, MULTIPLIED_BYTES)
    with ops.on_device():
        one_row, many_rows = _seconds(ops, long, 1), _seconds(ops, short, NUM_ROWS)
    return Rates(long.num_bytes / one_row, 2 * NUM_ROWS * short.shape[0] * short.shape[1] / many_rows)


def made_up(storage: str, num_bytes: int) -> StoredWeight:
    """A matrix of about so many bytes, whose numbers are finite and mean nothing."""
    chance = np.random.default_rng(0)
    row_bytes = _row_bytes(storage)
    num_rows = max(64, num_bytes // row_bytes // 64 * 64)
    data: npt.NDArray[Any] = chance.integers(0, LARGEST_BYTE, (num_rows, row_bytes), dtype=np.uint8)
    if storage in FLOATS:
        data = data.view(FLOATS[storage])
    return StoredWeight(storage, (num_rows, NUM_INPUTS), data)


def _row_bytes(storage: str) -> int:
    if storage in FLOATS:
        return NUM_INPUTS * int(np.dtype(FLOATS[storage]).itemsize)
    form = FORMATS[storage]
    return NUM_INPUTS // form.num_inputs * form.num_bytes


def _seconds(ops: Ops, weight: StoredWeight, num_rows: int) -> float:
    """Of one product, the median of several. Reading a number of the result waits for a device that is behind."""
    linear = ops.linear([weight])
    values = np.random.default_rng(0).standard_normal((num_rows, weight.shape[1]), dtype=np.float32)
    table = ops.embedding(StoredWeight("F32", (num_rows, weight.shape[1]), values))
    x = ops.rows.copy(ops.embed(table, np.arange(num_rows, dtype=np.int32)))
    taken = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        ops.norm_linear(x, None, linear)[-1:, -1:].tolist()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])
