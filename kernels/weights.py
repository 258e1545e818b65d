"""Weights as a file stores them, and what they mean in fp32. Reading files is the business of runtime/model.

Block formats are those of GGUF (https://github.com/ggml-org/ggml, ggml-common.h); `gguf.quants` is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import numpy as np
import numpy.typing as npt
import torch


class UnsupportedWeight(ValueError):
    """The storage type of a weight is one that no back end can read."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """One tensor as it lies in its file, usually a memory map.

    type: GGUF's name of the storage type: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K.
    shape: the logical shape, `(out_features, in_features)` for a matrix, `(n,)` for a vector.
    data: float32 / float16 of that shape; uint16 bit patterns of that shape for BF16; else uint8 `(out_features,
        bytes of a row)`. Rows are independent: blocks run along `in_features`.
    """

    type: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.generic]

    @property
    def num_bytes(self) -> int:
        """Bytes as stored."""
        return self.data.nbytes


def dequantize(weight: StoredWeight) -> torch.Tensor:
    """The weight's values, float32, of its logical shape.

    Raises UnsupportedWeight for a storage type that is not in the list above.
    """
    if weight.type in ("F32", "F16"):
        return torch.from_numpy(np.ascontiguousarray(weight.data)).to(torch.float32)
    if weight.type == "BF16":
        widened = np.ascontiguousarray(weight.data).astype(np.uint32) << 16
        return torch.from_numpy(widened.view(np.float32).reshape(weight.shape))
    try:
        kind = gguf.GGMLQuantizationType[weight.type]
        values = gguf.quants.dequantize(np.ascontiguousarray(weight.data), kind)
    except (KeyError, NotImplementedError) as error:
        raise UnsupportedWeight(
            f"weights of type {weight.type} cannot be read; convert the file to Q8_0 or BF16"
        ) from error
    return torch.from_numpy(values.astype(np.float32, copy=False).reshape(weight.shape))


SCALES = {"Q8_0": (34, (0,)), "Q4_0": (18, (0,)), "Q4_1": (20, (0, 2)), "Q4_K": (144, (0, 2)), "Q6_K": (210, (208,))}
"""Block formats: bytes of a block, and where in it a float16 stands; all its other numbers are integers."""
EXPONENTS = {"F32": (np.uint32, 0x7F80_0000), "F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80)}
CHUNK_BYTES = 1 << 21


def is_finite(weight: StoredWeight) -> bool:
    """Whether no number of it is infinite or NaN: a look at the exponents, or at those of the blocks' scales, one pass
    over what is stored and a few megabytes beside it."""
    rows = weight.data.reshape(1, -1) if weight.data.ndim < 2 else weight.data
    step = max(1, CHUNK_BYTES // max(1, rows[0].nbytes if len(rows) else 1))
    kind, mask = EXPONENTS.get(weight.type, EXPONENTS["F16"])
    for start in range(0, len(rows), step):
        for numbers in _floats(weight.type, rows[start : start + step]):
            exponents = np.ascontiguousarray(numbers).view(kind) & mask
            if exponents.size and exponents.max() == mask:
                return False
    return True


def _floats(kind: str, rows: npt.NDArray[np.generic]) -> list[npt.NDArray[np.generic]]:
    if kind in EXPONENTS:
        return [rows]
    size, places = SCALES[kind]
    blocks = rows.reshape(len(rows), -1, size)
    return [blocks[:, :, place : place + 2] for place in places]
