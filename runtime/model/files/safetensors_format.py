"""The safetensors container, memory-mapped (https://huggingface.co/docs/safetensors): tensors as the file has them.

length of the header (8 bytes) | header: JSON, name -> dtype, shape, [begin, end) in the data | data
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError

NUMPY_TYPES = MappingProxyType(
    {
        "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "F64": np.float64, "I64": np.int64, "I32": np.int32,
        "I16": np.int16, "I8": np.int8, "U8": np.uint8, "F8_E4M3": np.uint8, "F8_E8M0": np.uint8,
    }
)  # fmt: skip
"""What numpy has no type for is its bits."""


def open_safetensors(path: Path) -> dict[str, StoredWeight]:
    """Map a file. A dtype that is not known stays raw bytes, which no model takes.

    Raises ModelFileError if the file is damaged or cut short.
    """
    try:
        data: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="c").view(np.ndarray)
        check_is_itself(path, data[:200].tobytes())
        start = 8 + int(data[:8].view("<u8")[0])
        header = json.loads(data[8:start].tobytes())
        return {name: _tensor(data[start:], entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged or cut short ({error}); fetch it again") from error


def check_is_itself(path: Path, beginning: bytes) -> None:
    """Raises ModelFileError for what Git leaves in place of a large file."""
    if beginning.startswith(b"version https://git-lfs"):
        raise ModelFileError(f"{path} is not the file itself but Git LFS's pointer to it; `git lfs pull` fetches it")


def _tensor(data: npt.NDArray[np.uint8], entry: Mapping[str, Any]) -> StoredWeight:
    begin, end = entry["data_offsets"]
    kind, shape, raw = entry["dtype"], tuple(entry["shape"]), data[begin:end]
    if kind not in NUMPY_TYPES:
        return StoredWeight(kind, shape, raw)
    values = np.require(raw.view(NUMPY_TYPES[kind]), requirements="A")
    if len(values) != math.prod(shape):
        raise ValueError(f"a tensor of shape {shape} has {len(values)} values")
    return StoredWeight(kind, shape, values.reshape(shape))
