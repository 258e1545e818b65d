"""The GGUF container: metadata and memory-mapped tensors, as the file has them. What they mean is `gguf_file.py`'s.

Layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), of one byte order:

    "GGUF" version num_tensors num_values | values: key type value | tensors: name shape type offset | padding | data

A model may be several files, whose names say so: the first holds the metadata, all hold tensors.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt

from stemma.kernels.weights import FORMATS, StoredWeight
from stemma.runtime.errors import ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model.files.gguf_kinds import check_kinds
from stemma.runtime.model.files.safetensors_format import check_is_itself

Bytes = npt.NDArray[np.uint8]

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}

MOST_DIMENSIONS = 4
PART = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


class GGUF(NamedTuple):
    """An open model. tensors: memory maps under GGUF's names, logical shapes with the output dimension first."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredWeight]


class TensorInfo(NamedTuple):
    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


class Cursor:
    """Reads values one after the other. order: < for the little end first, > for the big end."""

    def __init__(self, data: Bytes, order: str) -> None:
        self._view = memoryview(data.data)
        self.order = order
        self.position = 0

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(self.order + form, self._view, self.position)
        self.position += struct.calcsize(self.order + form)
        return value

    def string(self) -> str:
        return self.strings(1)[0]

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array(self.scalar("I"), self.scalar("Q"))
        return self.scalar(SCALARS[kind])

    def strings(self, length: int) -> list[str]:
        """Vocabularies are a hundred thousand of them. Raises ValueError if one runs over the end."""
        view, start, texts = self._view, self.position, []
        read = struct.Struct(self.order + "Q").unpack_from
        for _ in range(length):
            end = start + 8 + read(view, start)[0]
            if end > len(view):
                raise ValueError("a string runs over the end")
            texts.append(str(view[start + 8 : end], "utf-8"))
            start = end
        self.position = start
        return texts

    def array(self, kind: int, length: int) -> list[Any]:
        if kind == STRING:
            return self.strings(length)
        form = f"{self.order}{length}{SCALARS[kind]}"
        values = struct.unpack_from(form, self._view, self.position)
        self.position += struct.calcsize(form)
        return list(values)


def open_gguf(path: Path) -> GGUF:
    """Map a file, or all parts of a model that is split, given any of them.

    Raises ModelFileError if it is damaged, ModelNotFound for parts that are missing, UnsupportedModel for a form of
    GGUF that is not read.
    """
    opened = _open_one(path)
    count = opened.metadata.get("split.count", 1)
    if count < 2:
        return opened
    named = PART.fullmatch(path.name)
    if named is None or int(named["count"]) != count:
        raise ModelFileError(
            f"{path} is one of {count} parts, which are found by their names: give it back the name it was made with, "
            f"like model-00001-of-{count:05}.gguf"
        )
    paths = [path.with_name(f"{named['prefix']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    if missing := [part.name for part in paths if not part.is_file()]:
        raise ModelNotFound(f"{path.parent} lacks parts of the model: {', '.join(missing)}; fetch them too")
    parts = [_open_one(part) for part in paths]
    for number, (part, found) in enumerate(zip(paths, parts, strict=True)):
        if (found.metadata.get("split.no"), found.metadata.get("split.count")) != (number, count):
            raise ModelFileError(f"{part} is not part {number + 1} of {count}, as its name says; fetch it again")
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    expected = parts[0].metadata.get("split.tensors.count", len(tensors))
    if len(tensors) != expected:
        raise ModelFileError(f"the parts of {path} hold {len(tensors)} tensors, not {expected}; fetch them again")
    return GGUF(parts[0].metadata, tensors)


def _open_one(path: Path) -> GGUF:
    if path.stat().st_size < 24:
        raise ModelFileError(f"{path} is too short to be a GGUF file; fetch it again")
    data: Bytes = np.memmap(path, dtype=np.uint8, mode="c").view(np.ndarray)
    if bytes(data[:4]) != b"GGUF":
        check_is_itself(path, bytes(data[:200]))
        raise ModelFileError(f"{path} is not a GGUF file")
    try:
        return _read(data)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise ModelFileError(f"{path} is damaged or cut short ({error}); fetch it again") from error


def _read(data: Bytes) -> GGUF:
    cursor = Cursor(data, "<" if data[4:6].any() else ">")  # of the version, a small number of 32 bits
    cursor.position = 4
    version, num_tensors, num_values = cursor.scalar("I"), cursor.scalar("Q"), cursor.scalar("Q")
    if version not in (2, 3):
        raise UnsupportedModel(f"GGUF version {version} is not read (2 and 3 are); convert the model again")
    metadata: dict[str, Any] = {}
    for _ in range(num_values):
        key = cursor.string()
        if key in metadata:
            raise ValueError(f"it says {key!r} twice")
        metadata[key] = cursor.value(cursor.scalar("I"))
    check_kinds(metadata)
    infos = [_tensor_info(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if alignment < 1 or alignment & (alignment - 1):
        raise ModelFileError(f"general.alignment of the GGUF file is {alignment}, no power of two; fetch it again")
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, StoredWeight] = {}
    behind = 0
    for info in infos:
        if info.name in tensors:
            raise ValueError(f"tensor {info.name!r} is there twice")
        if info.offset < behind or info.offset % alignment:
            raise ValueError(f"tensor {info.name!r} lies in the one before it, or between places of {alignment} bytes")
        tensors[info.name] = _tensor(data, start, info)
        behind = info.offset + tensors[info.name].num_bytes
    if cursor.order == ">":
        tensors = {name: _swapped(name, tensor) for name, tensor in tensors.items()}
    return GGUF(metadata, tensors)


def _swapped(name: str, tensor: StoredWeight) -> StoredWeight:
    """A tensor whose numbers have the big end first, in memory of its own. Blocks are swapped as llama.cpp's converter
    of byte orders does it: their float16, for the rest is bytes."""
    if tensor.type in NUMPY_TYPES:
        return replace(tensor, data=tensor.data.byteswap())
    if tensor.type not in FORMATS or (tensor.type.startswith("IQ") and tensor.type != "IQ4_NL"):
        raise UnsupportedModel(
            f"tensor {name!r} is stored as {tensor.type} with the big end first, which is not read; convert the file "
            "with gguf's gguf-convert-endian"
        )
    format_ = FORMATS[tensor.type]
    data = tensor.data.copy()
    blocks = data.reshape(len(data), -1, format_.num_bytes)
    for place in format_.halves:
        blocks[:, :, place : place + 2] = blocks[:, :, place : place + 2][:, :, ::-1].copy()
    return replace(tensor, data=data)


def _tensor_info(cursor: Cursor) -> TensorInfo:
    name = cursor.string()
    num_dimensions = cursor.scalar("I")
    if not 1 <= num_dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has {num_dimensions} dimensions")
    dimensions = [cursor.scalar("Q") for _ in range(num_dimensions)]
    return TensorInfo(name, tuple(reversed(dimensions)), cursor.scalar("I"), cursor.scalar("Q"))


def _tensor(data: Bytes, start: int, info: TensorInfo) -> StoredWeight:
    if info.type not in list(gguf.GGMLQuantizationType):
        raise UnsupportedModel(
            f"tensor {info.name!r} is stored as type {info.type}, which is not known: it was taken out of GGUF, or is "
            "newer than this version; convert the model again, e.g. to Q8_0 or Q4_K_M"
        )
    kind = gguf.GGMLQuantizationType(info.type)
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if info.shape[-1] % block_size:
        raise ValueError(f"rows of tensor {info.name} have {info.shape[-1]} numbers, no blocks of {block_size}")
    num_bytes = math.prod(info.shape) // block_size * block_bytes
    raw = data[start + info.offset : start + info.offset + num_bytes]
    if len(raw) != num_bytes:
        raise ValueError(f"tensor {info.name} runs over the end")
    if kind.name in NUMPY_TYPES:
        return StoredWeight(kind.name, info.shape, raw.view(NUMPY_TYPES[kind.name]).reshape(info.shape))
    return StoredWeight(kind.name, info.shape, raw.reshape(*info.shape[:-1], -1))
