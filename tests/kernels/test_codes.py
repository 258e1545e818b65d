"""Every block format is its form: codes, scales and minima give the values that `gguf.quants` gives, and no others."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from stemma.kernels.codes import FORM_OF, codes_of, table_of
from stemma.kernels.weights import FORMATS, StoredWeight, UnsupportedWeight, dequantize
from tests.kernels.stored import stored


def values_of(weight: StoredWeight) -> np.ndarray:
    form, (codes, scales, minima), table = FORM_OF[weight.type], codes_of(weight), table_of(weight.type)
    assert codes.shape == weight.shape
    assert int(codes.max()) < 1 << form.bits
    by_group = codes.reshape(weight.shape[0], -1, form.group)
    numbers = by_group.astype(np.float32) - form.offset if table is None else table[by_group].astype(np.float32)
    values = scales[..., None] * numbers
    return (values if minima is None else values + minima[..., None]).reshape(weight.shape)


@pytest.mark.parametrize("type_", FORM_OF)
def test_codes_are_exact(type_: str) -> None:
    for seed in range(3):
        weight = stored(type_, (5, 512), seed, size=(0.01, 1.0, -0.3)[seed])
        assert np.array_equal(values_of(weight), dequantize(weight))


@pytest.mark.parametrize("type_", FORM_OF)
def test_a_block_of_zero_scale_is_zero(type_: str) -> None:
    form = FORMATS[type_]
    weight = stored(type_, (2, 256), 1)
    weight.data.reshape(2, -1, form.num_bytes)[0, 0] = 0
    assert np.array_equal(values_of(weight), dequantize(weight))


def test_blocks_are_as_large_as_gguf_says() -> None:
    assert set(FORMATS) - set(gguf.GGMLQuantizationType.__members__) == {"INT4", "INT8", "FP8", "FP4"}
    for type_, form in FORMATS.items():
        if type_ in gguf.GGMLQuantizationType.__members__:
            assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_]] == (form.num_inputs, form.num_bytes)
    numbers = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}
    left = {kind.name for kind in gguf.GGMLQuantizationType} - set(FORMATS) - numbers
    assert left == {"Q8_1", "Q8_K"}, "a block format of files that is not read"


def test_bits_of_one_sign_each() -> None:
    """Q1_0, which gguf does not read: 1 is plus."""
    block = np.concatenate((np.array([0.5], np.float16).view(np.uint8), np.array([0b101] + [0] * 15, np.uint8)))
    values = dequantize(StoredWeight("Q1_0", (1, 128), block[None]))[0].tolist()
    assert values == [0.5, -0.5, 0.5] + [-0.5] * 125


def test_our_own_formats() -> None:
    """A float32 in front, then codes in the order of Q4_1, signed bytes, or floats of 8 bits as torch has them."""
    scale = np.array([0.1], np.float32)
    nibbles = np.arange(16, dtype=np.uint8) | (np.arange(15, -1, -1, dtype=np.uint8) << 4)
    block = np.concatenate((scale.view(np.uint8), np.array([-2.5], np.float32).view(np.uint8), nibbles))
    want = np.float32(0.1) * np.array([*range(16), *range(15, -1, -1)], np.float32) - np.float32(2.5)
    assert dequantize(StoredWeight("INT4", (1, 32), block[None])).tolist() == [want.tolist()]
    numbers = np.arange(-16, 16, dtype=np.int8)
    block = np.concatenate((scale.view(np.uint8), numbers.view(np.uint8)))
    want = scale * numbers.astype(np.float32)
    assert dequantize(StoredWeight("INT8", (1, 32), block[None])).tolist() == [want.tolist()]
    every = np.delete(np.arange(256, dtype=np.uint8), (0x7F, 0xFF))
    every = np.concatenate((every, every[:2])).reshape(8, 32)
    block = np.concatenate((np.broadcast_to(scale.view(np.uint8), (8, 4)), every), axis=1)
    want_floats = torch.from_numpy(every).view(torch.float8_e4m3fn).float() * 0.1
    assert np.array_equal(dequantize(StoredWeight("FP8", (8, 32), block)), want_floats.numpy())
    scales = np.array([0.1, 0.3], np.float32)
    block = np.concatenate((scales.view(np.uint8), np.tile(nibbles[:8], 2)))
    numbers = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    want = np.outer(scales, np.array([*numbers, *(-number for number in reversed(numbers))], np.float32)).reshape(-1)
    assert dequantize(StoredWeight("FP4", (1, 32), block[None])).tolist() == [want.tolist()]


def test_a_type_without_a_definition_is_refused() -> None:
    with pytest.raises(UnsupportedWeight, match="Q8_K"):
        dequantize(StoredWeight("Q8_K", (1, 256), np.zeros((1, 292), np.uint8)))
