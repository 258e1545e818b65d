"""What compiled code makes of blocks is, bit for bit, what numpy makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stemma.kernels.codes import FORM_OF
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.target import host_target
from stemma.kernels.cpu.products.blocks import BLOCKS
from stemma.kernels.cpu.products.coded import Packing, pack_codes
from stemma.kernels.cpu.products.lay import add_lay
from stemma.kernels.cpu.products.read import add_read
from stemma.kernels.weights import FORMATS, StoredWeight


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def any_blocks(type_: str, rows: int, blocks: int, seed: int) -> StoredWeight:
    """Any bytes, under scales of any size and sign; the first row's are zero."""
    random, form = np.random.default_rng(seed), FORMATS[type_]
    data = random.integers(0, 256, (rows, blocks, form.num_bytes), dtype=np.uint8)
    for places, dtype in ((form.halves, np.float16), (form.singles, np.float32)):
        for place in places:
            scales = (random.standard_normal((rows, blocks)) * 10.0 ** random.integers(-7, 4, (rows, blocks))).astype(
                dtype
            )
            scales[0] = 0
            size = np.dtype(dtype).itemsize
            data[:, :, place : place + size] = scales[..., None].view(np.uint8)
    if type_ == "MXFP4":
        data[:, :, 0] = random.integers(0, 120, (rows, blocks))
    return StoredWeight(type_, (rows, blocks * form.num_inputs), data.reshape(rows, -1))


@pytest.mark.parametrize(
    ("type_", "byte_offset"), [*((type_, 128) for type_ in sorted(BLOCKS)), ("Q8_0", 0), ("INT8", 0)]
)
def test_compiled_readers_make_what_numpy_makes(
    type_: str, byte_offset: int, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """Two matrices, of which the second begins inside a strip and ends inside one, of an odd number of blocks."""
    form = FORM_OF[type_].name
    read = compile.load("read", lambda module: add_read(module, type_, form), host_target(), (type_,), tmp_path)
    lay = compile.load("lay", lambda module: add_lay(module, form), host_target(), (form,), tmp_path)
    parts = [any_blocks(type_, rows, 3, seed) for seed, rows in enumerate((21, 82))]
    names = {f"read_{type_}": read.address(f"read_{type_}")}, {f"lay_{form}": lay.address(f"lay_{form}")}
    target = replace(host_target(), name="avx2" if byte_offset else "neon")
    assert target.byte_offset == byte_offset
    compiled, by_numpy = (pack_codes(form, parts, Packing(name, target, 2, pool)) for name in names)
    assert compiled.tiles.any()
    assert compiled.facts.any()
    for found, expected in zip(compiled, by_numpy, strict=True):
        assert np.array_equal(found, expected)
