"""Every block format is its form: codes, scales and minima give the values that `gguf.quants` gives, and no others."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

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


@pytest.mark.parametrize("type_", FORMATS)
def test_codes_are_exact(type_: str) -> None:
    for seed in range(3):
        weight = stored(type_, (5, 512), seed, size=(0.01, 1.0, -0.3)[seed])
        assert np.array_equal(values_of(weight), dequantize(weight).numpy())


@pytest.mark.parametrize("type_", FORMATS)
def test_a_block_of_zero_scale_is_zero(type_: str) -> None:
    form = FORMATS[type_]
    weight = stored(type_, (2, 256), 1)
    weight.data.reshape(2, -1, form.num_bytes)[0, 0] = 0
    assert np.array_equal(values_of(weight), dequantize(weight).numpy())


def test_blocks_are_as_large_as_gguf_says() -> None:
    for type_, form in FORMATS.items():
        sizes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_]]
        assert sizes == (form.num_inputs, form.num_bytes)
    numbers = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}
    left = {kind.name for kind in gguf.GGMLQuantizationType} - set(FORMATS) - numbers
    assert left == {"Q8_1", "Q8_K"}, "a block format of files that is not read"


def test_bits_of_one_sign_each() -> None:
    """Q1_0, which gguf does not read: 1 is plus."""
    block = np.concatenate((np.array([0.5], np.float16).view(np.uint8), np.array([0b101] + [0] * 15, np.uint8)))
    values = dequantize(StoredWeight("Q1_0", (1, 128), block[None]))[0].tolist()
    assert values == [0.5, -0.5, 0.5] + [-0.5] * 125


def test_a_type_without_a_definition_is_refused() -> None:
    with pytest.raises(UnsupportedWeight, match="Q8_K"):
        dequantize(StoredWeight("Q8_K", (1, 256), np.zeros((1, 292), np.uint8)))
