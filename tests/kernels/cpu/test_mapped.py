"""Q8_0 is multiplied where it lies: the integers that it is are those of its scales, for any number of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stemma.kernels.cpu.machine.target import host_target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.products.mapped import STEPS
from stemma.kernels.cpu.products.tiles import TILES
from stemma.kernels.weights import StoredWeight, dequantize

Floats = npt.NDArray[np.float32]

pytestmark = pytest.mark.skipif(not host_target().reads_files, reason="this target packs Q8_0")


@pytest.fixture(scope="module")
def ops(cache_dir: Path) -> CpuOps:
    return CpuOps(host_target(), 2, cache_dir=cache_dir)


def any_rows(outputs: int, inputs: int, seed: int) -> StoredWeight:
    """Any codes under scales of any size and sign; the first row's are zero."""
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (outputs, inputs // 32, 34), dtype=np.uint8)
    scales = random.standard_normal(data.shape[:2]) * 10.0 ** random.integers(-7, 4, data.shape[:2])
    scales[0] = 0
    data[:, :, :2] = scales.astype(np.float16)[..., None].view(np.uint8)
    return StoredWeight("Q8_0", (outputs, inputs), data.reshape(outputs, -1))


def integers_of(weight: StoredWeight) -> tuple[npt.NDArray[np.float64], Floats]:
    """The integers that weights are, and what one of them is worth in each output."""
    blocks = weight.data.reshape(weight.shape[0], -1, 34)
    scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[..., 0].astype(np.float32)
    units = (np.abs(scales).max(axis=1).astype(np.float64) / STEPS).astype(np.float32)
    units[units == 0] = 1
    fixed = np.rint(scales * (np.float32(1) / units)[:, None]).astype(np.float64)
    assert np.abs(fixed).max() <= STEPS
    return (fixed[..., None] * blocks[:, :, 2:].view(np.int8)).reshape(weight.shape), units


def product(ops: CpuOps, weights: list[StoredWeight], x: Floats) -> Floats:
    outputs = sum(weight.shape[0] for weight in weights)
    return np.array(ops.linear_add(x, ops.linear(weights), np.zeros((len(x), outputs), np.float32)))


@pytest.mark.parametrize(("outputs", "inputs"), [(16, 32), (48, 96), (64, 2080)])
def test_every_number_of_rows_gives_the_exact_integer_scaled(ops: CpuOps, outputs: int, inputs: int) -> None:
    """A row of whole numbers of which the largest is that of 16 bits is what it is when it is quantised."""
    weight, random = any_rows(outputs, inputs, inputs), np.random.default_rng(1)
    x = random.integers(-32_000, 32_000, (300, inputs)).astype(np.float32)
    x[:, 0] = 127 * 256
    integers, units = integers_of(weight)
    expected = (x.astype(np.float64) @ integers.T).astype(np.float32) * units
    for rows in (1, 2, 3, 4, 7, 8, 16, 17, 40, 127, 300):
        assert np.array_equal(product(ops, [weight], x[:rows]), expected[:rows]), rows


def test_matrices_of_several_places_are_one(ops: CpuOps) -> None:
    parts, x = [any_rows(outputs, 128, outputs) for outputs in (32, 16, 48)], np.ones((3, 128), np.float32)
    alone = np.concatenate([product(ops, [part], x) for part in parts], axis=1)
    assert np.array_equal(product(ops, parts, x), alone)
    linear = ops.linear(parts[:1] * 2)
    gated = np.array(ops.norm_gated(x, None, linear, "silu"))
    value = product(ops, parts[:1], x)
    assert np.allclose(gated, value / (1 + np.exp(np.minimum(-value, 80))) * value, rtol=1e-4)


def test_nothing_is_copied_but_of_outputs_that_fill_no_strip(ops: CpuOps) -> None:
    whole, ragged = any_rows(64, 2048, 3), any_rows(63, 2048, 3)
    copied = TILES["q8"].weight_bytes * 4 * 64
    held = [each for each in ops.linear([whole]).memory if not np.shares_memory(each, whole.data)]
    assert sum(each.nbytes for each in held) < 10_000
    assert sum(each.nbytes for each in ops.linear([ragged]).memory) > copied
    x = np.random.default_rng(0).standard_normal((2, 2048)).astype(np.float32)
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(dequantize(whole), axis=1) + 1e-30
    assert (np.abs(product(ops, [whole], x) - x @ dequantize(whole).T) / lengths).max() < 3e-4
