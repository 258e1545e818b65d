"""Weights in every storage type, most of which no library here can write: random blocks whose scales are sound."""

from __future__ import annotations

import gguf
import numpy as np

from stemma.kernels.weights import FORMATS, StoredWeight


def stored(type_: str, shape: tuple[int, int], seed: int = 0, size: float = 0.01) -> StoredWeight:
    """Normal numbers in a type of floats or of small blocks, else any codes, with scales of about this size."""
    random = np.random.default_rng(seed)
    values = random.normal(size=shape).astype(np.float32)
    if type_ == "BF16":
        return StoredWeight(type_, shape, (values.view(np.uint32) >> 16).astype(np.uint16))
    if type_ in ("F32", "F16"):
        return StoredWeight(type_, shape, values.astype(np.float32 if type_ == "F32" else np.float16))
    if type_ in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        return StoredWeight(type_, shape, gguf.quants.quantize(values, gguf.GGMLQuantizationType[type_]))
    form = FORMATS[type_]
    blocks = random.integers(0, 256, (shape[0], shape[1] // form.num_inputs, form.num_bytes), dtype=np.uint8)
    for place in form.halves:
        scales = random.uniform(0.5, 1, blocks.shape[:2]) * size
        blocks[:, :, place : place + 2] = scales.astype(np.float16)[..., None].view(np.uint8)
    for place in form.singles:
        scales = random.uniform(0.5, 1, blocks.shape[:2]) * size
        blocks[:, :, place : place + 4] = scales.astype(np.float32)[..., None].view(np.uint8)
    if type_ == "MXFP4":
        blocks[:, :, 0] = random.integers(116, 126, blocks.shape[:2])
    elif type_ == "NVFP4":
        blocks[:, :, :4] = random.integers(0, 100, (*blocks.shape[:2], 4))
    elif type_ == "IQ1_M":
        blocks[:, :, 55] = 0x20 | blocks[:, :, 55] & 15  # the upper bits of its float16
    elif type_ == "FP8":
        numbers = blocks[:, :, 4:]
        numbers[(numbers & 0x7F) == 0x7F] = 0x7E  # the largest
    return StoredWeight(type_, shape, blocks.reshape(shape[0], -1))


def widths(type_: str, *sizes: int) -> list[int]:
    """Sizes of a matrix that are whole blocks of this type."""
    inputs = FORMATS[type_].num_inputs if type_ in FORMATS else 1
    return [size for size in sizes if size % inputs == 0]
