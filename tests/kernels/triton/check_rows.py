"""Norms, the gated SiLU, dense and packed products, embeddings: row by row against the reference."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from triton_support import DEVICE, EXACT, FLOATS, TOLERANCE, assert_close, assert_guards, guarded

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton import nibbles
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import BYTES, FOUR_BITS, DenseLinear, PackedLinear, unpack
from stemma.kernels.triton.targets import UnsupportedDevice, linear_splits
from stemma.kernels.weights import StoredWeight, dequantize
from tests.kernels.stored import stored as random_blocks

REFERENCE = ReferenceOps(torch.device("cpu"), torch.float64)


def stored(kind: str, *shape: int, seed: int = 0) -> StoredWeight:
    if kind in ("IQ4_NL", "MXFP4") or kind.endswith(("_K", "_XS")) or kind.startswith("INT"):
        return random_blocks(kind, shape, seed, 0.003)
    values = np.random.default_rng(seed).normal(0.0, 0.2, shape).astype(np.float32)
    if kind == "F32":
        return StoredWeight(kind, shape, values)
    if kind == "F16":
        return StoredWeight(kind, shape, values.astype(np.float16))
    if kind == "BF16":
        return StoredWeight(kind, shape, (values.view(np.uint32) >> 16).astype(np.uint16))
    return StoredWeight(kind, shape, gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "Q5_0", "IQ4_NL", "Q5_1", "MXFP4", "BF16", "F32"])
@pytest.mark.parametrize(("rows", "width"), [(1, 96), (5, 64), (17, 288), (70, 160)])
def test_linear_add_matches_the_reference(dtype: torch.dtype, kind: str, rows: int, width: int) -> None:
    ops = TritonOps(DEVICE, dtype)
    parts = [stored(kind, 40, width, seed=1), stored(kind, 33, width, seed=2)]
    biases = [stored("F32", 40, seed=3), stored("F32", 33, seed=4)]
    x, residual = torch.randn(rows, width).to(dtype), torch.randn(rows, 73).to(dtype)
    expected = REFERENCE.linear_add(x.double(), REFERENCE.linear(parts, biases), residual.double())
    linear = ops.linear(parts, biases)
    assert isinstance(linear, PackedLinear if kind in FOUR_BITS | BYTES.keys() else DenseLinear)
    assert (linear.in_features, linear.out_features) == (width, 73)
    assert_close(ops.linear_add(x.to(DEVICE), linear, residual.to(DEVICE)), expected, 4 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["Q4_K", "INT4", "Q5_K", "Q6_K", "INT8", "IQ4_XS"])
@pytest.mark.parametrize("rows", [2, 40])
def test_super_blocks_and_folders_stay_packed(dtype: torch.dtype, kind: str, rows: int) -> None:
    """Their scales are rounded to float16."""
    ops, weight = TritonOps(DEVICE, dtype), stored(kind, 50, 512, seed=1)
    x, linear = torch.randn(rows, 512).to(dtype), ops.linear([weight])
    assert isinstance(linear, PackedLinear)
    assert_close(
        ops._multiply(x.to(DEVICE), linear), REFERENCE.linear([weight])(x.double()), 4 * TOLERANCE[dtype] + 5e-4
    )
    assert_close(unpack(linear, torch.float32).weight, torch.from_numpy(dequantize(weight)), 1e-3)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_inputs_are_split_by_the_shape_alone(kind: str) -> None:
    """A row's sums are the same whatever rows are beside it, again and again, where several programs share a tile."""
    ops, weight = TritonOps(DEVICE, EXACT), stored(kind, 70, 2080)
    x, linear = torch.randn(16, 2080).to(DEVICE, EXACT), ops.linear([weight])
    assert isinstance(linear, PackedLinear)
    assert linear_splits(2080, 70) == 2
    whole = ops._multiply(x, linear)
    assert_close(whole, REFERENCE.linear([weight])(x.cpu().double()), 4 * TOLERANCE[EXACT])
    assert not linear.counters.any()
    for first, last in ((0, 1), (3, 11), (8, 16)):
        assert torch.equal(ops._multiply(x[first:last].contiguous(), linear), whole[first:last])


def test_large_gpus_are_filled_by_one_row() -> None:
    for shape in ((4096, 4096), (4096, 6144), (14_336, 4096), (4096, 28_672), (2880, 5120)):
        assert -(-shape[1] // 64) * linear_splits(*shape) >= 132, shape


def run_ptx(text: str, words: np.ndarray) -> np.ndarray:
    """The few instructions of nibbles.py, on words of 32 bits."""
    registers = {"$1": words.astype(np.uint32)}
    lines = [line.strip() for line in text.strip("{} ").split(";") if line.strip()]
    assert lines[0] == ".reg .b32 t"
    for line in lines[1:]:
        name, (target, *sources) = line.split(" ", 1)[0], line.split(" ", 1)[1].split(", ")
        values = [registers[each] if each in registers else np.uint32(int(each, 0)) for each in sources]
        if name == "lop3.b32":
            assert values[3] == 0xEA, "(a & b) | c"
            registers[target] = (values[0] & values[1]) | values[2]
        else:
            registers[target] = {"shl.b32": np.left_shift, "shr.u32": np.right_shift}[name](values[0], values[1])
    return registers["$0"]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("nth", range(4))
def test_what_nvidia_runs_makes_sixteen_and_the_code(half: bool, nth: int) -> None:
    """In PTX, which no interpreter runs: two words at a time."""
    low = np.arange(65_536, dtype=np.uint32)
    high = np.random.default_rng(0).permutation(low)
    text = getattr(nibbles, f"{'HALF_' if half else ''}SHIFT_{nth}").value
    got = run_ptx(text, low | (high << 16)).view(np.int16).reshape(-1, 2)
    floats = torch.from_numpy(got.copy()).view(torch.float16 if half else torch.bfloat16).float().numpy()
    assert np.array_equal(floats, 16 + (np.stack((low, high), axis=-1) >> (4 * nth) & 15))


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F16"])
def test_norm_linear_and_norm_gated_match_the_reference(kind: str) -> None:
    ops = TritonOps(DEVICE, EXACT)
    norm, weight = stored("F32", 96, seed=5), stored(kind, 80, 96)
    x = torch.randn(6, 96).to(EXACT)
    for name, more in (("norm_linear", ()), ("norm_gated", ("silu",))):
        expected = getattr(REFERENCE, name)(x.double(), REFERENCE.norm(norm, 1e-5), REFERENCE.linear([weight]), *more)
        actual = getattr(ops, name)(x.to(DEVICE), ops.norm(norm, 1e-5), ops.linear([weight]), *more)
        assert_close(actual, expected, 4 * TOLERANCE[EXACT])


def test_normed_rows_are_float32() -> None:
    ops, rows, norm = TritonOps(DEVICE, EXACT), np.array([4, 0], dtype=np.int32), stored("F32", 64, seed=5)
    x = torch.randn(6, 64).to(EXACT)
    expected = REFERENCE.norm_rows(x.double(), rows, REFERENCE.norm(norm, 1e-5))
    actual = ops.norm_rows(x.to(DEVICE), rows, ops.norm(norm, 1e-5))
    assert actual.dtype == torch.float32
    assert_close(actual, expected, 4 * TOLERANCE[EXACT])


def test_logits_of_chosen_rows_are_float32() -> None:
    ops, rows = TritonOps(DEVICE, EXACT), np.array([4, 0], dtype=np.int32)
    norm, head = stored("F32", 64, seed=5), stored("Q8_0", 50, 64)
    x = torch.randn(6, 64).to(EXACT)
    expected = REFERENCE.logits(x.double(), rows, REFERENCE.norm(norm, 1e-5), REFERENCE.linear([head]))
    for where in (rows, torch.from_numpy(rows).to(DEVICE)):
        actual = ops.logits(x.to(DEVICE), where, ops.norm(norm, 1e-5), ops.linear([head]))
        assert actual.dtype == torch.float32
        assert_close(actual, expected, 4 * TOLERANCE[EXACT])


def test_embeddings_are_rows_of_the_table() -> None:
    ops, ids = TritonOps(DEVICE, EXACT), np.array([3, 3, 19], dtype=np.int32)
    table = stored("Q4_1", 20, 64)
    expected = REFERENCE.embed(REFERENCE.embedding(table), ids)
    for where in (ids, torch.from_numpy(ids).to(DEVICE)):
        assert_close(ops.embed(ops.embedding(table), where), expected, TOLERANCE[EXACT])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("features", [1, 33, 576, 1030])
def test_norm_and_gated_write_their_rows_only(dtype: torch.dtype, features: int) -> None:
    ops = TritonOps(DEVICE, dtype)
    x = (torch.randn(3, 2 * features) * 3).to(DEVICE, dtype)
    out, whole = guarded((3, features), dtype)
    ops._kernels.gated(x, "silu", out)
    assert_guards(whole)
    gate, up = x.double().chunk(2, -1)
    assert_close(out, torch.nn.functional.silu(gate) * up, TOLERANCE[dtype])
    norm = ops.norm(stored("F32", features), 1e-6)
    out, whole = guarded((2, features), dtype)
    rows = torch.tensor([2, 0], dtype=torch.int32, device=DEVICE)
    half = x[:, :features].contiguous()
    ops._kernels.norm(half, norm, rows, out)
    assert_guards(whole)
    chosen = half[[2, 0]].double()
    expected = chosen * torch.rsqrt(chosen.pow(2).mean(-1, keepdim=True) + 1e-6) * norm.weight.double()
    assert_close(out, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_packed_products_write_their_rows_only(kind: str) -> None:
    ops = TritonOps(DEVICE, EXACT)
    linear = ops.linear([stored(kind, 70, 96)])
    assert isinstance(linear, PackedLinear)
    x = torch.randn(19, 96).to(DEVICE, EXACT)
    out, whole = guarded((19, 70), EXACT)
    ops._products.packed_linear(x, linear, None, out)
    assert_guards(whole)
    assert torch.equal(out, ops._multiply(x, linear))


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_a_residual_is_added_to_where_it_lies(kind: str) -> None:
    """Nothing is copied: no launch but the product's."""
    ops = TritonOps(DEVICE, EXACT)
    linear = ops.linear([stored(kind, 64, 96)])
    x, residual = torch.randn(3, 96).to(DEVICE, EXACT), torch.randn(3, 64).to(DEVICE, EXACT)
    expected = residual.double() + 0.5 * ops._multiply(x, linear).double()
    with torch.profiler.profile() as profile:
        added = ops.linear_add(x, linear, residual, 0.5)
    assert added.data_ptr() == residual.data_ptr()
    assert_close(added, expected, 4 * TOLERANCE[EXACT])
    if kind == "F16":
        assert {event.key for event in profile.key_averages()} & {"aten::copy_", "aten::clone"} == set()


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("Q4_0", 4.5), ("Q4_1", 5), ("Q4_K", 5), ("INT4", 5), ("Q8_0", 8.5), ("Q5_K", 9), ("Q6_K", 9), ("IQ4_XS", 8.5)],
)
def test_packed_weights_take_few_bits(kind: str, bits: float) -> None:
    linear = TritonOps(DEVICE, EXACT).linear([stored(kind, 64, 256)])
    assert isinstance(linear, PackedLinear)
    assert linear.codes.nbytes + linear.scales.nbytes + (0 if linear.minima is None else linear.minima.nbytes) == (
        64 * 256 * bits / 8
    )


@pytest.mark.parametrize("kinds", [("Q4_1", "Q8_0"), ("Q4_0", "MXFP4"), ("Q8_0", "F16"), ("F32", "BF16")])
def test_mixed_parts(kinds: tuple[str, str]) -> None:
    """Of blocks they become bytes, with floats dense."""
    ops = TritonOps(DEVICE, EXACT)
    parts = [stored(kind, 8, 64) for kind in kinds]
    linear = ops.linear(parts)
    assert isinstance(linear, DenseLinear if {"F16", "F32"} & set(kinds) else PackedLinear)
    x = torch.randn(2, 64).to(EXACT)
    expected = REFERENCE.linear(parts)(x.double())
    assert_close(ops._multiply(x.to(DEVICE), linear), expected, 4 * TOLERANCE[EXACT])


def test_types_without_kernels_are_refused() -> None:
    with pytest.raises(UnsupportedDevice, match="bfloat16 or float16"):
        TritonOps(DEVICE, torch.float64)
