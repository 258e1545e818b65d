"""Operations on groups of matrices: a matrix for each head, and experts. Their kernels are compiled when they are first
asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir

from stemma.kernels.cpu.buffers import Floats
from stemma.kernels.cpu.calls import Calls
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.words import word_of_two
from stemma.kernels.cpu.products.experts import AT_ONCE, WORK, CpuExperts, add_experts
from stemma.kernels.cpu.products.groups import GROUP, HEADS, MOST_ROWS, add_groups, add_head_products
from stemma.kernels.cpu.products.pack import MismatchedWeights, PackedLinear
from stemma.kernels.cpu.rows.activations import GROUP as ROWS_TOGETHER
from stemma.kernels.cpu.rows.norms import CpuNorm, address_of


@dataclass(frozen=True, slots=True, eq=False)
class HeadLinear:
    """address: of the words HEADS."""

    heads: int
    in_features: int
    out_features: int
    stride: int
    address: int
    memory: tuple[Any, ...]


def pack_heads(matrices: Sequence[PackedLinear]) -> HeadLinear:
    first = matrices[0]
    if any((one.in_features, one.out_features) != (first.in_features, first.out_features) for one in matrices):
        raise MismatchedWeights("the heads' matrices are not of one shape")
    segments = np.array([int(one.words[3]) for one in matrices], dtype=np.int64)
    stride = max(one.stride for one in matrices)
    values = {"segments": segments.ctypes.data, "number": len(matrices), "features": first.in_features,
              "outputs": first.out_features, "stride": stride}  # fmt: skip
    words = np.array([values[name] for name in HEADS], dtype=np.int64)
    memory = (segments, words, list(matrices))
    return HeadLinear(len(matrices), first.in_features, first.out_features, stride, words.ctypes.data, memory)


class GroupedCalls:
    """Of one back end."""

    def __init__(self, calls: Calls, target: Target, cache_dir: Path) -> None:
        def write(module: ir.Module) -> None:
            add_groups(module)
            add_head_products(module, target)
            add_experts(module, target)

        self._calls = calls
        self._library = compile.load("groups", write, target, ("groups",), cache_dir)
        self._heads = self._library.function("head_products", 12)
        self._experts = self._library.function("experts", 11)
        self._works: dict[tuple[int, ...], np.ndarray[Any, np.dtype[np.int64]]] = {}

    def multiply_heads(self, x: tuple[int, int, int], linear: HeadLinear, out: tuple[int, int, int], rows: int) -> None:
        """x, out: address, floats of a row, floats from head to head."""
        groups = linear.heads * -(-rows // MOST_ROWS)
        room = linear.heads * (-(-rows // MOST_ROWS) * MOST_ROWS if rows > MOST_ROWS else rows + ROWS_TOGETHER)
        group_words = self._calls.take("groups", (groups * len(GROUP) * 2,))[1]
        prepared = self._calls.take("prepared_groups", (room, linear.stride // 4))[1]
        self._calls.run(
            self._heads, linear.address, x[0], 4 * x[1], 4 * x[2], out[0], out[1], 4 * out[2], rows, group_words,
            prepared, self._calls.pool.num_threads,
        )  # fmt: skip

    def work(self, experts: CpuExperts, rows: int) -> tuple[int, int]:
        """Memory for so many rows: the addresses of its words, and of the router's outputs."""
        sizes = [-(-experts.sizes(rows)[name] // 64) * 64 for name in WORK]
        address = self._calls.take("experts", (sum(sizes) // 4,))[1]
        key = address, *sizes
        if key not in self._works:
            self._works[key] = address + np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        words = self._works[key]
        return words.ctypes.data, int(words[WORK.index("outputs")])

    def add_experts(
        self, x: Floats, norm: CpuNorm | None, experts: CpuExperts, work: int, residual: Floats,
        factors: tuple[float, float], shared: tuple[int, int],
    ) -> None:  # fmt: skip
        """The router's outputs stand in the work. factors: of what is added, and of the residual, of which nothing is
        read for 0. shared: addresses of the shared expert's results, and its gate's."""
        assert len(x) <= AT_ONCE
        self._calls.run(
            self._experts, experts.address, x.ctypes.data, address_of(norm), len(x), work, residual.ctypes.data,
            word_of_two(*factors), *shared, self._calls.pool.num_threads,
        )  # fmt: skip
