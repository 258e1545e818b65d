"""Folders that compressed-tensors quantised: packed here from its definitions, number by number, and read exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stemma.kernels.weights import dequantize
from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.files.quantised.blocks import Folder
from stemma.runtime.model.files.quantised.compressed import read_compressed
from tests.runtime.model.quantised_folders import (
    E2M1,
    INPUTS,
    OUTPUTS,
    Array,
    as_stored,
    assert_reads,
    compressed,
    halves,
    read,
    words,
)


@pytest.mark.parametrize(("bits", "zeros"), [(4, False), (4, True), (8, False)])
@pytest.mark.parametrize("group", [32, 128])
def test_packed_numbers(bits: int, zeros: bool, group: int, tmp_path: Path) -> None:
    random, middle, groups = np.random.default_rng(bits), 1 << (bits - 1), INPUTS // group
    codes = random.integers(-middle, middle, (OUTPUTS, INPUTS))
    zero = random.integers(-middle, middle, (OUTPUTS, groups)) * zeros
    scales = halves(random, OUTPUTS, groups)
    parts = {
        "weight_packed": words(codes + middle, bits, 1), "weight_scale": torch.from_numpy(scales),
        "weight_shape": torch.tensor([OUTPUTS, INPUTS]),
    }  # fmt: skip
    if zeros:
        parts["weight_zero_point"] = words(zero + middle, bits, 0)
    order = np.arange(INPUTS) // group
    want = scales[:, order].astype(np.float32) * (codes - zero[:, order])
    config = compressed("pack-quantized", num_bits=bits, group_size=group, strategy="group", symmetric=not zeros)
    assert_reads(read(tmp_path, parts, config), want, "INT4" if bits == 4 else "INT8")


def test_bytes_with_powers_of_two(tmp_path: Path) -> None:
    codes = torch.randn(OUTPUTS, INPUTS).to(torch.float8_e4m3fn)
    exponents = np.random.default_rng(0).integers(110, 130, (OUTPUTS, INPUTS // 32), dtype=np.uint8)
    parts = {"weight": codes, "weight_scale": torch.from_numpy(exponents)}
    want = np.repeat(np.ldexp(np.float32(1), exponents.astype(np.int32) - 127), 32, axis=1) * codes.float().numpy()
    config = compressed("mxfp8-quantized", num_bits=8, type="float", group_size=32)
    assert_reads(read(tmp_path, parts, config), want, "FP8")


@pytest.mark.parametrize("shape", [(1,), (OUTPUTS, 1), (OUTPUTS, 4)])
@pytest.mark.parametrize("type_", ["INT8", "FP8"])
def test_bytes_of_compressed_tensors(type_: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scales = random.uniform(0.01, 0.1, shape).astype(np.float32)
    if type_ == "INT8":
        codes = torch.from_numpy(random.integers(-128, 128, (OUTPUTS, INPUTS), dtype=np.int8))
        config = compressed("int-quantized", num_bits=8)
    else:
        codes = torch.randn(OUTPUTS, INPUTS).to(torch.float8_e4m3fn)
        config = compressed("float-quantized", num_bits=8, type="float")
    by_input = np.repeat(np.broadcast_to(scales.reshape(-1, shape[-1]), (OUTPUTS, shape[-1])), INPUTS // shape[-1], 1)
    parts = {"weight": codes, "weight_scale": torch.from_numpy(scales), "input_scale": torch.ones(1)}
    assert_reads(read(tmp_path, parts, config), by_input * codes.float().numpy(), type_)


def packed_floats(codes: Array) -> torch.Tensor:
    return torch.from_numpy((codes[:, ::2] | (codes[:, 1::2] << 4)).astype(np.uint8))


@pytest.mark.parametrize("inputs", [INPUTS, 48])
def test_floats_of_four_bits(inputs: int, tmp_path: Path) -> None:
    """NVFP4: a float of 8 bits for 16 inputs, divided by one number; sizes that are no multiple of 32 become floats."""
    random = np.random.default_rng(0)
    codes, whole = random.integers(0, 16, (OUTPUTS, inputs)), np.float32(333.0)
    scales = torch.from_numpy(random.uniform(1, 400, (OUTPUTS, inputs // 16))).to(torch.float8_e4m3fn)
    parts = {
        "weight_packed": packed_floats(codes), "weight_scale": scales, "weight_global_scale": torch.tensor([whole]),
        "input_global_scale": torch.ones(1),
    }  # fmt: skip
    folder = Folder({f"a.{name}": as_stored(part) for name, part in parts.items()})
    read_compressed(compressed("nvfp4-pack-quantized", type="float", group_size=16), folder)
    want = np.repeat(scales.float().numpy() / whole, 16, axis=1) * E2M1[codes]
    assert set(folder.tensors) == {"a.weight"}
    assert folder.tensors["a.weight"].type == ("FP4" if inputs == INPUTS else "F32")
    assert np.array_equal(dequantize(folder.tensors["a.weight"]), want)


def test_floats_of_four_bits_with_powers_of_two(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 16, (OUTPUTS, INPUTS))
    exponents = random.integers(110, 130, (OUTPUTS, INPUTS // 32), dtype=np.uint8)
    parts = {"weight_packed": packed_floats(codes), "weight_scale": torch.from_numpy(exponents)}
    config = compressed("mxfp4-pack-quantized", type="float", group_size=32)
    want = np.repeat(np.ldexp(np.float32(1), exponents.astype(np.int32) - 127), 32, axis=1) * E2M1[codes]
    assert_reads(read(tmp_path, parts, config), want, "MXFP4")
    with pytest.raises(UnsupportedModel, match="scales of U8 for 16 floats of four bits"):
        read(tmp_path, {**parts, "weight_scale": torch.from_numpy(np.repeat(exponents, 2, axis=1))}, config)


@pytest.mark.parametrize("square", [(32, 128), (16, 64)])
def test_squares_of_compressed_floats(square: tuple[int, int], tmp_path: Path) -> None:
    """Also where one square is as wide as the matrix, so that scales are one column as those of outputs are."""
    codes = torch.randn(OUTPUTS, INPUTS).to(torch.float8_e4m3fn)
    scales = torch.rand(OUTPUTS // square[0], INPUTS // square[1]) + 0.5
    parts = {"weight": codes, "weight_scale": scales}
    want = codes.float() * scales.repeat_interleave(square[0], 0).repeat_interleave(square[1], 1)
    config = compressed("float-quantized", num_bits=8, type="float", strategy="block", block_structure=list(square))
    assert_reads(read(tmp_path, parts, config), want.numpy(), "FP8")
