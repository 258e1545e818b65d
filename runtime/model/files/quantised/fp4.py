"""Floats of four bits (E2M1) of compressed-tensors, two inputs a byte, the even one low.

    nvfp4-pack-quantized    weight_scale (outputs, inputs / 16) of floats of 8 bits, divided by one weight_global_scale
    mxfp4-pack-quantized    weight_scale (outputs, inputs / 32) of exponents of two

The first becomes FP4, whose scales are float32, because a quotient is no float of 8 bits any more; the second MXFP4.
"""

from __future__ import annotations

import numpy as np

from stemma.kernels.weights import SMALLEST_FLOATS
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.files.quantised.blocks import (
    BLOCK,
    Array,
    Folder,
    floats,
    microscaled,
    nibbles,
    plain,
    smallest,
)


def read_module(folder: Folder, name: str) -> None:
    """A matrix with its scales. Raises UnsupportedModel or ModelFileError."""
    codes = nibbles(np.ascontiguousarray(folder.take(f"{name}.weight_packed").data))
    scales, whole = folder.take(f"{name}.weight_scale"), folder.tensors.pop(f"{name}.weight_global_scale", None)
    if f"{name}.weight_zero_point" in folder.tensors:
        raise UnsupportedModel(f"{name}.weight_zero_point belongs to floats of four bits, which is not read")
    folder.drop(f"{name}.input_global_scale", f"{name}.input_scale")
    if codes.ndim != 2 or scales.shape[:1] != codes.shape[:1] or len(scales.shape) != 2:
        raise ModelFileError(f"codes and scales of {name!r} do not fit: {codes.shape} and {scales.shape}")
    group = codes.shape[1] / scales.shape[1]
    if scales.type in ("U8", "F8_E8M0") and group == BLOCK and whole is None:
        folder.put(f"{name}.weight", microscaled(codes.reshape(*scales.shape, BLOCK), scales.data))
    elif scales.type == "F8_E4M3" and group == BLOCK // 2 and whole is not None:
        _put(folder, name, codes, floats(scales) / floats(whole).reshape(-1)[0])
    else:
        raise UnsupportedModel(f"{name!r} has scales of {scales.type} for {group:g} floats of four bits; read are "
                               "float8 for 16 with one for all, and powers of two for 32")  # fmt: skip


def _put(folder: Folder, name: str, codes: Array, scales: Array) -> None:
    if codes.shape[1] % BLOCK == 0:
        folder.put(f"{name}.weight", smallest(codes, scales))
        return
    table = np.array([*SMALLEST_FLOATS, *(-number for number in SMALLEST_FLOATS)], dtype=np.float32)
    values = table[codes] * np.repeat(scales, BLOCK // 2, axis=1)
    folder.put(f"{name}.weight", plain(values, "F32"), "inputs are no multiple of 32")
