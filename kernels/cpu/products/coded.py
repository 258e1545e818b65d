"""Matrices in one of the forms of codes -> tiles of codes, facts and units (`tiles.py`), on all threads.

Compiled code reads most types from the file's memory map (`read.py`). For the others numpy does: that is also what the
compiled code must come to, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.kernels.codes import codes_of
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.threads import aligned_zeros
from stemma.kernels.cpu.products.lay import callable_at
from stemma.kernels.cpu.products.read import WITH_MINIMA, WITHOUT, rows_reader, scratch_floats
from stemma.kernels.cpu.products.strips import STRIP
from stemma.kernels.cpu.products.tiles import Tile, tile_of
from stemma.kernels.cpu.rows.activations import BLOCK
from stemma.kernels.weights import StoredWeight, let_go

Array = npt.NDArray[Any]
CHUNK, PIECE = 1 << 17, 1 << 19
"""Weights that numpy reads at a time: so few that what is made of them stays in the cache; and what compiled code reads
at the least: so many that a thread is worth waking."""


class Packing(NamedTuple):
    """What a machine packs with.

    addresses: of the compiled kernels. num_threads, pool: who reads.
    """

    addresses: Mapping[str, int]
    target: Target
    num_threads: int
    pool: ThreadPoolExecutor


class Packed(NamedTuple):
    """What products read, as bytes, float and integers of 16 bits (strips, blocks, facts, 16 outputs)."""

    tiles: Array
    facts: Array
    units: Array


def pack_codes(kind: str, parts: Sequence[StoredWeight], packing: Packing) -> Packed:
    """Pack matrices of one input whose types have this form."""
    tile, blocks = tile_of(kind), parts[0].shape[1] // BLOCK
    strips = -(-sum(part.shape[0] for part in parts) // STRIP)
    facts = aligned_zeros(strips * blocks * tile.fact_bytes).view(np.int16)
    packed = Packed(
        aligned_zeros(strips * blocks * tile.weight_bytes),
        facts.reshape(strips, blocks, -1, STRIP),
        aligned_zeros(strips * STRIP * 4).view(np.float32),
    )
    first, reads = 0, []
    for part in parts:
        compiled = f"read_{part.type}" in packing.addresses
        step = max(1, CHUNK // part.shape[1])
        if compiled:
            step = max(PIECE // part.shape[1], part.shape[0] // (2 * packing.num_threads)) // STRIP * STRIP + STRIP
        read = partial(_read if compiled else _read_by_numpy, kind, packed, packing, part, first, step)
        reads += [partial(read, start) for start in range(0, part.shape[0], step)]
        first += part.shape[0]
    if len(reads) == 1:
        reads[0]()
    else:
        list(packing.pool.map(_call, reads))
    return packed


def _call(read: Callable[[], None]) -> None:
    read()


def _flip(tile: Tile, packing: Packing) -> int:
    """What is xored to four bytes of codes of 8 bits."""
    return (
        0x01010101 * tile.form.offset if tile.form.bits == 8 and packing.target.byte_offset != tile.form.offset else 0
    )


def _read(
    kind: str, packed: Packed, packing: Packing, part: StoredWeight, first: int, step: int, start: int
) -> None:  # fmt: skip
    """`step` rows of a matrix whose outputs begin at number `first`."""
    tile, blocks = tile_of(kind), packed.facts.shape[1]
    data = np.ascontiguousarray(part.data[start : start + step])
    scratch = np.zeros(scratch_floats(blocks * tile.num_groups), dtype=np.float32)
    to = [array.ctypes.data for array in (*packed, scratch)]
    read = rows_reader(packing.addresses[f"read_{part.type}"])
    read(data.ctypes.data, first + start, len(data), blocks, to[0], to[1], to[2], to[3], _flip(tile, packing))
    let_go(data)


def _read_by_numpy(
    kind: str, packed: Packed, packing: Packing, part: StoredWeight, first: int, step: int, start: int
) -> None:  # fmt: skip
    """The same, for types that no compiled code reads."""
    tile, blocks = tile_of(kind), packed.facts.shape[1]
    data = part.data[start : start + step]
    codes, scales, minima = codes_of(StoredWeight(part.type, (len(data), part.shape[1]), data))
    codes, begin = np.ascontiguousarray(codes), first + start
    lay = callable_at(packing.addresses[f"lay_{kind}"])
    lay(codes.ctypes.data, begin, len(data), blocks, packed.tiles.ctypes.data, _flip(tile, packing))
    fixed, units = _fixed_scales(tile, scales) if minima is None else _fixed_with_minima(tile, scales, minima)
    outputs = np.arange(begin, begin + len(data))
    packed.facts[outputs // STRIP, :, :, outputs % STRIP] = fixed
    packed.units[outputs] = units
    let_go(data)


def _fixed_with_minima(tile: Tile, scales: Array, minima: Array) -> tuple[Array, Array]:
    """Scales and minima (outputs, groups) as integers of 16 bits (outputs, blocks, facts), and what one is worth.

    The unit is so small that the largest weight nearly fills 16 bits. What rounding a scale does to the middle of its
    group's range is put right in the minimum.
    """
    top = (1 << tile.form.bits) - 1
    scale, minimum = scales.astype(np.float64), minima.astype(np.float64)
    largest = np.maximum(np.abs(minimum), np.abs(top * scale + minimum)).max(axis=1)
    unit = _unit(largest, WITH_MINIMA)
    scale, minimum = scale / unit[:, None], minimum / unit[:, None]
    whole = np.rint(scale)
    fixed = np.empty((len(scales), scales.shape[1] // tile.num_groups, 2, tile.num_groups), dtype=np.int16)
    fixed[:, :, 0] = whole.reshape(len(scales), -1, tile.num_groups)
    fixed[:, :, 1] = np.rint(minimum + top / 2 * (scale - whole)).reshape(len(scales), -1, tile.num_groups)
    return fixed.reshape(*fixed.shape[:2], -1), unit.astype(np.float32)


def _fixed_scales(tile: Tile, scales: Array) -> tuple[Array, Array]:
    """Scales (outputs, groups) as integers of 16 bits (outputs, blocks, facts), and what one is worth (outputs)."""
    scale = scales.astype(np.float64)
    unit = _unit(np.abs(scale).max(axis=1), WITHOUT)
    fixed = np.rint(scale / unit[:, None]).astype(np.int16)
    return fixed.reshape(len(scales), -1, tile.num_groups), unit.astype(np.float32)


def _unit(largest: Array, steps: int) -> Array:
    """What one step is worth, as a float of 32 bits; 1 for outputs whose weights are all zero."""
    unit = (largest / steps).astype(np.float32).astype(np.float64)
    return np.where(unit == 0, 1.0, unit)
