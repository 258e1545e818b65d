"""Packed matrices against the reference, and the exactness of a row in any company."""

from __future__ import annotations

import dataclasses
import mmap
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from stemma.kernels.cpu.machine import target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.products.pack import MismatchedWeights
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.weights import FORMATS, StoredWeight, dequantize
from tests.kernels.on_tensors import tensor_ops
from tests.kernels.stored import stored, widths

TYPES = ["Q4_0", "Q4_1", "Q8_0", "BF16", "F16", "F32"]
TOLERANCE = {
    "Q4_0": 3e-4, "Q4_1": 3e-4, "Q4_K": 3e-4, "INT4": 3e-4, "Q5_0": 5e-4, "Q5_1": 5e-4, "Q5_K": 5e-4, "FP8": 1e-6,
    "BF16": 1e-6, "F16": 1e-6, "F32": 1e-6,
}  # fmt: skip
SHAPES = [(1, 32), (16, 64), (50, 96), (40, 160), (100, 576), (384, 1536)]
ROW_RANGES = [(0, 1), (7, 9), (9, 12), (3, 8), (64, 72), (20, 90), (0, 149), (130, 150)]


def vector(size: int, seed: int = 1) -> StoredWeight:
    return StoredWeight("F32", (size,), np.random.default_rng(seed).normal(size=size).astype(np.float32))


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


def check(ops: CpuOps, reference: ReferenceOps, type_: str, shape: tuple[int, int]) -> None:
    weight, bias, norm = stored(type_, shape), vector(shape[0]), vector(shape[1], 2)
    x = torch.randn(150, shape[1], generator=torch.Generator().manual_seed(0))
    packed, plain = ops.linear([weight], [bias]), reference.linear([weight], [bias])
    norms = ops.norm(norm, 1e-5), reference.norm(norm, 1e-5)
    got = ops.norm_linear(x, norms[0], packed).clone()
    tolerance = TOLERANCE.get(type_, 2e-4)
    assert relative_error(got, reference.norm_linear(x.double(), norms[1], plain)) < tolerance
    for first, last in ROW_RANGES:
        assert torch.equal(ops.norm_linear(x[first:last].contiguous(), norms[0], packed), got[first:last])
    residual = torch.randn(150, shape[0], generator=torch.Generator().manual_seed(1))
    want = reference.linear_add(x.double(), plain, residual.double())
    added = ops.linear_add(x, packed, residual.clone())
    assert relative_error(added, want) < tolerance
    for first, last in ROW_RANGES:
        alone = ops.linear_add(x[first:last].contiguous(), packed, residual[first:last].clone())
        assert torch.equal(alone, added[first:last])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("type_", TYPES)
def test_products_are_right_and_exact(ops: CpuOps, reference: ReferenceOps, type_: str, shape: tuple[int, int]) -> None:
    check(ops, reference, type_, shape)


def test_lesser_instruction_sets(lesser: target.Target, ops: CpuOps, reference: ReferenceOps, cache_dir: Path) -> None:
    """As right as the best one, and the same bits."""
    other = tensor_ops(lesser, 2, cache_dir=cache_dir)
    for type_ in [*TYPES, "Q5_1", "Q6_K", "IQ4_XS"]:
        width = 256 if type_.endswith(("_K", "S")) else 96
        x = torch.randn(40, width, generator=torch.Generator().manual_seed(5))
        check(other, reference, type_, (50, width))
        weight = stored(type_, (50, width))
        results = [o.linear_add(x, o.linear([weight]), torch.zeros(40, 50)) for o in (ops, other)]
        assert torch.equal(*results)


@pytest.mark.parametrize("type_", ["Q4_1", "Q8_0", "Q6_K", "IQ4_XS"])
def test_inputs_multiplied_in_pairs_give_the_same_bits(ops: CpuOps, cache_dir: Path, type_: str) -> None:
    """Which only machines do that add beside products: here others do it too, and those do without. What the first
    product keeps of a matrix serves the next ones."""
    if ops.target.is_arm:
        pytest.skip("NEON multiplies bytes")
    changed = dataclasses.replace(ops.target, adds_beside=not ops.target.adds_beside)
    other, weight = tensor_ops(changed, 2, cache_dir=cache_dir), stored(type_, (50, 1280))
    x = torch.randn(150, 1280, generator=torch.Generator().manual_seed(5))
    packed = [(each, each.linear([weight])) for each in (ops, other)]
    for rows in (4, 13, 150, 4):
        results = [each.linear_add(x[:rows].contiguous(), linear, torch.zeros(rows, 50)) for each, linear in packed]
        assert torch.equal(*results)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_any_number_of_threads_gives_the_same_bits(ops: CpuOps, cache_dir: Path, num_threads: int) -> None:
    others = tensor_ops(ops.target, num_threads, cache_dir=cache_dir)
    weight, norm = stored("Q4_1", (200, 576)), vector(576)
    x = torch.randn(37, 576)
    one, two = (o.norm_linear(x, o.norm(norm, 1e-5), o.linear([weight])) for o in (ops, others))
    assert torch.equal(one, two)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("type_", ["Q4_0", "BF16"])
def test_few_rows_meet_every_strip_however_many_there_are(
    ops: CpuOps, cache_dir: Path, num_threads: int, type_: str
) -> None:
    other = tensor_ops(ops.target, num_threads, cache_dir=cache_dir)
    x = torch.randn(8, 64)
    for strips in (*range(1, 40), 64, 101):
        linear = other.linear([stored(type_, (16 * strips, 64))])
        many = other.norm_linear(x, None, linear).clone()
        for rows in (1, 3):
            assert torch.equal(other.norm_linear(x[:rows], None, linear), many[:rows])
        if strips % 2 == 0:
            gated = other.norm_gated(x, None, linear, "silu").clone()
            assert torch.equal(other.norm_gated(x[:1], None, linear, "silu"), gated[:1])


@pytest.mark.parametrize("type_", ["Q4_0", "Q4_1", "Q8_0"])
def test_rows_with_one_huge_value_and_outputs_of_any_size(ops: CpuOps, reference: ReferenceOps, type_: str) -> None:
    """The error is small beside a row's result, whatever scales meet in a row and in a matrix."""
    values = dequantize(stored(type_, (64, 320))) * np.logspace(-4, 2, 64, dtype=np.float32)[:, None]
    weight = StoredWeight(type_, (64, 320), gguf.quants.quantize(values, gguf.GGMLQuantizationType[type_]))
    x = torch.randn(40, 320, generator=torch.Generator().manual_seed(3)) * torch.logspace(-6, 6, 40)[:, None]
    x[::3, 17] *= 1000
    got = ops.linear_add(x, ops.linear([weight]), torch.zeros(40, 64))
    want = reference.linear_add(x.double(), reference.linear([weight]), torch.zeros(40, 64).double())
    lengths = x.double().norm(dim=1)[:, None] * torch.from_numpy(dequantize(weight)).double().norm(dim=1)
    assert float(((got - want).abs() / lengths).max()) < 3e-4
    for row in (0, 1, 39):
        alone = ops.linear_add(x[row : row + 1].contiguous(), ops.linear([weight]), torch.zeros(1, 64))
        assert torch.equal(alone[0], got[row])


MIXED = [
    ("Q4_1", "Q4_1", "Q8_0"),
    ("Q8_0", "F32"),
    ("BF16", "F16", "Q4_0"),
    ("Q6_K", "Q4_1"),
    ("Q4_K", "Q5_0", "Q6_K"),
    ("BF16", "BF16", "BF16"),
    ("F32", "F32", "F32"),
]


@pytest.mark.parametrize("types", MIXED)
def test_parts_of_several_types_stand_one_after_the_other(
    ops: CpuOps, reference: ReferenceOps, types: tuple[str, ...]
) -> None:
    outputs = [40, 17, 33]
    parts = [stored(type_, (count, 256), seed) for seed, (type_, count) in enumerate(zip(types, outputs, strict=False))]
    biases = [vector(part.shape[0], 7 + i) for i, part in enumerate(parts)]
    x = torch.randn(5, 256)
    norm = vector(256)
    got = ops.norm_linear(x, ops.norm(norm, 1e-6), ops.linear(parts, biases))
    want = reference.norm_linear(x.double(), reference.norm(norm, 1e-6), reference.linear(parts, biases))
    assert got.shape == want.shape
    assert relative_error(got, want) < max(TOLERANCE.get(type_, 2e-4) for type_ in types)


ODD = [(1, 256), (17, 512), (70, 768), (16, 32), (33, 96), (40, 1536)]


@pytest.mark.parametrize("type_", [type_ for type_ in FORMATS if type_ not in TYPES])
def test_every_block_format(ops: CpuOps, reference: ReferenceOps, type_: str) -> None:
    """Against its values in float64, few rows and many, and the same bits in any company."""
    for rows, width in ODD:
        if width not in widths(type_, width):
            continue
        weight = stored(type_, (rows, width), seed=rows)
        x = torch.randn(21, width, generator=torch.Generator().manual_seed(rows))
        packed = ops.linear([weight])
        got = ops.linear_add(x, packed, torch.zeros(21, rows))
        want = reference.linear([weight])(x.double())
        assert relative_error(got, want) < TOLERANCE.get(type_, 2e-4)
        for first, last in ((0, 1), (4, 6), (7, 14), (20, 21)):
            alone = ops.linear_add(x[first:last].contiguous(), packed, torch.zeros(last - first, rows))
            assert torch.equal(alone, got[first:last])


EXTREMES = {
    "Q4_1": -7.5,
    "Q5_1": -15.5,
    "Q2_K": 1.5,
    "TQ2_0": 0,
    "Q3_K": 0,
    "Q6_K": 0,
    "Q8_0": 0,
    "IQ4_NL": 0,
    "IQ2_S": 0,
}
"""A format of every form, and how much of a scale is a minimum if scales are to be as large as they can."""


def extreme(type_: str, bits: int, shape: tuple[int, int]) -> StoredWeight:
    """The bits of all codes alike, every other row's scales negative."""
    form = FORMATS[type_]
    blocks = np.full((shape[0], shape[1] // form.num_inputs, form.num_bytes), bits, dtype=np.uint8)
    for place, factor in zip(form.halves, (1, EXTREMES[type_]), strict=False):
        scales = np.where(np.arange(shape[0]) % 2, -0.01, 0.01) * factor
        blocks[:, :, place : place + 2] = scales.astype(np.float16).view(np.uint8).reshape(-1, 1, 2)
    return StoredWeight(type_, shape, blocks.reshape(shape[0], -1))


@pytest.mark.parametrize("type_", EXTREMES)
def test_the_largest_sums_fit(ops: CpuOps, lesser: target.Target, cache_dir: Path, type_: str) -> None:
    """Activations and codes at the ends of their ranges: many rows give the bits that one gives."""
    x = torch.ones(20, 2560)
    x[1] = -1
    x[2, ::2] = -1
    x[3, :1280] = -1
    for each in (ops, tensor_ops(lesser, 2, cache_dir=cache_dir)):
        for bits in (0, 255, 127, 128):
            packed = each.linear([extreme(type_, bits, (32, 2560))])
            some = each.linear_add(x, packed, torch.zeros(20, 32)).clone()
            assert torch.equal(each.linear_add(x.repeat(8, 1), packed, torch.zeros(160, 32)), some.repeat(8, 1))
            for row in range(4):
                alone = each.linear_add(x[row : row + 1].contiguous(), packed, torch.zeros(1, 32))
                assert torch.equal(alone[0], some[row])


def test_neighbours_with_another_table_are_apart(ops: CpuOps, reference: ReferenceOps) -> None:
    parts = [stored(type_, (24, 256), seed) for seed, type_ in enumerate(("IQ4_XS", "IQ4_NL", "MXFP4", "IQ3_S"))]
    x = torch.randn(6, 256)
    packed = ops.linear(parts)
    assert packed.words[0] == 3
    got = ops.linear_add(x, packed, torch.zeros(6, 96))
    assert relative_error(got, reference.linear(parts)(x.double())) < 2e-4


def test_packed_weights_take_the_bytes_they_are_stored_in(ops: CpuOps) -> None:
    for type_ in ("Q4_1", "Q8_0", "BF16", "F32"):
        weight = stored(type_, (160, 320))
        assert ops.linear([weight]).num_bytes <= weight.num_bytes + 160 * 8 + 128


def test_hopeless_activations_stay_in_their_row(ops: CpuOps) -> None:
    weight = stored("Q4_1", (32, 64))
    x = torch.randn(3, 64)
    x[1] = 1e-42
    x[2] = 0
    alone = ops.linear_add(x[:1].contiguous(), ops.linear([weight]), torch.zeros(1, 32))
    together = ops.linear_add(x, ops.linear([weight]), torch.zeros(3, 32))
    assert torch.equal(alone[0], together[0])
    assert torch.equal(together[2], torch.zeros(32))
    assert torch.isfinite(together).all()


@pytest.mark.parametrize("features", [24, 64, 1536])
@pytest.mark.parametrize("rows", [1, 5, 70])
def test_gated(ops: CpuOps, reference: ReferenceOps, features: int, rows: int) -> None:
    parts, norm = [stored("F32", (features, 64), seed) for seed in (0, 1)], vector(64)
    x = torch.randn(rows, 64)
    got = ops.norm_gated(x, ops.norm(norm, 1e-5), ops.linear(parts), "silu")
    want = reference.norm_gated(x.double(), reference.norm(norm, 1e-5), reference.linear(parts), "silu")
    assert relative_error(got, want) < 1e-6


@pytest.mark.parametrize("type_", ["Q4_1", "Q8_0"])
@pytest.mark.parametrize("rows", [1, 3, 4, 20, 150])
def test_gated_codes(ops: CpuOps, reference: ReferenceOps, rows: int, type_: str) -> None:
    """Gates of all rows wait for what they gate, however many strips are multiplied at once."""
    parts, norm = [stored(type_, (96, 160), seed) for seed in (0, 1)], vector(160)
    x = torch.randn(rows, 160)
    got = ops.norm_gated(x, ops.norm(norm, 1e-5), ops.linear(parts), "silu").clone()
    want = reference.norm_gated(x.double(), reference.norm(norm, 1e-5), reference.linear(parts), "silu")
    assert relative_error(got, want) < 2 * TOLERANCE.get(type_, 2e-4)
    alone = ops.norm_gated(x[-1:].contiguous(), ops.norm(norm, 1e-5), ops.linear(parts), "silu")
    assert torch.equal(alone[0], got[-1])


def test_normed_rows(ops: CpuOps, reference: ReferenceOps) -> None:
    norm, x, rows = vector(96), torch.randn(20, 96), np.array([19, 0, 7], dtype=np.int32)
    got = ops.norm_rows(x, rows, ops.norm(norm, 1e-5))
    want = reference.norm_rows(x.double(), rows, reference.norm(norm, 1e-5))
    assert torch.allclose(got, want, rtol=1e-6, atol=1e-7)
    assert torch.equal(ops.norm_rows(x, rows[:1], ops.norm(norm, 1e-5)), got[:1])


def test_logits_of_chosen_rows(ops: CpuOps, reference: ReferenceOps) -> None:
    head, norm = stored("Q8_0", (300, 96)), vector(96)
    x = torch.randn(20, 96)
    rows = np.array([19, 0, 7], dtype=np.int32)
    got = ops.logits(x, rows, ops.norm(norm, 1e-5), ops.linear([head]))
    want = reference.logits(x.double(), rows, reference.norm(norm, 1e-5), reference.linear([head]))
    assert relative_error(got, want.double()) < 1e-4


@pytest.mark.parametrize("type_", [*FORMATS, "BF16", "F16", "F32"])
def test_embedding_rows(ops: CpuOps, type_: str) -> None:
    for width in widths(type_, 64, 256, 768):
        table = stored(type_, (60, width))
        ids = np.array([3, 59, 0, 3], dtype=np.int32)
        assert np.array_equal(ops.embed(ops.embedding(table), ids), dequantize(table)[ids])


def test_the_lowest_scales_of_embeddings_of_exponents(ops: CpuOps) -> None:
    """Powers of two that are denormal floats."""
    table = stored("MXFP4", (60, 64))
    table.data[:, 0::17] = np.arange(120).reshape(60, 2)
    ids = np.arange(60, dtype=np.int32)
    assert np.array_equal(ops.embed(ops.embedding(table), ids), dequantize(table))


def test_parts_must_share_their_input(ops: CpuOps) -> None:
    with pytest.raises(MismatchedWeights):
        ops.linear([stored("F32", (4, 32)), stored("F32", (4, 64))])
    with pytest.raises(MismatchedWeights):
        ops.linear([stored("F32", (4, 32))], [vector(5)])


def test_packing_lets_the_files_pages_go_and_keeps_their_contents(ops: CpuOps, tmp_path: Path) -> None:
    weight = stored("Q4_0", (640, 1024))
    path = tmp_path / "weights"
    weight.data.tofile(path)
    mapped = StoredWeight("Q4_0", weight.shape, np.memmap(path, np.uint8, "c").view(np.ndarray).reshape(640, -1))
    packed = ops.linear([mapped])
    assert np.array_equal(mapped.data, weight.data)
    assert np.array_equal(packed.memory[1], ops.linear([weight]).memory[1])


def test_weights_in_memory_of_their_own_are_not_touched(ops: CpuOps) -> None:
    weight = stored("Q4_0", (640, 1024))
    memory = np.frombuffer(mmap.mmap(-1, weight.data.nbytes), dtype=np.uint8).reshape(weight.data.shape)
    memory[...] = weight.data
    ops.linear([StoredWeight("Q4_0", weight.shape, memory)])
    assert np.array_equal(memory, weight.data)
