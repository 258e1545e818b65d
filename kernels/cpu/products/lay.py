"""The kernel that lays codes where the products read them: a byte for each code, row after row, into tiles of 16
outputs (`tiles.py`). Runs when a model is loaded, on any rows of a matrix at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import reduce

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import I32, Code, Value, vector
from stemma.kernels.cpu.products.strips import STRIP
from stemma.kernels.cpu.products.tiles import Tile, tile_of
from stemma.kernels.cpu.rows.activations import BLOCK

VECTORS = 8
"""Of four inputs each in a block of 32."""
Lay = Callable[[int, int, int, int, int, int], None]


def add_lay(module: ir.Module, kind: str) -> None:
    """lay_<form>(codes, first, count, blocks, tiles, flip): codes of `count` outputs from number `first` on, of so many
    blocks of 32 each. flip: what is xored to four bytes of codes of 8 bits."""
    tile = tile_of(kind)
    code = Code(module, f"lay_{kind}", 6)
    codes, first, count, blocks, tiles, flip = code.arguments
    with code.loop(0, count) as row:
        output = first + row
        source = codes + row * blocks * BLOCK
        strip = tiles + output // STRIP * blocks * tile.weight_bytes + output % STRIP * 4
        with code.loop(0, blocks) as block:
            vectors = code.load(vector(I32, VECTORS), source + block * BLOCK)
            if tile.form.bits == 8:
                vectors = vectors ^ code.splat(flip.to(I32), VECTORS)
            for number, word in enumerate(words_of(code, tile, vectors)):
                code.store(word, strip + block * tile.weight_bytes + number * 4 * STRIP, 4)
    code.finish()


def words_of(code: Code, tile: Tile, vectors: Value) -> list[Value]:
    """What one output gives to each vector of the tile: four bytes. vectors: 8 of four inputs' codes each."""
    words, bit = [], 0
    for num_bits in tile.planes():
        plane = vectors.unsigned_shift_right(bit) & (0x01010101 * ((1 << num_bits) - 1))
        parts = [code.shuffle(plane, plane, lanes) << at * num_bits for at, lanes in enumerate(tile.places(num_bits))]
        together = reduce(lambda one, other: one | other, parts)
        words += [code.lane(together, lane) for lane in range(num_bits)]
        bit += num_bits
    return words


def callable_at(address: int) -> Lay:
    """The kernel as a function of integers; the interpreter's lock is released meanwhile."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(address)
