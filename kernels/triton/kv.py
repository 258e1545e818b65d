"""The KV pool on a GPU: one tensor each for K and V, and their scales where elements are eight bits wide.

keys, values              (layers, blocks, kv_heads, block_size, head_dim)     a block of one head is contiguous
key_scales, value_scales  (layers, blocks, kv_heads, block_size)  float16      absent for 16- and 32-bit elements
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from stemma.kernels.ops import BlockCopy, Int32Array, KVShape

LIMITS = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0, torch.float8_e4m3fnuz: 240.0}
"""The largest magnitude of each scaled element type."""

FP8_SCALES = {torch.float8_e4m3fn: 256, torch.float8_e4m3fnuz: 128}
"""What a number is over the float16 that has its sign, exponent and mantissa in the same places."""


@dataclass(frozen=True, slots=True, eq=False)
class TritonKV:
    shape: KVShape
    keys: torch.Tensor
    values: torch.Tensor
    scales: tuple[torch.Tensor, torch.Tensor] | None
    _layers: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)
    _pairs: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        if self.shape.value_dim:  # values are the beginning of keys
            return (self.keys,) if self.scales is None else (self.keys, self.scales[0])
        return (self.keys, self.values) if self.scales is None else (self.keys, self.values, *self.scales)

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def format(self) -> str:
        return str(self.keys.dtype)

    def layer(self, index: int) -> dict[str, torch.Tensor]:
        """Arguments of kernels. Without scales they never read them, and any tensor does."""
        layer = self._layers.get(index)
        if layer is None:
            pools = (self.keys, self.values)
            names = ("keys", "values", "key_scales", "value_scales")
            tensors = (*pools, *(pools if self.scales is None else self.scales))
            layer = {name: tensor[index] for name, tensor in zip(names, tensors, strict=True)}
            self._layers[index] = layer
        return layer

    def read_layer(self, index: int) -> dict[str, torch.Tensor]:
        """`layer` as attention reads it: numbers of eight bits two at a time, as pairs.py has them."""
        if self.scales is None:
            return self.layer(index)
        pairs = self._pairs.get(index)
        if pairs is None:
            layer = self.layer(index)
            pairs = self._pairs[index] = layer | {name: layer[name].view(torch.int16) for name in ("keys", "values")}
        return pairs

    def read(self, blocks: Int32Array) -> bytes:
        """For each tensor its bytes of these blocks, layer by layer."""
        index = torch.from_numpy(blocks.astype(np.int64)).to(self.keys.device)
        parts = [as_integers(tensor).index_select(1, index).cpu().contiguous() for tensor in self.tensors]
        return b"".join(part.view(torch.uint8).numpy().tobytes() for part in parts)

    def write(self, blocks: Int32Array, data: bytes) -> None:
        """Put back what `read` returned. Raises ValueError if the size does not fit."""
        expected = self.num_bytes // self.shape.num_blocks * len(blocks)
        if len(data) != expected:
            raise ValueError(
                f"{len(data)} bytes do not fit {len(blocks)} blocks of {self.shape}; the snapshot is another model's"
            )
        if not data:
            return  # no layer has KV in this pool
        index = torch.from_numpy(blocks.astype(np.int64)).to(self.keys.device)
        start = 0
        for tensor in map(as_integers, self.tensors):
            size = (tensor.shape[0], len(blocks), *tensor.shape[2:])
            end = start + tensor.nbytes // self.shape.num_blocks * len(blocks)
            part = torch.frombuffer(bytearray(data[start:end]), dtype=tensor.dtype).view(size)
            tensor.index_copy_(1, index, part.to(tensor.device))
            start = end


def as_integers(tensor: torch.Tensor) -> torch.Tensor:
    """The same bytes as integers of the same width: copies need no other type."""
    return tensor.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.itemsize])


def allocate(shape: KVShape, element: torch.dtype, device: torch.device) -> TritonKV:
    """Raises MemoryError if the pool does not fit the device."""
    size = (shape.num_layers, shape.num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim)
    scaled = element in LIMITS
    try:
        keys = torch.zeros(size, dtype=element, device=device)
        values = keys if shape.value_dim else torch.zeros_like(keys)
        scales = None
        if scaled:
            of_keys = torch.zeros(size[:-1], dtype=torch.float16, device=device)
            scales = of_keys, of_keys if shape.value_dim else torch.zeros_like(of_keys)
    except (RuntimeError, torch.OutOfMemoryError) as error:
        raise MemoryError(f"a KV pool of {shape} does not fit {device}; use fewer blocks or 8-bit KV") from error
    return TritonKV(shape, keys, values, scales)


def waves(copies: Sequence[BlockCopy]) -> list[list[BlockCopy]]:
    """Copies in order, in groups within which none reads or writes what another one writes."""
    result: list[list[BlockCopy]] = []
    read: set[int] = set()
    written: set[int] = set()
    for copy in copies:
        if not result or copy.source in written or copy.destination in written | read:
            result.append([])
            read, written = set(), set()
        result[-1].append(copy)
        read.add(copy.source)
        written.add(copy.destination)
    return result
