"""Codes in tiles, read back by the words of `tiles.py`'s head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stemma.kernels.codes import FORMS
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.target import host_target
from stemma.kernels.cpu.products.lay import add_lay, callable_at
from stemma.kernels.cpu.products.tiles import tile_of

Bytes = npt.NDArray[np.uint8]


def read_back(tile: Bytes, bits: int, output: int, at: int) -> int:
    """The code of one output at input `at` of a tile: its planes, the lowest bits first."""
    number, byte = divmod(at, 4)

    def stored(vector: int) -> int:
        return int(tile[64 * vector + 4 * output + byte])

    if bits == 8:
        return stored(number)
    code = vector = done = 0
    if bits & 4:
        code |= (stored(number % 4) >> (4 if number >= 4 else 0)) & 15
        vector, done = 4, 4
    if bits & 2:
        code |= ((stored(vector + number // 4) >> 2 * (number % 4)) & 3) << done
        vector, done = vector + 2, done + 2
    if bits & 1:
        code |= ((stored(vector) >> number) & 1) << done
    return code


@pytest.mark.parametrize("form", sorted(FORMS))
def test_codes_are_where_the_products_read_them(form: str, tmp_path: Path) -> None:
    """Two runs of rows, of which the second begins inside a strip."""
    bits, blocks, outputs = FORMS[form].bits, 3, 21
    library = compile.load("lay", lambda module: add_lay(module, form), host_target(), (form,), tmp_path)
    lay = callable_at(library.address(f"lay_{form}"))
    codes = np.random.default_rng(3).integers(0, 1 << bits, (outputs, 32 * blocks), dtype=np.uint8)
    size = tile_of(form).weight_bytes
    tiles = np.zeros(2 * blocks * size, dtype=np.uint8)
    for first, count in ((0, 5), (5, 16)):
        lay(codes[first:].ctypes.data, first, count, blocks, tiles.ctypes.data, 0)
    strips = tiles.reshape(2, blocks, size)
    for output in range(outputs):
        for at in range(32 * blocks):
            tile = strips[output // 16, at // 32]
            assert read_back(tile, bits, output % 16, at % 32) == codes[output, at]


def test_flipped_codes_of_eight_bits(tmp_path: Path) -> None:
    library = compile.load("lay", lambda module: add_lay(module, "q8"), host_target(), ("q8",), tmp_path)
    codes = np.arange(32, dtype=np.uint8)[None]
    plain, flipped = np.zeros(64 * 8, dtype=np.uint8), np.zeros(64 * 8, dtype=np.uint8)
    for tiles, flip in ((plain, 0), (flipped, 0x80808080)):
        callable_at(library.address("lay_q8"))(codes.ctypes.data, 0, 1, 1, tiles.ctypes.data, flip)
    assert np.array_equal(plain[plain != flipped] ^ 128, flipped[plain != flipped])
    assert np.count_nonzero(plain != flipped) == 32
