"""The kernel that packs rows of blocks as a file stores them: codes into tiles of 16 outputs, facts beside them, from
the memory map to where the products read them, with nothing between. numpy's form of it is in `pack.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import DOUBLE, FLOAT, FLOATS16, I16, I32, Code, Value, vector
from stemma.kernels.cpu.products.blocks import BLOCKS
from stemma.kernels.cpu.products.lay import words_of
from stemma.kernels.cpu.products.strips import DOUBLES16, STRIP
from stemma.kernels.cpu.products.tiles import Tile, tile_of
from stemma.kernels.weights import FORMATS

READ = ("source", "first", "count", "blocks", "tiles", "facts", "units", "scratch", "flip")
LANES = 16
WITH_MINIMA, WITHOUT = 32_750, 32_767
"""The largest weight, or scale, in units: nearly all of 16 bits; rounding may put something right in a minimum."""
ReadRows = Callable[[int, int, int, int, int, int, int, int, int], None]


def scratch_floats(groups: int) -> int:
    """Floats that a call needs: scales, minima, and both as integers of 16 bits."""
    return 3 * _padded(groups)


def _padded(groups: int) -> int:
    return -(-groups // LANES) * LANES


def add_read(module: ir.Module, type_: str, kind: str) -> None:
    """read_<type>, with the arguments READ: `count` outputs from number `first` on, of so many blocks of 32 each.

    scratch: zeros. flip: see `lay.py`.
    """
    tile, stored = tile_of(kind), FORMATS[type_]
    code = Code(module, f"read_{type_}", len(READ))
    source, first, count, blocks, tiles, facts, units, scratch, flip = code.arguments
    inside = stored.num_inputs // 32
    padded = (blocks * tile.num_groups + (LANES - 1)) // LANES * LANES
    minima_at, fixed_at = scratch + padded * 4, scratch + padded * 8
    with code.loop(0, count) as row:
        output = first + row
        strip, lane = output // STRIP, output % STRIP
        at = source + row * (blocks // inside) * stored.num_bytes
        to = tiles + strip * blocks * tile.weight_bytes + lane * 4
        with code.loop(0, blocks // inside) as number:
            block = BLOCKS[type_](code, at + number * stored.num_bytes)
            place = number * (4 * tile.num_groups * inside)
            code.store(block.scales, scratch + place, 4)
            if block.minima is not None:
                code.store(block.minima, minima_at + place, 4)
            for nth, codes in enumerate(block.codes):
                vectors = codes.bits(vector(I32, 8))
                if tile.form.bits == 8:
                    vectors = vectors ^ code.splat(flip.to(I32), 8)
                for j, word in enumerate(words_of(code, tile, vectors)):
                    code.store(word, to + (number * inside + nth) * tile.weight_bytes + j * 4 * STRIP, 4)
        unit = _fix(code, tile, (scratch, minima_at, fixed_at), padded)
        code.store(unit.to(FLOAT), units + output * 4, 4)
        _put_facts(
            code, tile, (fixed_at, fixed_at + padded * 2), facts + strip * blocks * tile.fact_bytes + lane * 2, blocks
        )
    code.finish()


def _fix(code: Code, tile: Tile, places: tuple[Value, Value, Value], padded: Value) -> Value:
    """Scales and minima of a row as integers, and what one of these is worth; `pack.py` says how."""
    scales_at, minima_at, fixed_at = places
    top = float((1 << tile.form.bits) - 1)
    has_minima = tile.form.has_minima
    most = code.variable(code.constant(DOUBLES16, 0.0))
    with code.loop(0, padded, LANES) as group:
        scale = code.load(FLOATS16, scales_at + group * 4, 4).to(DOUBLES16)
        found = code.absolute(scale)
        if has_minima:
            minimum = code.load(FLOATS16, minima_at + group * 4, 4).to(DOUBLES16)
            found = code.maximum(code.absolute(minimum), code.absolute(scale * top + minimum))
        most.value = code.maximum(most.value, found)
    largest = code.reduce(most.value, code.maximum)
    unit = (largest / float(WITH_MINIMA if has_minima else WITHOUT)).to(FLOAT).to(DOUBLE)
    unit = code.select(unit.equals(0.0), 1.0, unit)
    units = code.splat(unit, LANES)
    with code.loop(0, padded, LANES) as group:
        scale = code.load(FLOATS16, scales_at + group * 4, 4).to(DOUBLES16) / units
        whole = code.round(scale)
        _put_integers(code, whole, fixed_at + group * 2)
        if has_minima:
            minimum = code.load(FLOATS16, minima_at + group * 4, 4).to(DOUBLES16) / units
            _put_integers(code, code.round(minimum + (scale - whole) * (top / 2)), fixed_at + (padded + group) * 2)
    return unit


def _put_integers(code: Code, whole: Value, place: Value) -> None:
    code.store(whole.to(vector(I32, LANES)).to(vector(I16, LANES)), place, 2)


def _put_facts(code: Code, tile: Tile, fixed: tuple[Value, Value], facts: Value, blocks: Value) -> None:
    """A row's integers where its lane of each block's facts is."""
    kinds = fixed if tile.form.has_minima else fixed[:1]
    with code.loop(0, blocks) as block:
        for number, start in enumerate(kinds):
            for group in range(tile.num_groups):
                fact = code.load(I16, start + block * (2 * tile.num_groups) + 2 * group, 2)
                code.store(fact, facts + block * tile.fact_bytes + 2 * STRIP * (number * tile.num_groups + group), 2)


def rows_reader(address: int) -> ReadRows:
    """The kernel as a function of integers; the interpreter's lock is released meanwhile."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(READ))(address)
