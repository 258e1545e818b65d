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
