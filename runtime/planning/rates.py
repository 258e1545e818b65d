"""How fast a machine reads weights and multiplies them, measured with products of a model's own weights."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any, NamedTuple

import numpy as np

from stemma.kernels.ops import Ops
from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.checkpoint import Checkpoint

READ_BYTES = 96 << 20
"""Of the product of one row: more than the caches of most machines hold."""
MULTIPLIED_BYTES = 4 << 20
NUM_ROWS = 512
REPEATS = 5


class Rates(NamedTuple):
    """read: bytes of weights a second, by the product of one row. operations: a second, by products of many rows."""

    read: float
    operations: float


def measure_rates(ops: Ops, checkpoint: Checkpoint) -> Rates:
    """Takes a second or two, and memory for some hundred megabytes, which is given back."""
    sample = _sample(checkpoint)
    long = _repeated(sample, READ_BYTES)
    one_row = _seconds(ops, long, 1)
    short = _repeated(sample, MULTIPLIED_BYTES)
    many_rows = _seconds(ops, short, NUM_ROWS)
    return Rates(long.num_bytes / one_row, 2 * NUM_ROWS * short.shape[0] * short.shape[1] / many_rows)


def given_rates(ops: Ops, checkpoint: Checkpoint, read: float | None, operations: float | None) -> Rates:
    """Those that are given, and what is not given as it is measured here. Raises InvalidRequest for no rates."""
    for name, value in (("machine_bandwidth", read), ("machine_compute", operations)):
        if value is not None and not 0 < value < math.inf:
            raise InvalidRequest(f"{name} must be more than 0", name)
    if read is not None and operations is not None:
        return Rates(read, operations)
    measured = measure_rates(ops, checkpoint)
    return Rates(measured.read if read is None else read, measured.operations if operations is None else operations)


def _sample(checkpoint: Checkpoint) -> StoredWeight:
    """A matrix of the storage type that most bytes have, no table of embeddings where there is another."""
    matrices = {name: tensor for name, tensor in checkpoint.tensors.items() if len(tensor.shape) == 2}
    inner = {name: tensor for name, tensor in matrices.items() if "embed" not in name} or matrices
    sizes: dict[str, int] = {}
    for tensor in inner.values():
        sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.num_bytes
    most = max(sizes, key=lambda kind: sizes[kind])
    return max((tensor for tensor in inner.values() if tensor.type == most), key=lambda tensor: tensor.num_bytes)


def _repeated(weight: StoredWeight, num_bytes: int) -> StoredWeight:
    """Its rows again and again, or the first of them, to about so many bytes."""
    num_rows, row_bytes = weight.shape[0], max(1, weight.num_bytes // weight.shape[0])
    wanted = max(64, num_bytes // row_bytes // 64 * 64)
    return weight.rows(np.arange(wanted, dtype=np.intp) % num_rows)


def _seconds(ops: Ops, weight: StoredWeight, num_rows: int) -> float:
    """Of one product, the median of several. Reading a number of the result waits for a device that is behind."""
    linear = ops.linear([weight])
    values = np.random.default_rng(0).standard_normal((num_rows, weight.shape[1]), dtype=np.float32)
    table = ops.embedding(StoredWeight("F32", (num_rows, weight.shape[1]), values))
    x = ops.rows.copy(ops.embed(table, np.arange(num_rows, dtype=np.int32)))
    taken = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        _wait(ops.norm_linear(x, None, linear))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def _wait(y: Any) -> None:
    y[-1:, -1:].tolist()
