"""The GGUF container: metadata and memory-mapped tensors, as the file has them. What they mean is `gguf_file.py`'s.

Layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian:

    "GGUF" version num_tensors num_values | values: key type value | tensors: name shape type offset | padding | data
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError, UnsupportedModel

Bytes = npt.NDArray[np.uint8]

STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class GGUF(NamedTuple):
    """An open file. tensors: memory maps under GGUF's names, logical shapes with the output dimension first."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredWeight]


class TensorInfo(NamedTuple):
    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


class Cursor:
    """Reads values one after the other."""

    def __init__(self, data: Bytes) -> None:
        self._view = memoryview(data.data)
        self.position = 0

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._view, self.position)
        self.position += struct.calcsize(form)
        return value

    def string(self) -> str:
        length = self.scalar("<Q")
        end = self.position + length
        if end > len(self._view):
            raise ValueError("a string runs over the end")
        text = str(self._view[self.position : end], "utf-8")
        self.position = end
        return text

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array(self.scalar("<I"), self.scalar("<Q"))
        return self.scalar(SCALARS[kind])

    def array(self, kind: int, length: int) -> list[Any]:
        if kind not in SCALARS:
            return [self.value(kind) for _ in range(length)]
        form = f"<{length}{SCALARS[kind][1]}"
        values = struct.unpack_from(form, self._view, self.position)
        self.position += struct.calcsize(form)
        return list(values)


def open_gguf(path: Path) -> GGUF:
    """Map a file. Raises ModelFileError if it is damaged, UnsupportedModel for a form of GGUF that is not read."""
    if path.stat().st_size < 24:
        raise ModelFileError(f"{path} is too short to be a GGUF file; fetch it again")
    data: Bytes = np.memmap(path, dtype=np.uint8, mode="c").view(np.ndarray)
    if bytes(data[:4]) != b"GGUF":
        raise ModelFileError(f"{path} is not a GGUF file")
    try:
        return _read(data)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise ModelFileError(f"{path} is damaged or cut short ({error}); fetch it again") from error


def _read(data: Bytes) -> GGUF:
    cursor = Cursor(data)
    cursor.position = 4
    version, num_tensors, num_values = cursor.scalar("<I"), cursor.scalar("<Q"), cursor.scalar("<Q")
    if version not in (2, 3):
        raise UnsupportedModel(f"GGUF version {version} is not read (2 and 3 are); convert the model again")
    metadata = {}
    for _ in range(num_values):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("<I"))
    if metadata.get("split.count", 1) > 1:
        raise UnsupportedModel("this GGUF is one of several parts; join them with `llama-gguf-split --merge`")
    infos = [_tensor_info(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", 32)
    start = -(-cursor.position // alignment) * alignment
    return GGUF(metadata, {info.name: _tensor(data, start, info) for info in infos})


def _tensor_info(cursor: Cursor) -> TensorInfo:
    name = cursor.string()
    dimensions = [cursor.scalar("<Q") for _ in range(cursor.scalar("<I"))]
    return TensorInfo(name, tuple(reversed(dimensions)), cursor.scalar("<I"), cursor.scalar("<Q"))


def _tensor(data: Bytes, start: int, info: TensorInfo) -> StoredWeight:
    if info.type not in list(gguf.GGMLQuantizationType):
        raise UnsupportedModel(
            f"tensor {info.name!r} is stored as type {info.type}, which is not known: it was taken out of GGUF, or is "
            "newer than this version; convert the model again, e.g. to Q8_0 or Q4_K_M"
        )
    kind = gguf.GGMLQuantizationType(info.type)
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    num_bytes = math.prod(info.shape) // block_size * block_bytes
    raw = data[start + info.offset : start + info.offset + num_bytes]
    if len(raw) != num_bytes:
        raise ValueError(f"tensor {info.name} runs over the end")
    if kind.name in NUMPY_TYPES:
        return StoredWeight(kind.name, info.shape, raw.view(NUMPY_TYPES[kind.name]).reshape(info.shape))
    return StoredWeight(kind.name, info.shape, raw.reshape(*info.shape[:-1], -1))
